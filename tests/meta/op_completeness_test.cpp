// Every public op has a sample, and every sample has what makes it a test.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "tests/support/declarations.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// Functions of ops/*.h without a sample, and why.
const std::map<std::string, std::string>& exempt() {
  static const std::map<std::string, std::string> reasons{
      {"operator+", "calls add"},
      {"operator-", "calls sub or neg"},
      {"operator*", "calls mul"},
      {"operator/", "calls div"},
  };
  return reasons;
}

std::filesystem::path source_folder() {
  const char* folder = std::getenv("DELTATAPE_SOURCE_DIR");
  return folder != nullptr ? folder : DELTATAPE_SOURCE_DIR;
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.good(), path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::set<std::string> sampled() {
  std::set<std::string> names;
  for (const OpSample& sample : op_samples()) {
    names.insert(sample.op);
  }
  return names;
}

// Functions in ops.h's headers, without those of the kda folder: they are held against golden cases and each other.
std::set<std::string> public_ops() {
  std::set<std::string> names;
  for (const std::string& file : included_files(text_of(source_folder() / "ops/ops.h"), "ops")) {
    if (file.rfind("ops/kda/", 0) != 0) {
      names.merge(declared_functions(text_of(source_folder() / file), "deltatape"));
    }
  }
  return names;
}

TEST_CASE("op completeness: every public op has a sample") {
  if (!std::filesystem::exists(source_folder() / "ops/ops.h")) {
    MESSAGE("skipped: the sources are not at " << source_folder().string());
    return;
  }
  const std::set<std::string> names = public_ops();
  CHECK(names.size() > 100);
  for (const std::string& name : names) {
    CAPTURE(name);
    const bool has_one = sampled().count(name) != 0 || exempt().count(name) != 0;
    CHECK_MESSAGE(has_one, "no sample in tests/support/op_samples_*.cpp");
  }
  for (const std::string& name : sampled()) {
    CAPTURE(name);
    CHECK_MESSAGE(names.count(name) != 0, "a sample of an op that ops.h does not have");
    CHECK_MESSAGE(exempt().count(name) == 0, "exempt, and has a sample");
  }
}

TEST_CASE("op completeness: names of samples are unique") {
  std::set<std::string> names;
  for (const OpSample& sample : op_samples()) {
    CHECK_MESSAGE(names.insert(sample.name()).second, sample.name());
  }
}

TEST_CASE("op completeness: every op with tensors is tried empty and refuses something") {
  std::map<std::string, bool> tried_empty;
  std::map<std::string, bool> refuses;
  for (const OpSample& sample : op_samples()) {
    CHECK_MESSAGE(sample.call, sample.name());
    CHECK_MESSAGE(sample.reference, sample.name());
    bool empty = sample.elementwise;
    for (const InputSpec& input : sample.inputs) {
      empty = empty || (input.shape.numel() == 0);
    }
    for (const std::vector<Shape>& shapes : sample.shapes) {
      CHECK_MESSAGE(shapes.size() == sample.inputs.size(), sample.name());
      for (const Shape& shape : shapes) {
        empty = empty || shape.numel() == 0;
      }
    }
    tried_empty[sample.op] = tried_empty[sample.op] || empty || sample.inputs.empty();
    refuses[sample.op] = refuses[sample.op] || !sample.rejections.empty() || sample.inputs.empty();
  }
  for (const auto& entry : tried_empty) {  // doctest's lambdas cannot capture structured bindings with clang 14
    CHECK_MESSAGE(entry.second, entry.first << " has no sample with an empty tensor");
  }
  for (const auto& entry : refuses) {
    CHECK_MESSAGE(entry.second, entry.first << " has no sample of bad input");
  }
}

TEST_CASE("op completeness: what the scanner sees in a header") {
  const std::string header = R"(
#define HIDDEN(x) macro(x)
namespace deltatape {
/// Calls comment(x).
Tensor add(const Tensor& a, const Tensor& b = Tensor());
/* Tensor gone(int); */
struct Options { int64_t size() const; double scale = {}; };
Tensor wide(const Tensor& x,
            TensorOptions options = {DType::f32, Device::cpu()});
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
Tensor operator-(const Tensor& a);
std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim);
void fill_(Tensor& x, double value);
namespace detail { void hidden(int); }
bool any(const Tensor& x);
}  // namespace deltatape
namespace deltatape::kda { void chunk(int); }
void outside(int);
)";
  const std::set<std::string> expected{"add", "any", "fill_", "operator+", "operator-", "split", "wide"};
  CHECK(declared_functions(header, "deltatape") == expected);
  CHECK(declared_functions(header, "deltatape::kda") == std::set<std::string>{"chunk"});
  CHECK(declared_functions("", "deltatape").empty());
  CHECK(included_files("#include \"ops/a.h\"\n#include <ops/b.h>\n#include \"core/c.h\"\n#include \"ops/kda/d.h\"\n",
                       "ops") == std::set<std::string>{"ops/a.h", "ops/kda/d.h"});
}

}  // namespace
}  // namespace deltatape::test

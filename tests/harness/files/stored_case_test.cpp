#include "harness/files/stored_case.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "harness/kda/kda.h"
#include "harness/kda/kda_config.h"
#include "io/npy.h"
#include "ops/convert.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using harness::FileFormat;
using harness::StoredCase;
using test::TemporaryFolder;
namespace fs = std::filesystem;

const char* const kText =
    "seed=3,T=5,group=2,K=3,V=2,gate=standard,dt_bias=yes,h0=yes,ht=yes,packing=cu_seqlens,pieces=2";

// A written case, and what was written.
struct Workplace {
  explicit Workplace(FileFormat file_format, const std::string& text = kText) : format(file_format) {
    stored = harness::answered(reference, space, space.parse(text), true);
    const std::string settings = space.text(stored.inputs.settings);
    harness::write_case(path(), format, harness::kda_config("case_0000", settings, stored.inputs), stored);
  }

  [[nodiscard]] fs::path path() const {
    return folder / (format == FileFormat::npy ? "case_0000" : "case_0000.safetensors");
  }
  [[nodiscard]] fs::path file(const std::string& tensor) const { return path() / (tensor + ".npy"); }
  [[nodiscard]] StoredCase read() const { return harness::read_case(path(), format, space); }
  [[nodiscard]] std::string read_error() const {
    return test::error_of([&] { static_cast<void>(read()); });
  }
  void check_answers() const { harness::check_answers(path(), format, reference, read()); }

  TemporaryFolder folder;
  FileFormat format;
  harness::Space space = harness::kda_space();
  harness::Reference reference = harness::kda_reference();
  StoredCase stored;
};

void check_same(const harness::NamedTensors& a, const harness::NamedTensors& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& named : a) {
    CAPTURE(named.first);
    const Tensor& tensor = named.second;
    const Tensor other = harness::find(b, named.first);
    REQUIRE(other.defined());
    CHECK(other.dtype() == tensor.dtype());
    CHECK(other.shape() == tensor.shape());
    CHECK(other.to_vector<double>() == tensor.to_vector<double>());
  }
}

TEST_CASE("harness files: a case comes back to the last bit, in every dtype") {
  for (const FileFormat format : {FileFormat::npy, FileFormat::safetensors}) {
    for (const char* dtype : {"f64", "f32", "bf16", "f16"}) {
      const Workplace place(format, std::string(kText) + ",dtype=" + dtype);
      CAPTURE(dtype);
      CAPTURE(place.path().string());
      const StoredCase read = place.read();
      CHECK(read.inputs.settings == place.stored.inputs.settings);
      CHECK(read.inputs.dtype == place.stored.inputs.dtype);
      check_same(place.stored.inputs.inputs, read.inputs.inputs);
      check_same(place.stored.inputs.upstream, read.inputs.upstream);
      check_same(place.stored.answers, read.answers);
      CHECK(read.answers.size() == 10);
      place.check_answers();
    }
  }
}

TEST_CASE("harness files: intermediates lie in a folder of their own") {
  const Workplace place(FileFormat::npy);
  CHECK(place.stored.intermediates.size() == 12);
  CHECK(test::count_entries(place.path() / "intermediates") == 12);
  CHECK(io::load_npy(place.file("intermediates/Aqk")).dtype() == DType::f64);
}

TEST_CASE("harness files: an altered, missing or foreign tensor of a case is named") {
  const Workplace place(FileFormat::npy);
  const Tensor v = io::load_npy(place.file("v"));
  const std::string label = place.file("v").string();
  Tensor other = clone(v);
  other.mutable_data<float>()[1] += 1e-5F;
  io::save_npy(place.file("v"), other);
  CHECK(place.read_error() == "read_case: " + label + " was altered: it is not what the case in " +
                                  (place.path() / "config.json").string() + " stands for");
  other.mutable_data<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  io::save_npy(place.file("v"), other);
  CHECK(place.read_error().find("v.npy was altered") != std::string::npos);
  io::save_npy(place.file("v"), from_vector<double>({1.0}));
  CHECK(place.read_error() == "read_case: " + label + " is f64[1] cpu, expected f32[1, 5, 2, 2]");
  fs::remove(place.file("v"));
  CHECK(place.read_error() == "read_case: " + label + " is missing, expected a tensor");
  io::save_npy(place.file("v"), v);

  Tensor borders = io::load_npy(place.file("cu_seqlens"));
  ++borders.mutable_data<int64_t>()[1];
  io::save_npy(place.file("cu_seqlens"), borders);
  CHECK(place.read_error().find("cu_seqlens.npy was altered") != std::string::npos);
  --borders.mutable_data<int64_t>()[1];
  io::save_npy(place.file("cu_seqlens"), borders);

  place.check_answers();
  Tensor dk = io::load_npy(place.file("dk"));
  dk.mutable_data<double>()[2] *= 1.0 + 1e-4;
  io::save_npy(place.file("dk"), dk);
  CHECK_ERROR(place.check_answers(),
              "read_case: " + place.file("dk").string() + " was altered: it is not what the reference gives");
  fs::remove(place.file("dk"));
  CHECK_ERROR(place.check_answers(), "read_case: " + place.file("dk").string() + " is missing, expected a tensor");
  io::save_npy(place.file("segment_ids"), borders);
  CHECK_ERROR(place.check_answers(), "read_case: " + place.file("segment_ids").string() + " is no tensor of this case");
}

TEST_CASE("harness files: what the last bits of a logarithm change is let pass") {
  const Workplace place(FileFormat::npy);
  Tensor v = io::load_npy(place.file("v"));
  v.mutable_data<float>()[1] = std::nextafter(v.data<float>()[1], 10.0F);
  io::save_npy(place.file("v"), v);
  const StoredCase read = place.read();
  CHECK(harness::find(read.inputs.inputs, "v").to_vector<float>() == v.to_vector<float>());  // what is stored counts
  place.check_answers();
}

TEST_CASE("harness files: a broken config is named") {
  const Workplace place(FileFormat::npy);
  const fs::path config = place.path() / "config.json";
  const std::string label = "read_case: " + config.string();
  test::write_bytes(config, "[1]");
  CHECK(place.read_error() == label + " is a JSON array, expected an object");
  test::write_bytes(config, "{}");
  CHECK(place.read_error() == label + " has no text under 'case'");
  test::write_bytes(config, R"({"case": "T=3,cheese=4"})");
  CHECK(place.read_error().find(label + ": the case 'T=3,cheese=4' is none: ") == 0);
  test::write_bytes(config, test::read_bytes(place.path() / "q.npy"));
  CHECK(place.read_error().find(label + " is not JSON: ") == 0);
  test::write_bytes(config, std::string(100000, '['));
  CHECK(place.read_error().find(label + " is not JSON: ") == 0);
  test::write_bytes(config, std::string(100000, '[') + std::string(100000, ']'));
  CHECK(place.read_error() == label + " is a JSON array, expected an object");
}

TEST_CASE("harness files: results are read from a folder or a file, and named when they are wrong") {
  const TemporaryFolder set;
  const std::vector<std::string> known = {"o", "dq"};
  const auto read = [&] { return harness::read_results(set.path(), "case_0000", known); };
  CHECK(read().empty());
  const fs::path folder = harness::results_folder(set.path(), "case_0000");
  const fs::path file = harness::results_file(set.path(), "case_0000");
  fs::create_directories(folder);
  CHECK(read().empty());

  const Tensor x = from_vector(std::vector<float>{1.0F, 2.0F});
  io::save_npy(folder / "o.npy", x);
  io::save_npy(folder / "dq.npy", to(x, DType::f16));
  check_same({{"dq", to(x, DType::f16)}, {"o", x}}, read());
  io::save_safetensors(file, {{"o", to(x, DType::bf16)}});
  CHECK_ERROR(read(), "read_results: " + folder.string() + " and " + file.string() +
                          " both have results, expected one of them");
  fs::remove_all(folder);
  check_same({{"o", to(x, DType::bf16)}}, read());
  io::save_safetensors(file, {{"q", x}});
  CHECK_ERROR(read(), "read_results: " + file.string() + ": q is no result, expected one of o dq");
  io::save_safetensors(file, {{"o", from_vector(std::vector<int64_t>{1})}});
  CHECK_ERROR(read(), "read_results: " + file.string() + ": o is i64[1] cpu, expected floating-point numbers");

  const std::string whole = test::read_bytes(file);
  for (size_t length = 0; length < whole.size(); ++length) {
    test::write_bytes(file, whole.substr(0, length));
    CHECK(test::error_of(read).find(file.string()) != std::string::npos);
  }
}

TEST_CASE("harness files: results that are there and cannot be read are not taken for none") {
  const TemporaryFolder set;
  const fs::path folder = harness::results_folder(set.path(), "case_0000");
  const fs::path file = harness::results_file(set.path(), "case_0000");
  fs::create_directories(folder.parent_path());
  const auto refused = [&](const fs::path& path) {
    const std::string error = test::error_of([&] { harness::read_results(set.path(), "case_0000", {"o"}); });
    CAPTURE(error);
    CHECK(error.find(path.string()) != std::string::npos);
    fs::remove(path);
    CHECK(harness::read_results(set.path(), "case_0000", {"o"}).empty());
  };
  test::write_bytes(folder, "a file");
  refused(folder);
  fs::create_symlink(folder, folder);  // leads nowhere
  refused(folder);
  fs::create_symlink(set / "nothing", folder);
  refused(folder);
  fs::create_symlink(set / "nothing", file);
  refused(file);
  fs::create_directory(file);
  refused(file);
  if (::geteuid() != 0) {  // who may read everything
    fs::create_directory(folder);
    fs::permissions(folder, fs::perms::none);
    refused(folder);
  }
}

}  // namespace
}  // namespace deltatape

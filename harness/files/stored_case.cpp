#include "harness/files/stored_case.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "harness/files/json_text.h"
#include "harness/judge/expectation.h"
#include "io/npy.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRead = "read_case";
constexpr std::string_view kResults = "read_results";
constexpr const char* kIntermediates = "intermediates/";

double largest(const std::vector<double>& values) {
  double most = 0.0;
  for (const double value : values) {
    most = std::max(most, std::abs(value));
  }
  return most;
}

// Whether no element is further away than `limit`; NaN is.
bool is_near(const Tensor& x, const Tensor& expected, double limit) {
  const auto a = x.to_vector<double>();
  const auto b = expected.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= limit)) {
      return false;
    }
  }
  return true;
}

bool is_same(const Tensor& x, const Tensor& expected) {
  if (!is_floating(expected.dtype())) {
    return x.to_vector<int64_t>() == expected.to_vector<int64_t>();
  }
  constexpr double kLastBits = 64.0;  // of what exp and log of two machines may differ by
  const double share = 2.0 * unit_roundoff(expected.dtype()) + kLastBits * 2.0 * unit_roundoff(DType::f64);
  return is_near(x, expected, share * largest(expected.to_vector<double>()));
}

// The stored tensor in the dtype that the case has it in: .npy files hold bf16 as f32.
Tensor read_tensor(const TensorFiles& files, const std::string& name, const Tensor& expected) {
  const Tensor stored = files.load(name);
  const bool right_kind = is_floating(expected.dtype()) ? is_floating(stored.dtype()) : is_integer(stored.dtype());
  check(right_kind && stored.shape() == expected.shape(), kRead, "{} is {}, expected {}{}", files.label(name),
        describe(stored), expected.dtype(), expected.shape());
  check(is_same(stored, expected), kRead, "{} was altered: it is not what the case in {} stands for", files.label(name),
        files.config_label());
  return to(stored, expected.dtype());
}

NamedTensors read_tensors(const TensorFiles& files, const NamedTensors& expected, const std::string& prefix) {
  NamedTensors tensors;
  tensors.reserve(expected.size());
  for (const auto& [name, tensor] : expected) {
    tensors.emplace_back(name, read_tensor(files, prefix + name, tensor));
  }
  return tensors;
}

std::set<std::string> input_names(const Case& c) {
  std::set<std::string> names;
  for (const auto& named : c.inputs) {
    names.insert(named.first);
  }
  for (const auto& named : c.upstream) {
    names.insert("d" + named.first);
  }
  return names;
}

// Whether anything has this name, be it a link to nothing.
bool is_there(const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  check(type != fs::file_type::none, kResults, "{} cannot be read: {}", path.string(), error.message());
  return type != fs::file_type::not_found;
}

}  // namespace

StoredCase answered(const Reference& reference, const Space& space, const Settings& settings, bool intermediates) {
  StoredCase stored{.inputs = space.make(settings), .answers = {}};
  const Case wide = widened(stored.inputs);
  stored.answers = run_on_tape(reference.forward, wide);
  if (intermediates && reference.intermediates) {
    stored.intermediates = reference.intermediates(wide);
  }
  return stored;
}

void write_case(const fs::path& path, FileFormat format, const std::string& config, const StoredCase& stored) {
  NamedTensors tensors = stored.inputs.inputs;
  for (const auto& [name, tensor] : stored.inputs.upstream) {
    tensors.emplace_back("d" + name, tensor);
  }
  tensors.insert(tensors.end(), stored.answers.begin(), stored.answers.end());
  for (const auto& [name, tensor] : stored.intermediates) {
    tensors.emplace_back(kIntermediates + name, tensor);
  }
  write_tensor_files(path, format, config, tensors);
}

StoredCase read_case(const fs::path& path, FileFormat format, const Space& space) {
  const TensorFiles files(kRead, path, format);
  const auto config = parse_object(kRead, files.config_label(), files.config());
  const std::string text = text_at(kRead, files.config_label(), config, "case");
  Case expected;
  try {
    expected = space.make(space.parse(text));
  } catch (const Error& error) {
    fail(kRead, "{}: the case '{}' is none: {}", files.config_label(), text, error.what());
  }
  StoredCase stored{.inputs = expected, .answers = {}};
  stored.inputs.inputs = read_tensors(files, expected.inputs, "");
  stored.inputs.upstream = read_tensors(files, expected.upstream, "d");
  const std::set<std::string> inputs = input_names(expected);
  for (const std::string& name : files.names()) {
    if (inputs.count(name) == 0) {
      stored.answers.emplace_back(name, files.load(name));
    }
  }
  return stored;
}

void check_answers(const fs::path& path, FileFormat format, const Reference& reference, const StoredCase& stored) {
  const TensorFiles files(kRead, path, format);
  const NamedTensors expected = run_on_tape(reference.forward, widened(stored.inputs));
  for (const auto& answer : stored.answers) {
    check(find(expected, answer.first).defined(), kRead, "{} is no tensor of this case", files.label(answer.first));
  }
  // What sums of numbers that cancel leave behind is rounding of the terms, hence the second part of the limit.
  double scale = 0.0;
  for (const auto& named : expected) {
    scale = std::max(scale, largest(named.second.to_vector<double>()));
  }
  for (const auto& [name, tensor] : expected) {
    const Tensor answer = find(stored.answers, name);
    check(answer.defined(), kRead, "{} is missing, expected a tensor", files.label(name));
    check(answer.dtype() == DType::f64 && answer.shape() == tensor.shape(), kRead, "{} is {}, expected f64{}",
          files.label(name), describe(answer), tensor.shape());
    const double limit = 1e-6 * largest(tensor.to_vector<double>()) + 1e-9 * scale;
    check(is_near(answer, tensor, limit), kRead, "{} was altered: it is not what the reference gives",
          files.label(name));
  }
}

fs::path results_folder(const fs::path& set, const std::string& name) { return set / name / "results"; }

fs::path results_file(const fs::path& set, const std::string& name) { return set / (name + ".results.safetensors"); }

std::string result_label(const fs::path& set, const std::string& name, const std::string& tensor) {
  const fs::path in_folder = results_folder(set, name) / (tensor + ".npy");
  return is_there(in_folder) ? in_folder.string() : results_file(set, name).string() + ": " + tensor;
}

NamedTensors read_results(const fs::path& set, const std::string& name, const std::vector<std::string>& known) {
  const fs::path folder = results_folder(set, name);
  const fs::path file = results_file(set, name);
  io::TensorMap tensors;
  if (is_there(folder)) {
    for (const std::string& tensor : npy_names(kResults, folder)) {
      tensors[tensor] = io::load_npy(folder / (tensor + ".npy"));
    }
  }
  const bool in_folder = !tensors.empty();
  if (is_there(file)) {
    check(!in_folder, kResults, "{} and {} both have results, expected one of them", folder.string(), file.string());
    tensors = io::load_safetensors(file).tensors;
  }
  NamedTensors results;
  for (const auto& [tensor, value] : tensors) {
    const std::string label = in_folder ? (folder / (tensor + ".npy")).string() : file.string() + ": " + tensor;
    const bool is_known = std::find(known.begin(), known.end(), tensor) != known.end();
    check(is_known, kResults, "{} is no result, expected one of {}", label, fmt::join(known, " "));
    check(is_floating(value.dtype()), kResults, "{} is {}, expected floating-point numbers", label, describe(value));
    results.emplace_back(tensor, value);
  }
  return results;
}

}  // namespace deltatape::harness

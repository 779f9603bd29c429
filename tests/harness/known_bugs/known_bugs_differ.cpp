// Holds every known bug against the unedited plugin, without the harness: it must change something on one of the
// cases below, and on each that it changes, the first changed tensor in the data's order is one that its .edit names.
//   known_bugs_differ EDITS PLUGINS
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

#include "harness/plugin/deltatape_plugin.h"
#include "tests/harness/known_bugs/known_bug.h"

namespace deltatape::known_bugs {
namespace {

using Run = int32_t (*)(const deltatape_kda_call*, char*, int64_t);

Run load(const std::filesystem::path& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    throw std::runtime_error(::dlerror());
  }
  return reinterpret_cast<Run>(::dlsym(handle, "deltatape_plugin_run"));
}

/// A case by hand: sizes, options and what its numbers are like.
struct Case {
  std::string name;
  bool f64 = true;
  int64_t B = 1, T = 1, H = 1, HV = 1, K = 1, V = 1;
  int32_t gate = DELTATAPE_GATE_NONE;
  std::vector<int64_t> cu_seqlens = {};
  std::vector<int64_t> segment_ids = {};
  bool norm_and_sigmoid = false;
  bool safe_gate = false;
  bool state_v_first = false;
  double strongest = 0.5;  // log decays, or logits, are between 0 and minus this
  int repeats = 1;         // of a bug that shows by chance
};

std::vector<Case> cases() {
  std::vector<int64_t> two_segments(75, 0);
  std::fill(two_segments.begin() + 39, two_segments.end(), 1);
  return {
      {.name = "groups of heads", .B = 2, .T = 150, .H = 2, .HV = 4, .K = 20, .V = 40},
      {.name = "one token", .T = 1, .K = 3, .V = 2},
      {.name = "v first", .B = 2, .T = 21, .HV = 2, .K = 12, .V = 20, .state_v_first = true},
      {.name = "standard gate, norm, sigmoid",
       .B = 3,
       .T = 37,
       .H = 2,
       .HV = 2,
       .K = 20,
       .V = 8,
       .gate = DELTATAPE_GATE_STANDARD,
       .norm_and_sigmoid = true},
      {.name = "lower-bound gate", .B = 2, .T = 21, .K = 16, .V = 16, .gate = DELTATAPE_GATE_LOWER_BOUND},
      {.name = "sequences", .T = 61, .H = 2, .HV = 2, .K = 16, .V = 16, .cu_seqlens = {0, 0, 19, 20, 61}},
      {.name = "segments", .T = 75, .K = 16, .V = 16, .segment_ids = two_segments},
      {.name = "strong decay in f32", .f64 = false, .T = 33, .K = 16, .V = 16, .strongest = 30.0},
      {.name = "safe gate in f32", .f64 = false, .T = 21, .K = 16, .V = 16, .safe_gate = true},
      {.name = "safe gate that is not", .f64 = false, .T = 33, .K = 16, .V = 16, .safe_gate = true, .strongest = 40.0},
      {.name = "many threads", .B = 6, .T = 130, .K = 64, .V = 64, .gate = DELTATAPE_GATE_STANDARD, .repeats = 10},
  };
}

/// Elements of a tensor between NaN on both sides.
class Array {
 public:
  Array(std::string name, int32_t dtype, std::vector<int64_t> shape, const std::function<double()>& value)
      : name_(std::move(name)), dtype_(dtype), shape_(std::move(shape)) {
    for (const int64_t size : shape_) {
      count_ *= static_cast<size_t>(size);
    }
    const size_t all = count_ + 2 * kMargin;
    f64_.assign(dtype == DELTATAPE_F64 ? all : 0, std::numeric_limits<double>::quiet_NaN());
    f32_.assign(dtype == DELTATAPE_F32 ? all : 0, std::numeric_limits<float>::quiet_NaN());
    i64_.assign(dtype == DELTATAPE_I64 ? all : 0, -1);
    for (size_t i = kMargin; i < kMargin + count_; ++i) {
      const double x = value();
      if (dtype == DELTATAPE_F64) {
        f64_[i] = x;
      } else if (dtype == DELTATAPE_F32) {
        f32_[i] = static_cast<float>(x);
      } else {
        i64_[i] = static_cast<int64_t>(x);
      }
    }
  }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] double at(size_t i) const {
    return dtype_ == DELTATAPE_F64 ? f64_[kMargin + i] : static_cast<double>(f32_[kMargin + i]);
  }
  deltatape_tensor tensor() {
    void* data = i64_.data() + (dtype_ == DELTATAPE_I64 ? kMargin : 0);
    if (dtype_ == DELTATAPE_F64) {
      data = f64_.data() + kMargin;
    } else if (dtype_ == DELTATAPE_F32) {
      data = f32_.data() + kMargin;
    }
    deltatape_tensor out{name_.c_str(), data, dtype_, static_cast<int32_t>(shape_.size()), {}};
    std::copy(shape_.begin(), shape_.end(), out.shape);
    return out;
  }
  [[nodiscard]] int32_t dtype() const { return dtype_; }
  [[nodiscard]] const std::vector<int64_t>& shape() const { return shape_; }

 private:
  static constexpr size_t kMargin = 64;
  std::string name_;
  int32_t dtype_;
  std::vector<int64_t> shape_;
  size_t count_ = 1;
  std::vector<double> f64_;
  std::vector<float> f32_;
  std::vector<int64_t> i64_;
};

std::vector<Array> inputs_of(const Case& c) {
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto any = [&] { return normal(engine); };
  const auto key = [&] { return normal(engine) / std::sqrt(static_cast<double>(c.K)); };
  const auto decay = [&] { return -c.strongest * uniform(engine); };
  const int32_t dtype = c.f64 ? DELTATAPE_F64 : DELTATAPE_F32;
  const int64_t N = c.cu_seqlens.empty() ? c.B : static_cast<int64_t>(c.cu_seqlens.size()) - 1;
  const auto state = [&]() -> std::vector<int64_t> {
    return {N, c.HV, c.state_v_first ? c.V : c.K, c.state_v_first ? c.K : c.V};
  };
  std::vector<Array> inputs;
  inputs.reserve(12);
  inputs.emplace_back("q", dtype, std::vector{c.B, c.T, c.H, c.K}, any);
  inputs.emplace_back("k", dtype, std::vector{c.B, c.T, c.H, c.K}, key);
  inputs.emplace_back("v", dtype, std::vector{c.B, c.T, c.HV, c.V}, any);
  inputs.emplace_back("g", dtype, std::vector{c.B, c.T, c.HV, c.K}, decay);
  inputs.emplace_back("beta", dtype, std::vector{c.B, c.T, c.HV}, [&] { return uniform(engine); });
  if (c.gate != DELTATAPE_GATE_NONE) {
    inputs.emplace_back("A_log", dtype, std::vector{c.HV}, [&] { return 0.5 * normal(engine); });
    inputs.emplace_back("dt_bias", dtype, std::vector{c.HV * c.K}, any);
  }
  inputs.emplace_back("h0", dtype, state(), any);
  size_t next = 0;
  if (!c.cu_seqlens.empty()) {
    const auto entry = [&] { return static_cast<double>(c.cu_seqlens[next++]); };
    inputs.emplace_back("cu_seqlens", DELTATAPE_I64, std::vector{N + 1}, entry);
  }
  if (!c.segment_ids.empty()) {
    const auto entry = [&] { return static_cast<double>(c.segment_ids[next++]); };
    inputs.emplace_back("segment_ids", DELTATAPE_I64, std::vector{c.B, c.T}, entry);
  }
  inputs.emplace_back("do", dtype, std::vector{c.B, c.T, c.HV, c.V}, any);
  inputs.emplace_back("dht", dtype, state(), any);
  return inputs;
}

std::vector<Array> answer(Run run, const Case& c, std::vector<Array>& inputs) {
  constexpr std::array kDifferentiable = {"q", "k", "v", "g", "beta", "A_log", "dt_bias", "h0"};
  std::vector<Array> results;
  std::vector<deltatape_tensor> given;
  int64_t N = c.B;
  for (Array& input : inputs) {
    const auto result = [&](const std::string& name) {
      results.emplace_back(name, input.dtype(), input.shape(), [] { return 77.0; });
    };
    given.push_back(input.tensor());
    if (input.name() == "v") {
      result("o");
    }
    if (input.name() == "h0") {
      result("ht");
      N = input.shape()[0];
    }
    if (std::find(kDifferentiable.begin(), kDifferentiable.end(), input.name()) != kDifferentiable.end()) {
      result("d" + input.name());
    }
  }
  std::vector<deltatape_tensor> wanted;
  wanted.reserve(results.size());
  for (Array& result : results) {
    wanted.push_back(result.tensor());
  }
  deltatape_kda_call call{};
  call.size = sizeof(call);
  call.B = c.B;
  call.T = c.T;
  call.H = c.H;
  call.HV = c.HV;
  call.K = c.K;
  call.V = c.V;
  call.N = N;
  call.dtype = c.f64 ? DELTATAPE_F64 : DELTATAPE_F32;
  call.gate = c.gate;
  call.scale = 0.6;
  call.lower_bound = -2.0;
  call.use_qk_l2norm = c.norm_and_sigmoid ? 1 : 0;
  call.use_beta_sigmoid = c.norm_and_sigmoid ? 1 : 0;
  call.allow_neg_eigval = c.norm_and_sigmoid ? 1 : 0;
  call.safe_gate = c.safe_gate ? 1 : 0;
  call.state_v_first = c.state_v_first ? 1 : 0;
  call.chunk_size = 64;
  call.backward = 1;
  call.threads = 2;
  call.input_count = static_cast<int32_t>(given.size());
  call.result_count = static_cast<int32_t>(wanted.size());
  call.inputs = given.data();
  call.results = wanted.data();
  std::array<char, 512> message{};
  if (run(&call, message.data(), message.size()) != DELTATAPE_OK) {
    throw std::runtime_error(c.name + ": " + message.data());
  }
  return results;
}

/// Whether two results differ by more than rounding; a NaN on one side only differs.
bool differ(const Array& a, const Array& b) {
  double largest = 0.0;
  double difference = 0.0;
  for (size_t i = 0; i < a.count(); ++i) {
    if (std::isfinite(a.at(i)) != std::isfinite(b.at(i))) {
      return true;
    }
    largest = std::max(largest, std::abs(b.at(i)));
    difference = std::max(difference, std::abs(a.at(i) - b.at(i)));
  }
  return difference > (a.dtype() == DELTATAPE_F64 ? 1e-9 : 1e-4) * largest;
}

/// The same for two runs of one plugin: not a bit may change.
bool repeats(const Array& a, const Array& b) {
  for (size_t i = 0; i < a.count(); ++i) {
    if (a.at(i) != b.at(i) && !(std::isnan(a.at(i)) && std::isnan(b.at(i)))) {
      return false;
    }
  }
  return true;
}

int main_of(const std::filesystem::path& edits, const std::filesystem::path& plugins) {
  std::map<std::string, std::vector<std::vector<Array>>> expected;  // by unedited plugin and case
  int unlike = 0;
  const std::vector<KnownBug> bugs = read_known_bugs(edits);
  for (const KnownBug& bug : bugs) {
    auto& of_form = expected[bug.correct_plugin()];
    if (of_form.empty()) {
      const Run run = load(plugins / (bug.correct_plugin() + ".so"));
      for (const Case& c : cases()) {
        std::vector<Array> inputs = inputs_of(c);
        of_form.push_back(answer(run, c, inputs));
      }
    }
    const Run run = load(plugins / ("known_bug_" + bug.name + ".so"));
    std::set<std::string> changed;
    std::set<std::string> first_changed;  // of each run that differs
    int times = 0;
    size_t number = 0;
    for (const Case& c : cases()) {
      const std::vector<Array>& right = of_form[number++];
      std::vector<Array> inputs = inputs_of(c);
      const std::vector<Array> first = answer(run, c, inputs);
      // On busy cores a race may take long to show.
      const auto wait_for_a_race = [&](int repeat) { return times == 0 && c.repeats > 1 && repeat < 100 * c.repeats; };
      for (int repeat = 0; repeat < c.repeats || wait_for_a_race(repeat); ++repeat) {
        const std::vector<Array> found = answer(run, c, inputs);
        std::set<std::string> of_run;
        for (size_t i = 0; i < found.size(); ++i) {
          if (differ(found[i], right[i]) || !repeats(found[i], first[i])) {
            of_run.insert(found[i].name());
          }
        }
        if (!of_run.empty()) {
          ++times;
          changed.insert(of_run.begin(), of_run.end());
          first_changed.insert(first_in_order(of_run));
        }
      }
    }
    const bool fine =
        times > 0 && std::all_of(first_changed.begin(), first_changed.end(), [&](const std::string& name) {
          return std::find(bug.tensors.begin(), bug.tensors.end(), name) != bug.tensors.end();
        });
    std::printf("%-30s %2d runs differ:", bug.name.c_str(), times);
    for (const char* const name : kDataOrder) {
      if (changed.contains(name)) {
        std::printf(" %s%s", name, first_changed.contains(name) ? "*" : "");
      }
    }
    std::printf("%s\n", fine ? "" : "   NOT as its .edit says");
    unlike += fine ? 0 : 1;
  }
  std::printf("%zu known bugs, %d unlike what their .edit says (*: the first in a run)\n", bugs.size(), unlike);
  return unlike == 0 ? 0 : 1;
}

}  // namespace
}  // namespace deltatape::known_bugs

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: known_bugs_differ EDITS PLUGINS\n");
    return 2;
  }
  try {
    return deltatape::known_bugs::main_of(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "known_bugs_differ: %s\n", error.what());
    return 2;
  }
}

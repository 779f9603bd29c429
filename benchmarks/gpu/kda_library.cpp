#include "benchmarks/gpu/kda_library.h"

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v2/launch.h"
#include "backends/cuda/runtime/stream.h"
#include "core/error.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/kda/decode.h"
#include "ops/kda/inputs.h"
#include "ops/kda/plan.h"
#include "ops/random.h"

namespace deltatape::bench {
namespace {

using Json = nlohmann::json;

std::string& last_error() {
  thread_local std::string error;
  return error;
}

int64_t bytes_of(const Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(size_of(tensor.dtype())); }

/// The launchers of one version of the chunk kernels, past the dispatch.
struct Version {
  void (*forward)(const kda::KernelProblem&, const kda::KernelInputs&, const kda::KernelOutputs&);
  void (*backward)(const kda::KernelProblem&, const kda::KernelInputs&, const kda::KernelUpstream&,
                   const kda::KernelGradients&);
  std::string (*why_not)(const kda::KernelProblem&, DType, Device);
};
constexpr Version kV1{cuda::kda::v1::forward, cuda::kda::v1::backward, cuda::kda::v1::why_not_backward};
constexpr Version kV2{cuda::kda::v2::forward, cuda::kda::v2::backward, cuda::kda::v2::why_not_backward};

class Problem {
 public:
  explicit Problem(const Json& json) : device_(Device::parse("open", json.value("device", "cuda"))) {
    const auto size = [&](const char* name) { return json.at(name).get<int64_t>(); };
    shapes_ = {size("B"), size("T"), size("H"), size("HV"), size("K"), size("V")};
    shapes_.dtype = parse_dtype("open", json.value("dtype", "bf16"));
    decode_ = json.value("decode", false);
    options_.gate = kda::Gate::lower_bound;
    options_.safe_gate = !decode_;
    options_.use_qk_l2norm = true;
    options_.use_beta_sigmoid = true;
    options_.save_intermediates = json.value("save_intermediates", false);
    if (json.contains("lengths")) {
      set_lengths(json.at("lengths").get<std::vector<int64_t>>());
    }
    draw_inputs();
    reset_peak_memory(device_.type());
    plan_ = kda::plan(options_, shapes_, device_).text;
  }

  [[nodiscard]] const std::string& plan() const { return plan_; }
  [[nodiscard]] int64_t peak_bytes() const { return memory_stats(device_.type()).peak_bytes; }

  void run(const std::string& pass) {
    if (pass == "forward") {
      const NoGradGuard guard;
      out_ = kda::run(kda::Implementation::fused_chunk, inputs_, options_);
    } else if (pass == "record") {
      out_ = kda::run(kda::Implementation::fused_chunk, inputs_, options_);
    } else if (pass == "backward") {
      gradients_ = grad(std::vector{out_.o}, leaves(), std::vector{d_o_}, {.retain_graph = true});
    } else if (pass == "both") {
      out_ = kda::run(kda::Implementation::fused_chunk, inputs_, options_);
      gradients_ = grad(std::vector{out_.o}, leaves(), std::vector{d_o_});
    } else if (pass == "decode") {
      check(decode_, "run", "pass is 'decode', and the problem was not opened for it");
      const NoGradGuard guard;
      out_.o = kda::decode(inputs_, pool_, {slots_}, options_);
    } else if (pass == "forward v1" || pass == "backward v1") {
      run_version(kV1, pass);
    } else if (pass == "forward v2" || pass == "backward v2") {
      run_version(kV2, pass);
    } else {
      fail("run", "pass is '{}', expected forward, record, backward, both, decode or forward v1 and its kin", pass);
    }
  }

  double milliseconds(const std::string& pass, int64_t flush) {
    if (flush > 0 && (!flushed_.defined() || flushed_.numel() != flush)) {
      flushed_ = empty({flush}, {DType::boolean, device_});
    }
    const cuda::Stream stream = cuda::current_stream(device_);
    cuda::Event begin(device_);
    cuda::Event end(device_);
    if (flush > 0) {
      fill_(flushed_, 1);
    }
    begin.record(stream);
    run(pass);
    end.record(stream);
    end.synchronize();
    return end.milliseconds_since(begin);
  }

  void synchronize() const { cuda::synchronize(cuda::current_stream(device_)); }

  [[nodiscard]] const Tensor& tensor(const std::string& name) {
    std::map<std::string, const Tensor*> known{{"do", &d_o_}, {"pool", &pool_}, {"o", &out_.o}};
    size_t i = 0;
    for (const auto& [input, tensor] : inputs()) {
      known[input] = tensor;
      if (i < gradients_.size()) {
        known["d" + input] = &gradients_[i++];
      }
    }
    const auto found = known.find(name);
    check(found != known.end() && found->second->defined(), "tensor", "there is no tensor '{}' here, or not yet", name);
    return *found->second;
  }

 private:
  /// The kernels alone, without ops around them. Backward finds A again.
  void run_version(const Version& version, const std::string& pass) {
    const kda::Problem checked = kda::check_inputs("run", inputs_, options_);
    kda::KernelProblem problem = kda::kernel_problem(checked, options_, kda::Form::chunk);
    problem.save_intermediates = false;
    const std::string reason = version.why_not(problem, shapes_.dtype, device_);
    check(reason.empty(), "run", "pass '{}' does not run here: {}", pass, reason);
    const kda::KernelInputs in{.q = inputs_.q,
                               .k = inputs_.k,
                               .v = inputs_.v,
                               .g = inputs_.g,
                               .beta = inputs_.beta,
                               .A_log = inputs_.A_log,
                               .dt_bias = inputs_.dt_bias,
                               .initial_state = {}};
    const auto like = [](const Tensor& x) { return empty(x.shape(), {x.dtype(), x.device()}); };
    if (pass.starts_with("forward")) {
      kda::KernelOutputs out;
      out.o = like(inputs_.v);
      version.forward(problem, in, out);
      out_.o = out.o;
      return;
    }
    const kda::KernelUpstream upstream{.d_o = d_o_, .d_final_state = {}, .saved = {}};
    const kda::KernelGradients d{like(in.q),    like(in.k),     like(in.v),       like(in.g),
                                 like(in.beta), like(in.A_log), like(in.dt_bias), Tensor()};
    version.backward(problem, in, upstream, d);
    gradients_ = {d.dq, d.dk, d.dv, d.dg, d.dbeta, d.dA_log, d.ddt_bias};
  }

  void set_lengths(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : lengths) {
      bounds.push_back(bounds.back() + length);
    }
    check(shapes_.B == 1 && bounds.back() == shapes_.T, "open", "the lengths sum to {}, expected T = {} with B = 1",
          bounds.back(), shapes_.T);
    shapes_.cu_seqlens = true;
    shapes_.lengths = lengths;
    inputs_.cu_seqlens = from_vector(bounds, {static_cast<int64_t>(bounds.size())});
  }

  void draw_inputs() {
    Generator generator(42);
    const TensorOptions options{shapes_.dtype, device_};
    const TensorOptions full{shapes_.dtype == DType::f64 ? DType::f64 : DType::f32, device_};
    const auto& [B, T, H, HV, K, V] = std::tie(shapes_.B, shapes_.T, shapes_.H, shapes_.HV, shapes_.K, shapes_.V);
    inputs_.q = randn({B, T, H, K}, generator, options);
    inputs_.k = randn({B, T, H, K}, generator, options);
    inputs_.v = randn({B, T, HV, V}, generator, options);
    inputs_.g = randn({B, T, HV, K}, generator, options);
    inputs_.beta = randn({B, T, HV}, generator, options);
    inputs_.A_log = rand({HV}, generator, full);
    inputs_.dt_bias = randn({HV * K}, generator, full);
    if (decode_) {
      pool_ = randn({B, HV, K, V}, generator, full);
      slots_ = arange(0, static_cast<double>(B), 1, {DType::i64, Device::cpu()});
      return;
    }
    d_o_ = randn({B, T, HV, V}, generator, options);
    for (const auto& [name, input] : inputs()) {
      input->set_requires_grad();
    }
  }

  std::vector<std::pair<std::string, Tensor*>> inputs() {
    return {{"q", &inputs_.q},
            {"k", &inputs_.k},
            {"v", &inputs_.v},
            {"g", &inputs_.g},
            {"beta", &inputs_.beta},
            {"A_log", &inputs_.A_log},
            {"dt_bias", &inputs_.dt_bias}};
  }
  std::vector<Tensor> leaves() {
    std::vector<Tensor> all;
    for (const auto& [name, input] : inputs()) {
      all.push_back(*input);
    }
    return all;
  }

  Device device_;
  kda::Shapes shapes_;
  kda::Options options_;
  kda::Inputs inputs_;
  Tensor d_o_;
  bool decode_ = false;
  Tensor pool_;
  Tensor slots_;
  kda::Output out_;
  std::vector<Tensor> gradients_;
  Tensor flushed_;
  std::string plan_;
};

// Calls f and gives its result; `failed`, with the reason kept, when it throws.
template <class F, class Result = std::invoke_result_t<F>>
Result guarded(Result failed, F f) noexcept {
  try {
    return f();
  } catch (const std::exception& error) {
    last_error() = error.what();
  }
  return failed;
}

}  // namespace
}  // namespace deltatape::bench

struct DeltatapeKda {
  deltatape::bench::Problem problem;
};

using deltatape::bench::guarded;

const char* deltatape_kda_error() { return deltatape::bench::last_error().c_str(); }

DeltatapeKda* deltatape_kda_open(const char* json) {
  return guarded<>(static_cast<DeltatapeKda*>(nullptr),
                   [&] { return new DeltatapeKda{deltatape::bench::Problem(nlohmann::json::parse(json))}; });
}

void deltatape_kda_close(DeltatapeKda* problem) { delete problem; }

const char* deltatape_kda_plan(DeltatapeKda* problem) { return problem->problem.plan().c_str(); }

void* deltatape_kda_tensor(DeltatapeKda* problem, const char* name, int64_t* bytes) {
  return guarded<>(static_cast<void*>(nullptr), [&] {
    const deltatape::Tensor& tensor = problem->problem.tensor(name);
    *bytes = deltatape::bench::bytes_of(tensor);
    return tensor.mutable_raw();
  });
}

int deltatape_kda_run(DeltatapeKda* problem, const char* pass) {
  return guarded<>(-1, [&] {
    problem->problem.run(pass);
    return 0;
  });
}

double deltatape_kda_time(DeltatapeKda* problem, const char* pass, int64_t flush) {
  return guarded<>(-1.0, [&] { return problem->problem.milliseconds(pass, flush); });
}

int deltatape_kda_synchronize(DeltatapeKda* problem) {
  return guarded<>(-1, [&] {
    problem->problem.synchronize();
    return 0;
  });
}

int64_t deltatape_kda_peak_bytes(DeltatapeKda* problem) { return problem->problem.peak_bytes(); }

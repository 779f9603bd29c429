#include "tools/kda_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "core/generator.h"
#include "ops/ops.h"
#include "tools/peak_memory.h"

namespace deltatape::tools {
namespace {

double milliseconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double useful_kda_flops(const KdaSizes& s, bool forward, bool backward) {
  const double products = static_cast<double>(s.K * s.V);
  const double inside = 16.0 * static_cast<double>(s.K + s.V);
  const double per_token =
      (forward ? 6.0 * products + 4.0 * inside + 256.0 / 3.0 : 0.0) + (backward ? 12.0 * products + 8.0 * inside : 0.0);
  return per_token * static_cast<double>(s.B * s.T * s.HV);
}

double product_gflops(DType dtype, Device device) {
  const NoGradGuard guard;
  Generator generator(1);
  const TensorOptions options{dtype == DType::f64 ? DType::f64 : DType::f32, device};
  const Tensor a = randn({1024, 1024}, generator, options);
  const Tensor b = randn({1024, 1024}, generator, options);
  double best = 1e30;
  for (int i = 0; i < 7; ++i) {
    best = std::min(best, milliseconds([&] { static_cast<void>(matmul(a, b)); }));
  }
  return 2.0 * 1024.0 * 1024.0 * 1024.0 / best / 1e6;
}

KdaBenchCase make_kda_bench_case(const KdaSizes& s, const KdaBenchSetting& setting) {
  const DType dtype = setting.dtype;
  const Device device = setting.device;
  Generator generator(1);
  const auto normal = [&](const Shape& shape, double deviation) {
    return to(mul(randn(shape, generator, {DType::f32, device}), deviation), dtype);
  };
  KdaBenchCase c;
  c.options = setting.options;
  // Keys of length near 1 without the norm, so that nothing grows.
  const double length = 1.0 / std::sqrt(static_cast<double>(s.K));
  c.inputs.q = normal({s.B, s.T, s.H, s.K}, length);
  c.inputs.k = normal({s.B, s.T, s.H, s.K}, length);
  c.inputs.v = normal({s.B, s.T, s.HV, s.V}, 1.0);
  c.inputs.g = normal({s.B, s.T, s.HV, s.K}, 1.0);
  c.inputs.beta = normal({s.B, s.T, s.HV}, 1.0);
  c.d_o = normal({s.B, s.T, s.HV, s.V}, 1.0);
  if (c.options.gate == kda::Gate::none) {
    c.inputs.g = neg(abs(c.inputs.g));
  } else {
    c.inputs.A_log = zeros({s.HV}, {dtype, device});
    c.inputs.dt_bias = zeros({s.HV * s.K}, {dtype, device});
  }
  if (!c.options.use_beta_sigmoid) {
    c.inputs.beta = sigmoid(c.inputs.beta);
  }
  if (setting.varlen) {  // eight sequences of unlike lengths, one of them empty
    std::vector<int64_t> bounds{0};
    for (const int64_t part : {1, 2, 2, 4, 8, 15, 23, 32}) {
      bounds.push_back(s.T * part / 32);
    }
    c.inputs.cu_seqlens = from_vector(bounds);
  }
  for (Tensor* tensor :
       {&c.inputs.q, &c.inputs.k, &c.inputs.v, &c.inputs.g, &c.inputs.beta, &c.inputs.A_log, &c.inputs.dt_bias}) {
    if (tensor->defined()) {
      *tensor = tensor->detach();
      tensor->set_requires_grad();
      c.leaves.push_back(*tensor);
    }
  }
  return c;
}

KdaBenchTimes measure_kda(const KdaBenchCase& c, kda::Implementation implementation, bool backward, int64_t repeat) {
  KdaBenchTimes times;
  const PeakMemory peak;
  for (int64_t i = 0; i <= repeat; ++i) {
    const GradModeGuard mode(backward);
    kda::Output out;
    const double forward_ms = milliseconds([&] { out = kda::run(implementation, c.inputs, c.options); });
    double backward_ms = 0.0;
    if (backward) {
      backward_ms = milliseconds(
          [&] { static_cast<void>(grad(std::vector<Tensor>{out.o}, c.leaves, std::vector<Tensor>{c.d_o})); });
    }
    if (i > 0) {
      times.forward.push_back(forward_ms);
      times.backward.push_back(backward_ms);
    }
  }
  times.peak_bytes = peak.bytes();
  return times;
}

}  // namespace deltatape::tools

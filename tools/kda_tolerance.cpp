#include "tools/kda_tolerance.h"

#include <algorithm>
#include <cmath>

#include "ops/kda/gate.h"
#include "ops/ops.h"
#include "tools/kda_run.h"

namespace deltatape::tools {
namespace {

constexpr double kStrongDecay = -5.0;
constexpr double kLargeBeta = 1.9;
constexpr double kCorrelated = 0.95;
constexpr int64_t kKeyDistance = 64;  // as far as the rows of one chunk are apart

double cosine(const double* a, const double* b, int64_t size) {
  double product = 0.0;
  double squares_a = 0.0;
  double squares_b = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    product += a[i] * b[i];
    squares_a += a[i] * a[i];
    squares_b += b[i] * b[i];
  }
  const double lengths = std::sqrt(squares_a * squares_b);
  return lengths > 0.0 ? product / lengths : 0.0;
}

bool has_correlated_keys(const Tensor& k) {
  const int64_t B = k.size(0);
  const int64_t T = k.size(1);
  const int64_t H = k.size(2);
  const int64_t K = k.size(3);
  const auto values = k.to_vector<double>();
  const auto key = [&](int64_t b, int64_t t, int64_t h) { return values.data() + ((b * T + t) * H + h) * K; };
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = 0; t < T; ++t) {
        for (int64_t s = std::max<int64_t>(t - kKeyDistance, 0); s < t; ++s) {
          if (std::abs(cosine(key(b, t, h), key(b, s, h), K)) > kCorrelated) {
            return true;
          }
        }
      }
    }
  }
  return false;
}

}  // namespace

TensorKind kind_of_kda(const std::string& tensor) {
  if (tensor == "o" || tensor == "ht") {
    return TensorKind::output;
  }
  if (tensor == "dg" || tensor == "dA_log" || tensor == "ddt_bias") {
    return TensorKind::gate;
  }
  return tensor == "dbeta" ? TensorKind::beta : TensorKind::gradient;
}

Tolerance kda_tolerance(TensorKind kind, DType dtype, bool stress) {
  if (dtype == DType::f64) {
    return {1e-9, 1e-12};
  }
  if (dtype == DType::f32) {
    return {kind == TensorKind::output ? 5e-5 : kind == TensorKind::gate ? 5e-4 : 2e-4, 1e-6};
  }
  const double limit = kind == TensorKind::output ? 5e-3 : kind == TensorKind::gradient ? 8e-3 : 2e-2;
  return {stress ? 2.0 * limit : limit, 1e-6};
}

bool is_stress_case(const KdaCase& c) {
  const kda::Inputs in = widened(c).inputs;
  const kda::Options& options = c.options;
  if (in.k.numel() == 0) {
    return false;
  }
  const Tensor g = kda::apply_gate(options.gate, in.g, in.A_log, in.dt_bias, options.lower_bound);
  const Tensor beta = options.use_beta_sigmoid ? kda::beta_from_logits(in.beta, options.allow_neg_eigval) : in.beta;
  const auto decays = g.to_vector<double>();
  const auto strengths = beta.to_vector<double>();
  return *std::min_element(decays.begin(), decays.end()) < kStrongDecay ||
         *std::max_element(strengths.begin(), strengths.end()) > kLargeBeta || has_correlated_keys(in.k);
}

}  // namespace deltatape::tools

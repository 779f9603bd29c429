#include "tests/ops/kda/kda_cases.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "autograd/backward.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/chunk.h"
#include "ops/kda/fused.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"

namespace deltatape::test {
namespace {

double normal(Generator& generator) {
  const double u = 1.0 - generator.next_uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * generator.next_uniform());
}

Tensor filled(const Shape& shape, const std::function<double()>& next) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  std::generate(values.begin(), values.end(), next);
  return from_vector(values, shape);
}

Tensor normals(const Shape& shape, Generator& generator) {
  return filled(shape, [&generator] { return normal(generator); });
}

void normalize(std::vector<double>& x) {
  double squares = 0.0;
  for (const double value : x) {
    squares += value * value;
  }
  for (double& value : x) {
    value /= std::sqrt(squares);
  }
}

Tensor unit_keys(const KDAShape& s, Keys keys, Generator& generator) {
  std::vector<double> values(static_cast<size_t>(s.B * s.T * s.H * s.K));
  std::array<std::vector<double>, 3> drawn;
  for (std::vector<double>& key : drawn) {
    key.resize(static_cast<size_t>(s.K));
    std::generate(key.begin(), key.end(), [&generator] { return normal(generator); });
    normalize(key);
  }
  size_t number = 0;
  for (size_t at = 0; at < values.size(); at += static_cast<size_t>(s.K), ++number) {
    std::vector<double> key = drawn[keys == Keys::few ? number % 3 : 0];
    if (keys == Keys::random || keys == Keys::near) {
      for (double& x : key) {
        x = keys == Keys::random ? normal(generator)
                                 : x + 0.07 / std::sqrt(static_cast<double>(s.K)) * normal(generator);
      }
      normalize(key);
    }
    std::copy(key.begin(), key.end(), values.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return from_vector(values, {s.B, s.T, s.H, s.K});
}

Tensor log_decays(const KDAShape& s, Decay decay, Generator& generator) {
  const Shape shape{s.B, s.T, s.HV, s.K};
  int64_t element = 0;
  return filled(shape, [&]() -> double {
    const int64_t step = element++ / (s.HV * s.K) % std::max<int64_t>(s.T, 1);
    const double u = generator.next_uniform();
    switch (decay) {
      case Decay::none:
        return 0.0;
      case Decay::mild:
        return -0.1 * u;
      case Decay::bounded:
        return -5.0 / (1.0 + std::exp(-2.0 * normal(generator)));
      case Decay::strong:
        return -20.0 * u;
      case Decay::mixed:
        return u < 0.15 ? -20.0 : -0.01 * u;
      case Decay::fives:
        return -5.0;
      case Decay::fastest:
        return -20.0;
      case Decay::blocks:
        return step / 16 % 2 == 1 && u < 0.1 ? -20.0 : -5.0 * u;
      case Decay::resets:
        break;
    }
    return step % 5 == 2 ? -20.0 : -0.01 * u;
  });
}

Tensor write_strengths(const KDAShape& s, Generator& generator) {
  return filled({s.B, s.T, s.HV}, [&generator]() -> double {
    const double u = generator.next_uniform();
    if (u < 0.1) {
      return 0.0;
    }
    if (u < 0.2) {
      return 1.0;
    }
    return u < 0.3 ? 2.0 : u;
  });
}

}  // namespace

KDACase make_case(const KDAShape& s, const kda::Options& options, uint64_t seed, Decay decay, Keys keys,
                  bool with_state) {
  Generator generator(seed);
  KDACase c;
  c.options = options;
  c.inputs.q = normals({s.B, s.T, s.H, s.K}, generator);
  c.inputs.k = options.use_qk_l2norm ? normals({s.B, s.T, s.H, s.K}, generator) : unit_keys(s, keys, generator);
  c.inputs.v = normals({s.B, s.T, s.HV, s.V}, generator);
  c.inputs.g =
      options.gate == kda::Gate::none ? log_decays(s, decay, generator) : normals({s.B, s.T, s.HV, s.K}, generator);
  c.inputs.beta = options.use_beta_sigmoid ? normals({s.B, s.T, s.HV}, generator) : write_strengths(s, generator);
  if (options.gate != kda::Gate::none) {
    c.inputs.A_log = normals({s.HV}, generator);
    c.inputs.dt_bias = normals({s.HV * s.K}, generator);
  }
  int64_t states = s.B;
  if (!s.lengths.empty()) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : s.lengths) {
      bounds.push_back(bounds.back() + length);
    }
    c.inputs.cu_seqlens = from_vector(bounds);
    states = static_cast<int64_t>(s.lengths.size());
  }
  const Shape state = options.state_v_first ? Shape{states, s.HV, s.V, s.K} : Shape{states, s.HV, s.K, s.V};
  if (with_state) {
    c.inputs.initial_state = normals(state, generator);
  }
  c.d_o = normals({s.B, s.T, s.HV, s.V}, generator);
  if (options.output_final_state) {
    c.d_ht = normals(state, generator);
  }
  return c;
}

std::vector<Implementation> implementations() {
  return {{"kda::recurrent", &kda::recurrent, false},
          {"kda::chunk", &kda::chunk, false},
          {"kda::fused_recurrent", &kda::fused_recurrent, true},
          {"kda::fused_chunk", &kda::fused_chunk, true}};
}

NamedResults run_case(KDAFunction function, const KDACase& c) {
  std::vector<std::pair<std::string, Tensor>> leaves;
  const auto leaf = [&leaves](const char* name, const Tensor& x) {
    if (!x.defined()) {
      return Tensor();
    }
    Tensor copy = x.detach();
    copy.set_requires_grad();
    leaves.emplace_back(name, copy);
    return copy;
  };
  kda::Inputs inputs;
  inputs.q = leaf("dq", c.inputs.q);
  inputs.k = leaf("dk", c.inputs.k);
  inputs.v = leaf("dv", c.inputs.v);
  inputs.g = leaf("dg", c.inputs.g);
  inputs.beta = leaf("dbeta", c.inputs.beta);
  inputs.A_log = leaf("dA_log", c.inputs.A_log);
  inputs.dt_bias = leaf("ddt_bias", c.inputs.dt_bias);
  inputs.initial_state = leaf("dh0", c.inputs.initial_state);
  inputs.cu_seqlens = c.inputs.cu_seqlens;
  inputs.segment_ids = c.inputs.segment_ids;
  const kda::Output out = function(inputs, c.options);

  NamedResults results{{"o", out.o.detach()}};
  std::vector<Tensor> outputs;
  std::vector<Tensor> upstream;
  if (c.d_o.defined()) {
    outputs.push_back(out.o);
    upstream.push_back(c.d_o);
  }
  if (c.options.output_final_state) {
    results.emplace_back("ht", out.final_state.detach());
    if (c.d_ht.defined() && out.final_state.requires_grad()) {
      outputs.push_back(out.final_state);
      upstream.push_back(c.d_ht);
    }
  }
  if (c.options.output_h && c.return_h) {
    results.emplace_back("h", out.h);
  }
  std::vector<Tensor> wanted;
  wanted.reserve(leaves.size());
  for (const auto& named : leaves) {
    wanted.push_back(named.second);
  }
  BackwardOptions options;
  options.allow_unused = true;
  const std::vector<Tensor> gradients =
      outputs.empty() ? std::vector<Tensor>(wanted.size()) : grad(outputs, wanted, upstream, options);
  for (size_t i = 0; i < leaves.size(); ++i) {
    // Without time steps nothing depends on the other inputs.
    results.emplace_back(leaves[i].first, gradients[i].defined() ? gradients[i] : zeros_like(wanted[i]));
  }
  return results;
}

kda::Output plain_loops(const KDACase& c) {
  const kda::Inputs& in = c.inputs;
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  const int64_t HV = in.v.size(2), V = in.v.size(3);
  const double scale = c.options.scale.value_or(1.0 / std::sqrt(static_cast<double>(K)));
  const auto q = in.q.to_vector<double>(), k = in.k.to_vector<double>(), v = in.v.to_vector<double>();
  const auto g = in.g.to_vector<double>(), beta = in.beta.to_vector<double>();
  const bool varlen = in.cu_seqlens.defined();
  const auto bounds = varlen ? in.cu_seqlens.to_vector<int64_t>() : std::vector<int64_t>{0, T};
  const int64_t N = varlen ? in.cu_seqlens.numel() - 1 : B;
  std::vector<double> states(static_cast<size_t>(N * HV * K * V), 0.0);
  if (in.initial_state.defined()) {
    states = in.initial_state.to_vector<double>();
  }
  std::vector<double> o(static_cast<size_t>(B * T * HV * V), 0.0);
  const auto at = [](int64_t index) { return static_cast<size_t>(index); };
  for (int64_t n = 0; n < N; ++n) {
    const int64_t b = varlen ? 0 : n;
    for (int64_t t = bounds[varlen ? at(n) : 0]; t < bounds[varlen ? at(n + 1) : 1]; ++t) {
      for (int64_t hv = 0; hv < HV; ++hv) {
        const size_t key = at(((b * T + t) * H + hv / (HV / H)) * K);
        const size_t gate = at(((b * T + t) * HV + hv) * K);
        const size_t value = at(((b * T + t) * HV + hv) * V);
        for (int64_t j = 0; j < V; ++j) {
          const auto S = [&](int64_t i) -> double& {
            return states[c.options.state_v_first ? at(((n * HV + hv) * V + j) * K + i)
                                                  : at(((n * HV + hv) * K + i) * V + j)];
          };
          double predicted = 0.0;
          for (int64_t i = 0; i < K; ++i) {
            S(i) *= std::exp(g[gate + at(i)]);
            predicted += S(i) * k[key + at(i)];
          }
          const double delta = beta[at((b * T + t) * HV + hv)] * (v[value + at(j)] - predicted);
          for (int64_t i = 0; i < K; ++i) {
            S(i) += k[key + at(i)] * delta;
            o[value + at(j)] += scale * S(i) * q[key + at(i)];
          }
        }
      }
    }
  }
  const Shape state = c.options.state_v_first ? Shape{N, HV, V, K} : Shape{N, HV, K, V};
  kda::Output out;
  out.o = from_vector(o, in.v.shape());
  out.final_state = from_vector(states, state);
  return out;
}

KDACase in_dtype(const KDACase& c, DType dtype) {
  KDACase converted = c;
  kda::Inputs& in = converted.inputs;
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state, &converted.d_o,
                    &converted.d_ht}) {
    if (x->defined()) {
      *x = to(*x, dtype);
    }
  }
  return converted;
}

kda::Inputs tokens_of(const kda::Inputs& in, int64_t begin, int64_t end) {
  kda::Inputs part = in;
  for (Tensor* x : {&part.q, &part.k, &part.v, &part.g, &part.beta}) {
    *x = slice(*x, 1, {begin, end});
  }
  return part;
}

Tensor find(const NamedResults& results, const std::string& name) {
  const auto found =
      std::find_if(results.begin(), results.end(), [&name](const auto& result) { return result.first == name; });
  return found == results.end() ? Tensor() : found->second;
}

double relative_error(const Tensor& x, const Tensor& ref) {
  if (!x.defined() || !ref.defined() || !(x.shape() == ref.shape())) {
    return std::numeric_limits<double>::infinity();
  }
  const auto a = x.to_vector<double>();
  const auto b = ref.to_vector<double>();
  if (a.empty()) {
    return 0.0;
  }
  double difference = 0.0;
  double reference = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    reference += b[i] * b[i];
  }
  const auto count = static_cast<double>(a.size());
  const double error = std::sqrt(difference / count) / (std::sqrt(reference / count) + 1e-8);
  return std::isfinite(error) && std::isfinite(reference) ? error : std::numeric_limits<double>::infinity();
}

double largest_difference(const Tensor& x, const Tensor& ref) {
  if (!std::isfinite(relative_error(x, ref))) {
    return std::numeric_limits<double>::infinity();
  }
  const auto a = x.to_vector<double>();
  const auto b = ref.to_vector<double>();
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(a[i] - b[i]));
  }
  return largest;
}

double max_error(const Tensor& x, const Tensor& ref) {
  const double difference = largest_difference(x, ref);
  double largest = 0.0;
  for (const double value : ref.to_vector<double>()) {
    largest = std::max(largest, std::fabs(value));
  }
  return difference == 0.0 ? 0.0 : difference / largest;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) {
    return false;
  }
  const Tensor x = contiguous(a.detach());
  const Tensor y = contiguous(b.detach());
  const auto bytes = static_cast<size_t>(a.numel()) * size_of(a.dtype());
  return bytes == 0 || std::memcmp(x.raw(), y.raw(), bytes) == 0;
}

}  // namespace deltatape::test

#include "tools/kda_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "ops/ops.h"

namespace deltatape::tools {
namespace {

constexpr TensorOptions kF64 = {DType::f64, Device()};

int64_t between(Generator& generator, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(generator.next_below(static_cast<uint64_t>(high - low + 1)));
}

bool coin(Generator& generator) { return generator.next_below(2) == 0; }

std::array<int64_t, 6> draw_shape(Generator& generator, bool varlen) {
  const int64_t heads = between(generator, 1, 2);
  const int64_t batch = varlen ? 1 : between(generator, 1, 2);
  return {batch,
          between(generator, 1, 40),
          heads,
          heads * between(generator, 1, 2),
          between(generator, 1, 9),
          between(generator, 1, 9)};
}

kda::Options draw_options(Generator& generator, const CaseLimits& limits) {
  kda::Options options;
  constexpr std::array<kda::Gate, 3> gates = {kda::Gate::none, kda::Gate::standard, kda::Gate::lower_bound};
  options.gate = gates[static_cast<size_t>(between(generator, 0, 2))];
  if (limits.gate) {
    options.gate = *limits.gate;
  }
  options.lower_bound = coin(generator) ? -5.0 : -1.0;
  if (coin(generator)) {
    options.scale = 0.25 + generator.next_uniform();
  }
  options.use_qk_l2norm = coin(generator);
  options.use_beta_sigmoid = coin(generator);
  options.allow_neg_eigval = options.use_beta_sigmoid && coin(generator);
  options.output_final_state = coin(generator);
  options.state_v_first = coin(generator);
  options.save_intermediates = coin(generator);
  options.safe_gate = options.gate != kda::Gate::standard && coin(generator);  // lower_bound is at least -5 here
  options.chunk_size = int64_t{16} << between(generator, 0, 2);
  return options;
}

// Sequence borders 0 <= ... <= tokens; sequences may be empty.
Tensor draw_borders(Generator& generator, int64_t tokens) {
  std::vector<int64_t> borders = {0, tokens};
  for (int64_t cuts = between(generator, 0, 3); cuts > 0; --cuts) {
    borders.push_back(between(generator, 0, tokens));
  }
  std::sort(borders.begin(), borders.end());
  return from_vector(borders);
}

// Ids of packed rows: runs of random length; an id may come back, and may be negative.
Tensor draw_segments(Generator& generator, int64_t batch, int64_t tokens) {
  std::vector<int64_t> ids;
  for (int64_t b = 0; b < batch; ++b) {
    int64_t id = between(generator, -1, 1);
    for (int64_t t = 0; t < tokens; ++t) {
      id = between(generator, 0, 5) == 0 ? between(generator, -1, 1) : id;
      ids.push_back(id);
    }
  }
  return from_vector(ids, {batch, tokens});
}

const char* name_of(kda::Gate gate) {
  switch (gate) {
    case kda::Gate::none:
      return "none";
    case kda::Gate::standard:
      return "standard";
    case kda::Gate::lower_bound:
      return "lower-bound";
  }
  return "";
}

std::string describe_case(const std::array<int64_t, 6>& s, const KdaCase& c) {
  const kda::Options& options = c.options;
  std::string text = fmt::format("{},{},{},{},{},{} gate={} chunk={}", s[0], s[1], s[2], s[3], s[4], s[5],
                                 name_of(options.gate), options.chunk_size);
  const auto add = [&](bool on, const char* word) { text += on ? std::string(" ") + word : ""; };
  add(c.inputs.A_log.defined(), "A_log");
  add(c.inputs.dt_bias.defined(), "dt_bias");
  add(options.use_qk_l2norm, "l2norm");
  add(options.use_beta_sigmoid, "beta-sigmoid");
  add(options.allow_neg_eigval, "neg-eigval");
  add(c.inputs.initial_state.defined(), "h0");
  add(options.output_final_state, "ht");
  add(options.state_v_first, "v-first");
  add(options.safe_gate, "safe-gate");
  add(options.save_intermediates, "save-intermediates");
  add(c.inputs.cu_seqlens.defined(), "varlen");
  add(c.inputs.segment_ids.defined(), "segment-ids");
  return text;
}

// `inputs` is const or not, and so are the members that `visit` gets.
template <class Inputs, class Visit>
void for_each_input(Inputs& inputs, const Visit& visit) {
  visit("q", inputs.q);
  visit("k", inputs.k);
  visit("v", inputs.v);
  visit("g", inputs.g);
  visit("beta", inputs.beta);
  visit("A_log", inputs.A_log);
  visit("dt_bias", inputs.dt_bias);
  visit("h0", inputs.initial_state);
}

}  // namespace

KdaCase draw_case(uint64_t seed, const CaseLimits& limits) {
  Generator generator(seed);
  const bool varlen = limits.varlen || (!limits.shape && between(generator, 0, 3) == 0);
  const std::array<int64_t, 6> shape = limits.shape ? *limits.shape : draw_shape(generator, varlen);
  const auto [B, T, H, HV, K, V] = shape;
  check(!varlen || B == 1, "--shape", "B is {}, expected 1 with --varlen", B);

  KdaCase c;
  c.seed = seed;
  c.options = draw_options(generator, limits);
  // A vector of one element has no direction: what is left of its gradient behind the norm is rounding.
  c.options.use_qk_l2norm = c.options.use_qk_l2norm && K > 1;
  const auto normal = [&](const Shape& sizes) { return randn(sizes, generator, kF64); };
  // Keys of length near 1, so that a step stays a contraction without the norm, too.
  const double length = 1.0 / std::sqrt(static_cast<double>(K));
  c.inputs.q = mul(normal({B, T, H, K}), length);
  c.inputs.k = mul(normal({B, T, H, K}), length);
  c.inputs.v = normal({B, T, HV, V});
  if (c.options.gate == kda::Gate::none) {
    // Log decays from nearly 0 to about -4, at times to -20, at a distance from 0 that differences do not cross.
    const double strength = between(generator, 0, 3) == 0 ? 2.5 : 0.5;
    c.inputs.g = sub(mul(square(normal({B, T, HV, K})), -strength), 0.01);
  } else {
    c.inputs.g = normal({B, T, HV, K});
    if (c.options.gate == kda::Gate::standard || coin(generator)) {
      c.inputs.A_log = mul(normal({HV}), 0.5);
    }
    if (coin(generator)) {
      c.inputs.dt_bias = normal({HV * K});
    }
  }
  c.inputs.beta = c.options.use_beta_sigmoid ? normal({B, T, HV}) : rand({B, T, HV}, generator, kF64);
  int64_t sequences = B;
  if (varlen) {
    c.inputs.cu_seqlens = draw_borders(generator, T);
    sequences = c.inputs.cu_seqlens.numel() - 1;
  } else if (between(generator, 0, 3) == 0) {
    c.inputs.segment_ids = draw_segments(generator, B, T);
  }
  const Shape state = c.options.state_v_first ? Shape{sequences, HV, V, K} : Shape{sequences, HV, K, V};
  if (coin(generator)) {
    c.inputs.initial_state = normal(state);
  }
  c.d_o = normal({B, T, HV, V});
  if (c.options.output_final_state) {
    c.d_final_state = normal(state);
  }
  c.description = describe_case(shape, c);
  return c;
}

std::vector<std::pair<std::string, Tensor>> differentiable_inputs(const kda::Inputs& inputs) {
  std::vector<std::pair<std::string, Tensor>> result;
  for_each_input(inputs, [&](const char* name, const Tensor& tensor) {
    if (tensor.defined()) {
      result.emplace_back(name, tensor);
    }
  });
  return result;
}

kda::Inputs with_inputs(const kda::Inputs& inputs, const std::vector<Tensor>& replacements) {
  kda::Inputs result = inputs;
  size_t next = 0;
  for_each_input(result, [&](const char*, Tensor& tensor) {
    if (tensor.defined()) {
      tensor = replacements.at(next++);
    }
  });
  return result;
}

}  // namespace deltatape::tools

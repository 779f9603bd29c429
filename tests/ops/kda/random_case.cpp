#include "tests/ops/kda/random_case.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/views.h"

namespace deltatape::test {
namespace {

class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(seed) {}
  /// Uniform in [low, high].
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator_.next_below(static_cast<uint64_t>(high - low + 1)));
  }
  bool chance(double probability) { return generator_.next_uniform() < probability; }
  template <class X>
  X one_of(const std::vector<X>& choices) {
    return choices[static_cast<size_t>(between(0, static_cast<int64_t>(choices.size()) - 1))];
  }

 private:
  Generator generator_;
};

/// Lengths around the borders of tiles and chunks as often as any others.
int64_t draw_steps(Draw& draw) {
  if (draw.chance(0.5)) {
    return draw.one_of<int64_t>({0, 1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 66, 127, 128, 129});
  }
  if (draw.chance(0.03)) {
    return draw.between(250, 600);  // several batches of tiles in the chunk kernel's backward
  }
  return draw.between(1, draw.chance(0.3) ? 150 : 40);
}

KDAShape draw_shape(Draw& draw) {
  KDAShape s;
  s.T = draw_steps(draw);
  s.B = draw.chance(0.02) ? 0 : draw.between(1, s.T > 70 ? 1 : 3);
  s.H = draw.between(1, s.T > 70 ? 1 : 2);
  s.HV = s.H * draw.between(1, s.T > 70 ? 2 : 3);
  s.K = draw.chance(0.5) ? draw.between(1, 12) : draw.between(1, 48);
  s.V = draw.chance(0.5) ? draw.between(1, 12) : draw.between(1, 48);
  if (s.T <= 20 && draw.chance(0.1)) {
    s.K = draw.between(49, 256);
  }
  if (s.T <= 20 && draw.chance(0.1)) {
    s.V = draw.between(49, 256);
  }
  return s;
}

/// Some of the lengths are 0 or 1.
std::vector<int64_t> draw_lengths(Draw& draw, int64_t steps) {
  std::vector<int64_t> lengths;
  int64_t left = steps;
  while (left > 0 && lengths.size() < 6) {
    const int64_t length = draw.chance(0.2) ? 0 : draw.chance(0.2) ? 1 : draw.between(1, left);
    lengths.push_back(length);
    left -= length;
  }
  lengths.push_back(left);
  if (draw.chance(0.3)) {
    lengths.push_back(0);
  }
  return lengths;
}

Tensor draw_segment_ids(Draw& draw, int64_t rows, int64_t steps) {
  std::vector<int64_t> ids;
  for (int64_t b = 0; b < rows; ++b) {
    const double change = draw.one_of<double>({0.0, 0.02, 0.1, 0.6});
    int64_t id = draw.between(-2, 2);
    for (int64_t t = 0; t < steps; ++t) {
      if (draw.chance(change)) {
        id = draw.between(-2, 2);  // may come back, or stay
      }
      ids.push_back(id);
    }
  }
  return to(from_vector(ids, {rows, steps}), draw.chance(0.5) ? DType::i64 : DType::i32);
}

kda::Options draw_options(Draw& draw) {
  kda::Options o;
  o.gate = draw.one_of<kda::Gate>({kda::Gate::none, kda::Gate::none, kda::Gate::standard, kda::Gate::lower_bound});
  o.lower_bound = draw.one_of<double>({-0.1, -1.0, -5.0, -5.0, -20.0});
  const bool may_be_safe = o.gate == kda::Gate::none || (o.gate == kda::Gate::lower_bound && o.lower_bound >= -5.0);
  o.safe_gate = may_be_safe && draw.chance(0.5);
  if (draw.chance(0.3)) {
    o.scale = draw.one_of<double>({1.0, 0.25, -0.7, 3.0});
  }
  o.use_qk_l2norm = draw.chance(0.4);
  o.use_beta_sigmoid = draw.chance(0.4);
  o.allow_neg_eigval = o.use_beta_sigmoid && draw.chance(0.5);
  o.output_final_state = draw.chance(0.7);
  o.output_h = draw.chance(0.3);
  o.save_intermediates = draw.chance(0.5);
  o.state_v_first = draw.chance(0.4);
  o.chunk_size = draw.one_of<int64_t>({16, 32, 64});
  return o;
}

/// beta as given: all 0, all 1, all 2, or a mixture.
Tensor draw_constant_beta(Draw& draw, const Tensor& beta) {
  return full(beta.shape(), draw.one_of<double>({0.0, 1.0, 2.0}), beta.options());
}

/// The same elements inside a larger tensor: not dense.
Tensor in_a_larger_one(const Tensor& x) {
  const Tensor wide = cat({x, full(x.shape(), std::nan(""), x.options())}, -1);
  return slice(wide, -1, {0, x.size(-1)});
}

}  // namespace

RandomCase random_case(uint64_t seed) {
  Draw draw(seed ^ 0x6b6461);
  KDAShape shape = draw_shape(draw);
  const kda::Options options = draw_options(draw);
  const bool packed = draw.chance(0.3);
  if (packed) {
    shape.B = 1;
    shape.lengths = draw_lengths(draw, shape.T);
  }
  const auto decay = static_cast<Decay>(draw.between(0, static_cast<int64_t>(Decay::blocks)));
  const auto keys = draw.chance(0.5) ? Keys::random : static_cast<Keys>(draw.between(1, 3));
  const bool with_state = draw.chance(0.6);
  RandomCase r;
  r.c = make_case(shape, options, seed, decay, keys, with_state);
  r.c.return_h = true;
  kda::Inputs& in = r.c.inputs;
  const bool segmented = !packed && draw.chance(0.3);
  if (segmented) {
    in.segment_ids = draw_segment_ids(draw, shape.B, shape.T);
  }
  if (packed && draw.chance(0.5)) {
    in.cu_seqlens = to(in.cu_seqlens, DType::i32);
  }
  const bool constant_beta = !options.use_beta_sigmoid && draw.chance(0.3);
  if (constant_beta) {
    in.beta = draw_constant_beta(draw, in.beta);
  }
  if (options.gate == kda::Gate::lower_bound && draw.chance(0.4)) {
    in.A_log = Tensor();
  }
  if (draw.chance(0.3)) {
    in.dt_bias = Tensor();
  }
  const bool views = draw.chance(0.2);
  if (views) {
    for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) {
      *x = in_a_larger_one(*x);
    }
  }
  const int64_t loss = options.output_final_state ? draw.between(0, 3) : 0;  // on o, on ht, on both
  if (loss == 1) {
    r.c.d_o = Tensor();
  } else if (loss == 0) {
    r.c.d_ht = Tensor();
  }
  r.text = fmt::format(
      "seed {}: B {} T {} H {} HV {} K {} V {} lengths {}; decay {} keys {}; gate {} lower_bound {} A_log {} dt_bias "
      "{} "
      "safe_gate {} l2norm {} sigmoid {} neg_eigval {} constant beta {} scale {}; h0 {} ht {} v_first {} h {} save {} "
      "chunk_size {}; segments {}; views {}; loss on o {}, on ht {}",
      seed, shape.B, shape.T, shape.H, shape.HV, shape.K, shape.V, shape.lengths, static_cast<int>(decay),
      static_cast<int>(keys), static_cast<int>(options.gate), options.lower_bound, in.A_log.defined(),
      in.dt_bias.defined(), options.safe_gate, options.use_qk_l2norm, options.use_beta_sigmoid,
      options.allow_neg_eigval, constant_beta, options.scale.value_or(0.0), with_state, options.output_final_state,
      options.state_v_first, options.output_h, options.save_intermediates, options.chunk_size, segmented, views,
      loss != 1, options.output_final_state && loss != 0);
  return r;
}

}  // namespace deltatape::test

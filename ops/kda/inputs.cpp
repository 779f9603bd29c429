#include "ops/kda/inputs.h"

#include <cmath>

#include "autograd/record.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/chunk_layout.h"
#include "ops/kda/gate.h"
#include "ops/norm.h"
#include "ops/sequences.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

bool is_16_bit(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

void check_present(std::string_view function, std::string_view name, const Tensor& x, std::string_view layout) {
  check(x.defined(), function, "{} is missing, expected a tensor {}", name, layout);
}

void check_rank(std::string_view function, std::string_view name, const Tensor& x, int rank, std::string_view layout) {
  check(x.rank() == rank, function, "{} has shape {}, expected {} dimensions {}", name, x.shape(), rank, layout);
}

void check_shape(std::string_view function, std::string_view name, const Tensor& x, std::string_view layout,
                 const Shape& expected) {
  check(x.shape() == expected, function, "{} has shape {}, expected {} = {}", name, x.shape(), layout, expected);
}

/// `like` is q. Parameters and states may be f32 beside 16-bit activations.
void check_kind(std::string_view function, std::string_view name, const Tensor& x, const Tensor& like,
                bool may_be_wider) {
  const bool wider = may_be_wider && is_16_bit(like.dtype()) && x.dtype() == DType::f32;
  check(x.dtype() == like.dtype() || wider, function, "{} has dtype {}, expected {}{} as q", name, x.dtype(),
        like.dtype(), may_be_wider && is_16_bit(like.dtype()) ? " or f32" : "");
  check(x.device() == like.device(), function, "{} is on {}, expected {} as q", name, x.device(), like.device());
}

/// A_log and dt_bias against the gate.
void check_gate_parameters(std::string_view function, const Inputs& in, Gate gate) {
  if (gate == Gate::none) {
    check(!in.A_log.defined(), function, "A_log is given and the gate is none, expected no A_log");
    check(!in.dt_bias.defined(), function, "dt_bias is given and the gate is none, expected no dt_bias");
  }
  if (gate == Gate::standard) {
    check(in.A_log.defined(), function, "A_log is missing, expected a tensor [HV] for the standard gate");
  }
}

/// Where each row is cut: a segment begins at every id that differs from the one before. Every row has at least one.
std::vector<Sequence> segments_of(std::string_view function, const Inputs& in, int64_t B, int64_t T) {
  check(!in.cu_seqlens.defined(), function, "segment_ids and cu_seqlens are both given, expected at most one of them");
  const Tensor& ids = in.segment_ids;
  check(ids.dtype() == DType::i64 || ids.dtype() == DType::i32, function,
        "segment_ids has dtype {}, expected i64 or i32", ids.dtype());
  check_shape(function, "segment_ids", ids, "[B, T]", {B, T});
  check(ids.device() == in.q.device(), function, "segment_ids is on {}, expected {} as q", ids.device(), in.q.device());
  const std::vector<int64_t> id = to(ids, Device::cpu()).to_vector<int64_t>();
  std::vector<Sequence> sequences;
  for (int64_t b = 0; b < B; ++b) {
    sequences.push_back({.row = b, .begin = 0, .end = T, .state_in = b});
    for (int64_t t = 1; t < T; ++t) {
      const auto at = static_cast<size_t>(b * T + t);
      if (id[at] != id[at - 1]) {
        sequences.back().end = t;
        sequences.push_back({.row = b, .begin = t, .end = T});
      }
    }
    sequences.back().state_out = b;
  }
  return sequences;
}

/// One sequence per batch row, or per entry of cu_seqlens.
std::vector<Sequence> sequences_of(const Problem& p) {
  std::vector<Sequence> sequences;
  for (int64_t n = 0; n < p.N; ++n) {
    const auto i = static_cast<size_t>(n);
    sequences.push_back({.row = p.varlen ? 0 : n,
                         .begin = p.varlen ? p.bounds[i] : 0,
                         .end = p.varlen ? p.bounds[i + 1] : p.T,
                         .state_in = n,
                         .state_out = n});
  }
  return sequences;
}

}  // namespace

void check_options(std::string_view function, const Options& options) {
  check_chunk_size(function, options.chunk_size);
  check(options.workspace_limit > 0, function, "workspace_limit is {}, expected 1 or more bytes",
        options.workspace_limit);
  check(!options.scale || std::isfinite(*options.scale), function, "scale is {}, expected a finite number",
        options.scale.value_or(0.0));
  check(!options.allow_neg_eigval || options.use_beta_sigmoid, function,
        "allow_neg_eigval is true and use_beta_sigmoid false, expected both true (beta as given may reach 2 anyway)");
  check(!std::isnan(options.lower_bound), function, "lower_bound is nan, expected a finite number below 0");
  switch (options.gate) {
    case Gate::none:
      break;
    case Gate::standard:
      check(!options.safe_gate, function,
            "safe_gate is true and the gate standard, which has no lower bound, expected the lower-bound gate or none");
      break;
    case Gate::lower_bound:
      check(std::isfinite(options.lower_bound) && options.lower_bound < 0.0, function,
            "lower_bound is {}, expected a finite number below 0", options.lower_bound);
      check(!options.safe_gate || options.lower_bound >= -5.0, function,
            "lower_bound is {} and safe_gate true, expected a lower_bound in [-5, 0)", options.lower_bound);
      break;
    default:
      fail(function, "gate is {}, expected none, standard or lower_bound", static_cast<int>(options.gate));
  }
}

Problem check_inputs(std::string_view function, const Inputs& in, const Options& options) {
  check_present(function, "q", in.q, "[B, T, H, K]");
  check_present(function, "k", in.k, "[B, T, H, K]");
  check_present(function, "v", in.v, "[B, T, HV, V]");
  check_present(function, "g", in.g, "[B, T, HV, K]");
  check_present(function, "beta", in.beta, "[B, T, HV]");
  check_options(function, options);
  check_gate_parameters(function, in, options.gate);

  check_rank(function, "q", in.q, 4, "[B, T, H, K]");
  check_rank(function, "v", in.v, 4, "[B, T, HV, V]");
  Problem p;
  p.B = in.q.size(0);
  p.T = in.q.size(1);
  p.H = in.q.size(2);
  p.K = in.q.size(3);
  p.HV = in.v.size(2);
  p.V = in.v.size(3);
  check(p.H > 0 && p.K > 0, function, "q has shape {}, expected H and K of at least 1 in [B, T, H, K]", in.q.shape());
  check_shape(function, "k", in.k, "[B, T, H, K]", {p.B, p.T, p.H, p.K});
  check_shape(function, "v", in.v, "[B, T, HV, V]", {p.B, p.T, p.HV, p.V});
  check(p.HV > 0 && p.V > 0 && p.HV % p.H == 0, function,
        "v has shape {}, expected [B, T, HV, V] with HV a multiple of H = {} and V of at least 1", in.v.shape(), p.H);
  check_shape(function, "g", in.g, "[B, T, HV, K]", {p.B, p.T, p.HV, p.K});
  check_shape(function, "beta", in.beta, "[B, T, HV]", {p.B, p.T, p.HV});

  check(is_floating(in.q.dtype()), function, "q has dtype {}, expected a floating-point one", in.q.dtype());
  check_kind(function, "k", in.k, in.q, false);
  check_kind(function, "v", in.v, in.q, false);
  check_kind(function, "g", in.g, in.q, false);
  check_kind(function, "beta", in.beta, in.q, false);
  if (in.A_log.defined()) {
    check_shape(function, "A_log", in.A_log, "[HV]", {p.HV});
    check_kind(function, "A_log", in.A_log, in.q, true);
  }
  if (in.dt_bias.defined()) {
    check_shape(function, "dt_bias", in.dt_bias, "[HV*K]", {p.HV * p.K});
    check_kind(function, "dt_bias", in.dt_bias, in.q, true);
  }

  p.varlen = in.cu_seqlens.defined();
  p.bounds = p.varlen ? checked_cu_seqlens(function, in.cu_seqlens, p.B, p.T) : std::vector<int64_t>{0, p.T};
  p.N = p.varlen ? static_cast<int64_t>(p.bounds.size()) - 1 : p.B;
  p.segmented = in.segment_ids.defined();
  p.sequences = p.segmented ? segments_of(function, in, p.B, p.T) : sequences_of(p);
  if (in.initial_state.defined()) {
    if (options.state_v_first) {
      check_shape(function, "initial_state", in.initial_state, "[N, HV, V, K]", {p.N, p.HV, p.V, p.K});
    } else {
      check_shape(function, "initial_state", in.initial_state, "[N, HV, K, V]", {p.N, p.HV, p.K, p.V});
    }
    check_kind(function, "initial_state", in.initial_state, in.q, true);
  }
  p.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(p.K)));
  p.compute_dtype = in.q.dtype() == DType::f64 ? DType::f64 : DType::f32;
  return p;
}

KernelProblem kernel_problem(const Problem& p, const Options& options, Form form) {
  KernelProblem k;
  k.B = p.B;
  k.T = p.T;
  k.H = p.H;
  k.HV = p.HV;
  k.K = p.K;
  k.V = p.V;
  k.sequences = p.sequences;
  k.form = form;
  k.scale = p.scale;
  k.gate = options.gate;
  k.lower_bound = options.lower_bound;
  k.l2norm = options.use_qk_l2norm;
  k.beta_sigmoid = options.use_beta_sigmoid;
  k.beta_factor = options.allow_neg_eigval ? 2.0 : 1.0;
  k.safe_gate = options.safe_gate;
  k.state_v_first = options.state_v_first;
  k.chunk_size = options.chunk_size;
  k.compute_dtype = p.compute_dtype;
  k.save_intermediates = options.save_intermediates;
  k.workspace_limit = options.workspace_limit;
  return k;
}

int64_t count_blocks(const std::vector<Sequence>& sequences, int64_t steps) {
  int64_t count = 0;
  for (const Sequence& sequence : sequences) {
    count += (sequence.length() + steps - 1) / steps;
  }
  return count;
}

Shape h_shape(const Problem& p, const Options& options) {
  const bool rows = !p.varlen && !p.segmented;
  const int64_t chunks =
      rows ? (p.T + options.chunk_size - 1) / options.chunk_size : count_blocks(p.sequences, options.chunk_size);
  return options.state_v_first ? Shape{rows ? p.B : 1, chunks, p.HV, p.V, p.K}
                               : Shape{rows ? p.B : 1, chunks, p.HV, p.K, p.V};
}

Tensor repeat_heads(const Tensor& x, int64_t HV) {
  const Shape& s = x.shape();
  if (s[2] == HV) {
    return x;
  }
  return reshape(expand(unsqueeze(x, 3), {s[0], s[1], s[2], HV / s[2], s[3]}), {s[0], s[1], HV, s[3]});
}

Operands prepare(const Problem& p, const Inputs& in, const Options& options) {
  const auto computed = [&p](const Tensor& x) { return x.defined() ? to(x, p.compute_dtype) : x; };
  const auto normalized = [&](const Tensor& x) {
    return options.use_qk_l2norm ? l2_normalize(computed(x)) : computed(x);
  };
  Operands x;
  x.q = repeat_heads(mul(normalized(in.q), p.scale), p.HV);
  x.k = repeat_heads(normalized(in.k), p.HV);
  x.v = computed(in.v);
  x.g = apply_gate(options.gate, computed(in.g), computed(in.A_log), computed(in.dt_bias), options.lower_bound);
  x.beta = options.use_beta_sigmoid ? beta_from_logits(computed(in.beta), options.allow_neg_eigval) : computed(in.beta);
  x.initial_state = computed(in.initial_state);
  if (options.state_v_first && x.initial_state.defined()) {
    x.initial_state = transpose(x.initial_state, -1, -2);
  }
  return x;
}

Output finish(const Inputs& in, const Options& options, const Tensor& o, const Tensor& final_state, const Tensor& h) {
  Output out;
  out.o = to(o, in.v.dtype());
  if (options.output_final_state) {
    const Tensor laid_out = options.state_v_first ? contiguous(transpose(final_state, -1, -2)) : final_state;
    out.final_state = in.initial_state.defined() ? to(laid_out, in.initial_state.dtype()) : laid_out;
  }
  if (options.output_h) {
    out.h = clone(options.state_v_first ? transpose(h.detach(), -1, -2) : h.detach());  // nobody else's memory
  }
  return out;
}

Output finish_empty(const Problem& p, const Inputs& in, const Options& options) {
  const TensorOptions computed{p.compute_dtype, in.q.device()};
  std::vector<Tensor> outputs{empty(in.v.shape(), in.v.options())};
  if (options.output_final_state) {
    const Shape shape = options.state_v_first ? Shape{p.N, p.HV, p.V, p.K} : Shape{p.N, p.HV, p.K, p.V};
    outputs.push_back(in.initial_state.defined() ? clone(in.initial_state.detach()) : zeros(shape, computed));
  }
  std::vector<Tensor> inputs;
  std::vector<Tensor> shapes;  // without history
  inputs.reserve(kDifferentiable);
  shapes.reserve(kDifferentiable);
  for (const Tensor* const member : differentiable(in)) {
    inputs.push_back(*member);
    shapes.push_back(member->defined() ? member->detach() : Tensor());
  }
  record_all("kda::no_tokens", outputs, inputs,
             [shapes = std::move(shapes), with_state = options.output_final_state](const RuleContext& c) {
               constexpr size_t kInitialState = kDifferentiable - 1;
               Gradients all(kDifferentiable);
               for (size_t i = 0; i < kDifferentiable; ++i) {
                 if (c.needs_grad(i)) {
                   all[i] = i == kInitialState && with_state ? c.grad(1) : zeros_like(shapes[i]);
                 }
               }
               return all;
             });
  Output out;
  out.o = outputs[0];
  out.final_state = options.output_final_state ? outputs[1] : Tensor();
  if (options.output_h) {
    out.h = zeros(h_shape(p, options), computed);
  }
  return out;
}

}  // namespace deltatape::kda

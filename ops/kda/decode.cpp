#include "ops/kda/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/inplace.h"
#include "ops/joining.h"
#include "ops/kda/inputs.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// A call that passed the checks.
struct DecodeCall {
  Problem problem;             // B = N sequences of T = m tokens
  std::vector<int64_t> first;  // [N], the slot that a sequence starts from; negative: all of it is padding
  std::vector<int64_t> slots;  // [N,m]
  [[nodiscard]] bool live(int64_t sequence, int64_t token) const {
    return first[static_cast<size_t>(sequence)] >= 0 && slots[static_cast<size_t>(sequence * problem.T + token)] >= 0;
  }
};

void check_no_gradient(std::string_view function, std::string_view name, const Tensor& x) {
  check(!x.defined() || !x.requires_grad() || !grad_enabled(), function,
        "{} requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard): a pool has no "
        "gradients",
        name);
}

/// What kda::recurrent takes and decode does not.
void check_absent(std::string_view function, const Inputs& in, const Options& options) {
  check(!in.initial_state.defined(), function, "initial_state is given, expected none: the states are in the pool");
  check(!in.cu_seqlens.defined(), function, "cu_seqlens is given, expected none: every row is a sequence");
  check(!in.segment_ids.defined(), function, "segment_ids is given, expected none: every row is a sequence");
  check(!options.output_final_state, function,
        "output_final_state is true, expected false: the states are in the pool");
  check(!options.output_h, function, "output_h is true, expected false: the states are in the pool");
}

void check_pool(std::string_view function, const Problem& p, const Tensor& pool, const Inputs& in, bool v_first) {
  check_defined(function, "pool", pool);
  const std::string_view names = v_first ? "[P, HV, V, K]" : "[P, HV, K, V]";
  check_rank(function, "pool", pool, 4, names);
  const int64_t P = pool.size(0);
  check_shape(function, "pool", pool, v_first ? Shape{P, p.HV, p.V, p.K} : Shape{P, p.HV, p.K, p.V}, names);
  check_dtype(function, "pool", pool, p.compute_dtype);
  check_same_device(function, "pool", pool, in.q);
  check(pool.is_contiguous(), function, "pool has shape {} and strides {}, expected contiguous memory", pool.shape(),
        pool.strides());
  check(!pool.requires_grad() || pool.is_leaf(), function,
        "pool is part of a graph, expected a tensor without history (detach() gives one on the same memory)");
  check_no_gradient(function, "pool", pool);
}

/// Indices are read on the host, wherever the call runs.
void check_index_tensor(std::string_view function, std::string_view name, const Tensor& x, const Inputs& in) {
  check_index(function, name, x);
  const Device device = in.q.device();
  check(x.device().is_cpu() || x.device() == device, function, "{} is on {}, expected {} as q{}", name, x.device(),
        device, device.is_cpu() ? "" : ", or cpu");
}

/// [N] or nothing, as numbers on the host.
std::vector<int64_t> per_sequence(std::string_view function, std::string_view name, const Tensor& x, const Inputs& in,
                                  int64_t N) {
  if (!x.defined()) {
    return {};
  }
  check_index_tensor(function, name, x, in);
  check_shape(function, name, x, {N}, "[N]");
  return to(x, Device::cpu()).to_vector<int64_t>();
}

std::vector<int64_t> checked_slots(std::string_view function, const Tensor& slots, const Inputs& in, const Problem& p) {
  check_defined(function, "slots", slots);
  check_index_tensor(function, "slots", slots, in);
  if (!(p.T == 1 && slots.rank() == 1)) {
    check_rank(function, "slots", slots, 2, p.T == 1 ? "[N, m] or [N] with m = 1" : "[N, m]");
  }
  check_shape(function, "slots", slots, slots.rank() == 1 ? Shape{p.B} : Shape{p.B, p.T},
              slots.rank() == 1 ? "[N]" : "[N, m]");
  return to(slots, Device::cpu()).to_vector<int64_t>();
}

/// Refuses a slot that two sequences would read or write.
void check_owners(std::string_view function, const DecodeCall& call) {
  constexpr int64_t kBase = -1;
  std::vector<std::tuple<int64_t, int64_t, int64_t>> uses;  // slot, sequence, token
  const int64_t m = call.problem.T;
  for (int64_t n = 0; n < call.problem.B; ++n) {
    const int64_t first = call.first[static_cast<size_t>(n)];
    bool reads = false;
    bool returns = false;  // a token writes where the sequence starts
    for (int64_t j = 0; j < m; ++j) {
      if (call.live(n, j)) {
        const int64_t slot = call.slots[static_cast<size_t>(n * m + j)];
        uses.emplace_back(slot, n, j);
        reads = true;
        returns = returns || slot == first;
      }
    }
    if (reads && !returns) {
      uses.emplace_back(first, n, kBase);
    }
  }
  std::sort(uses.begin(), uses.end());
  const auto name = [](int64_t sequence, int64_t token) {
    return token == kBase ? fmt::format("base_slot[{}]", sequence) : fmt::format("slots[{}][{}]", sequence, token);
  };
  for (size_t i = 0; i + 1 < uses.size(); ++i) {
    const auto& [slot, sequence, token] = uses[i];
    const auto& [next_slot, next_sequence, next_token] = uses[i + 1];
    check(slot != next_slot || sequence == next_sequence, function,
          "{} and {} are both {}, expected no slot in two sequences", name(sequence, token),
          name(next_sequence, next_token), slot);
  }
}

DecodeCall check_decode(std::string_view function, const Inputs& in, const Tensor& pool, const DecodeSlots& slots,
                        const Options& options) {
  check_absent(function, in, options);
  DecodeCall call;
  call.problem = check_inputs(function, in, options);
  const Problem& p = call.problem;
  const std::array<std::pair<std::string_view, const Tensor*>, 7> inputs{{{"q", &in.q},
                                                                          {"k", &in.k},
                                                                          {"v", &in.v},
                                                                          {"g", &in.g},
                                                                          {"beta", &in.beta},
                                                                          {"A_log", &in.A_log},
                                                                          {"dt_bias", &in.dt_bias}}};
  for (const auto& [name, tensor] : inputs) {
    check_no_gradient(function, name, *tensor);
  }
  check_pool(function, p, pool, in, options.state_v_first);

  const int64_t N = p.B;
  const int64_t m = p.T;
  const int64_t P = pool.size(0);
  call.slots = checked_slots(function, slots.slots, in, p);
  const std::vector<int64_t> accepted = per_sequence(function, "num_accepted", slots.num_accepted, in, N);
  const std::vector<int64_t> base = per_sequence(function, "base_slot", slots.base_slot, in, N);
  const bool counted = slots.num_accepted.defined();
  const bool based = slots.base_slot.defined();
  check(counted || based || m == 1, function,
        "num_accepted and base_slot are both missing with m = {} tokens, expected one of them unless m = 1", m);
  for (int64_t n = 0; n < N; ++n) {
    const auto at = static_cast<size_t>(n);
    for (int64_t j = 0; j < m; ++j) {
      const int64_t slot = call.slots[static_cast<size_t>(n * m + j)];
      check(slot < P, function, "slots[{}][{}] is {}, expected less than P = {} (or a negative number for padding)", n,
            j, slot, P);
    }
    check(!based || base[at] < P, function,
          "base_slot[{}] is {}, expected less than P = {} (or a negative number for padding)", n, based ? base[at] : 0,
          P);
    const int64_t a = counted ? accepted[at] : (based ? 0 : 1);
    check(a >= 0 && a <= m, function, "num_accepted[{}] is {}, expected 0 to m = {}", n, a, m);
    check(a > 0 || based, function, "num_accepted[{}] is 0 and base_slot is missing, expected base_slot [N]", n);
    call.first.push_back(a == 0 ? base[at] : call.slots[static_cast<size_t>(n * m + a - 1)]);
  }
  check_owners(function, call);
  return call;
}

/// Dense, and not in the memory that the kernel writes.
Tensor dense(const Tensor& x, const Tensor& pool) {
  if (!x.defined()) {
    return x;
  }
  return x.storage() == pool.storage() ? clone(x.detach()) : contiguous(x.detach());
}

/// Token j of every sequence, [N,1,..].
Inputs token_of(const Inputs& in, int64_t j) {
  Inputs token = in;
  for (Tensor* const x : {&token.q, &token.k, &token.v, &token.g, &token.beta}) {
    *x = slice(*x, 1, {j, j + 1});
  }
  return token;
}

}  // namespace

Tensor decode(const Inputs& inputs, Tensor& pool, const DecodeSlots& slots, const Options& options) {
  DecodeCall call = check_decode("kda::decode", inputs, pool, slots, options);
  const NoGradGuard guard;
  const KernelInputs in{.q = dense(inputs.q, pool),
                        .k = dense(inputs.k, pool),
                        .v = dense(inputs.v, pool),
                        .g = dense(inputs.g, pool),
                        .beta = dense(inputs.beta, pool),
                        .A_log = dense(inputs.A_log, pool),
                        .dt_bias = dense(inputs.dt_bias, pool),
                        .initial_state = Tensor()};
  const KernelDecode work{.pool = pool.detach(),
                          .first_slot = std::move(call.first),
                          .slots = std::move(call.slots),
                          .o = empty(inputs.v.shape(), inputs.v.options())};
  pool.storage()->bump_version();
  backend_of(pool).kda_decode(kernel_problem(call.problem, options, Form::recurrent), in, work);
  return work.o;
}

Tensor decode_composed(const Inputs& inputs, Tensor& pool, const DecodeSlots& slots, const Options& options) {
  const DecodeCall call = check_decode("kda::decode_composed", inputs, pool, slots, options);
  const Problem& p = call.problem;
  const NoGradGuard guard;
  if (pool.size(0) == 0 || p.B == 0 || p.T == 0) {  // nothing but padding
    return zeros(inputs.v.shape(), inputs.v.options());
  }
  Inputs in = inputs;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias}) {
    *x = dense(*x, pool);
  }
  std::vector<int64_t> first = call.first;
  for (int64_t& slot : first) {
    slot = std::max<int64_t>(slot, 0);  // anything: padding does not look at it
  }
  Options step_options = options;
  step_options.output_final_state = true;

  // A state in 16 bits would not do: recurrent's is f32 beside 16-bit inputs, as the pool is.
  Tensor state = index_select(pool, 0, to(from_vector(first), pool.device()));
  std::vector<Tensor> outputs;
  for (int64_t j = 0; j < p.T; ++j) {
    Inputs token = token_of(in, j);
    token.initial_state = state;
    const Output step = recurrent(token, step_options);
    std::vector<bool> live;
    for (int64_t n = 0; n < p.B; ++n) {
      live.push_back(call.live(n, j));
    }
    const Tensor mask = to(from_vector(live, {p.B, 1, 1, 1}), pool.device());
    state = where(mask, step.final_state, state);
    outputs.push_back(where(mask, step.o, zeros_like(step.o)));
    for (int64_t n = 0; n < p.B; ++n) {
      if (call.live(n, j)) {
        Tensor slot = select(pool.detach(), 0, call.slots[static_cast<size_t>(n * p.T + j)]);
        copy_(slot, select(state, 0, n));
      }
    }
  }
  return cat(outputs, 1);
}

}  // namespace deltatape::kda

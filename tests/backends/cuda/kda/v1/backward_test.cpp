// v1's backward, from tensors to gradients, on the host twin: against the reverse of the token recurrence in double.
#include "backends/cuda/kda/v1/backward.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/v1/forward.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/fused.h"
#include "tests/backends/cuda/kda/v1/call_tensors.h"
#include "tests/backends/cuda/kda/v1/plain_call.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"
#include "tests/gpu/kda/kernel_call.h"
#include "tests/gpu/kda/on_device.h"
#include "tests/support/errors.h"

namespace deltatape::test::kda_v1 {
namespace {

using cuda::host::Schedule;
using cuda::host::ScheduleGuard;
using kda::Gate;

struct BackwardOptions {
  int C = 64;
  bool saved = false;
  bool v_first = false;
  int64_t workspace = kda::kWorkspaceLimit;
  bool d_o = true;
  DType state_dtype = DType::f32;
};

kda::KernelProblem problem_of(const CallShape& s, const BackwardOptions& o) {
  kda::KernelProblem p = call_problem(s);
  p.state_v_first = o.v_first;
  p.chunk_size = o.C;
  p.workspace_limit = o.workspace;
  return p;
}

CallGradients run_backward(const CallShape& s, const CallTensors& x, const BackwardOptions& o) {
  const kda::KernelProblem p = problem_of(s, o);
  const auto N = static_cast<int64_t>(s.sequences.size());
  const Shape qk{1, s.rows, s.H, s.K};
  const Shape v{1, s.rows, s.HV, s.V};
  const Shape g{1, s.rows, s.HV, s.K};
  const Shape beta{1, s.rows, s.HV};
  const Shape state = o.v_first ? Shape{N, s.HV, s.V, s.K} : Shape{N, s.HV, s.K, s.V};
  const auto states = [&](const std::vector<double>& from) {
    return tensor_of(o.v_first ? turned(from, s.K, s.V) : from, state, o.state_dtype);
  };
  kda::KernelInputs in;
  in.q = tensor_of(x.q, qk, DType::bf16);
  in.k = tensor_of(x.k, qk, DType::bf16);
  in.v = tensor_of(x.v, v, DType::bf16);
  in.g = tensor_of(x.g, g, DType::bf16);
  in.beta = tensor_of(x.beta, beta, DType::bf16);
  in.A_log = tensor_of(x.A_log, {s.HV}, DType::f32);
  in.dt_bias = tensor_of(x.dt_bias, {s.HV * s.K}, DType::f32);
  in.initial_state = states(x.h0);
  kda::KernelUpstream up;
  up.d_o = o.d_o ? tensor_of(x.d_o, v, DType::bf16) : Tensor();
  up.d_final_state = states(x.dht);
  const auto like = [](const Tensor& t) { return t.defined() ? empty(t.shape(), {t.dtype(), t.device()}) : Tensor(); };
  if (o.saved) {
    kda::KernelOutputs out;
    out.o = like(in.v);
    out.saved = empty(cuda::kda::v1::saved_shape(p, Device::cuda()), {DType::bf16, Device::cuda()});
    cuda::kda::v1::forward(p, in, out);
    up.saved = out.saved;
  }
  const kda::KernelGradients d{like(in.q),    like(in.k),     like(in.v),       like(in.g),
                               like(in.beta), like(in.A_log), like(in.dt_bias), like(in.initial_state)};
  cuda::kda::v1::backward(p, in, up, d);
  CallGradients got{numbers_of(d.dq),    numbers_of(d.dk),     numbers_of(d.dv),       numbers_of(d.dg),
                    numbers_of(d.dbeta), numbers_of(d.dA_log), numbers_of(d.ddt_bias), numbers_of(d.d_initial_state)};
  if (o.v_first) {
    got.dh0 = turned(got.dh0, s.V, s.K);
  }
  return got;
}

/// Of short sequences: single elements weigh more than in the limits' 512 tokens, so the worst set's limits hold for
/// all.
constexpr RoundingErrors kShortLimits{.0070, .0067, .0070, .0070, .0070, .0067, .0138, .0067};

void check_gradients(const CallShape& s, const CallTensors& x, const CallGradients& got, const RoundingErrors& limits) {
  const CallGradients expected = plain_gradients(s, x);
  CAPTURE(s.rows);
  CAPTURE(s.K);
  CAPTURE(s.V);
  CHECK(relative_rms(got.dq, expected.dq) <= kRoundingAllowance * limits.dq);
  CHECK(relative_rms(got.dk, expected.dk) <= kRoundingAllowance * limits.dk);
  CHECK(relative_rms(got.dv, expected.dv) <= kRoundingAllowance * limits.dv);
  CHECK(relative_rms(got.dg, expected.dg) <= kRoundingAllowance * limits.dg);
  CHECK(relative_rms(got.dbeta, expected.dbeta) <= kRoundingAllowance * limits.dbeta);
  if (s.h0) {
    CHECK(relative_rms(got.dh0, expected.dh0) <= kRoundingAllowance * limits.dh0);
  }
  if (s.A_log) {
    CHECK(relative_rms(got.dA_log, expected.dA_log) <= kRoundingAllowance * limits.dg);
  }
  if (s.dt_bias) {
    CHECK(relative_rms(got.ddt_bias, expected.ddt_bias) <= kRoundingAllowance * limits.dg);
  }
}
void check_case(const CallShape& s, GateSet set, const BackwardOptions& o = {}) {
  const CallTensors x = draw_call(s, set, 17);
  CAPTURE(name_of(set));
  CAPTURE(o.C);
  check_gradients(s, x, run_backward(s, x, o), kShortLimits);
}

CallShape one_sequence(int T, int K, int V) {
  CallShape s;
  s.rows = T;
  s.K = K;
  s.V = V;
  s.sequences = {{0, T}};
  return s;
}

TEST_CASE("kda v1 backward: every length around the borders of chunks and blocks") {
  for (const int T : {1, 15, 16, 17, 63, 64, 65, 130, 200}) {
    for (const int C : {64, 32}) {
      CallShape s = one_sequence(T, 64, 64);
      s.h0 = s.dht = true;
      check_case(s, GateSet::mixed, {.C = C});
    }
  }
}

TEST_CASE("kda v1 backward: all head sizes, states in both layouts and dtypes, A kept or solved again") {
  for (const int K : {64, 128}) {
    for (const int V : {64, 128}) {
      for (const int C : {64, 32}) {
        CallShape s = one_sequence(100, K, V);
        check_case(s, GateSet::slow, {.C = C, .saved = true});
        s.h0 = s.dht = true;
        check_case(s, GateSet::steep, {.C = C, .v_first = true});
      }
    }
  }
  CallShape s = one_sequence(70, 64, 64);
  s.h0 = s.dht = true;
  BackwardOptions o;
  o.state_dtype = DType::bf16;
  CallTensors x = draw_call(s, GateSet::mixed, 3);
  for (auto* states : {&x.h0, &x.dht}) {
    for (auto& y : *states) {
      y = static_cast<double>(nearest_bf16(static_cast<float>(y)));
    }
  }
  check_gradients(s, x, run_backward(s, x, o), kShortLimits);
}

TEST_CASE("kda v1 backward: all ends, every gate") {
  for (const Gate gate : {Gate::none, Gate::standard, Gate::lower_bound}) {
    for (const bool parameters : {false, true}) {
      if (gate == Gate::standard && !parameters) {
        continue;
      }
      CallShape s = one_sequence(100, 64, 64);
      s.HV = s.H = 2;
      s.gate = gate;
      s.A_log = s.dt_bias = parameters && gate != Gate::none;
      s.l2norm = s.beta_sigmoid = true;
      s.beta_factor = parameters ? 2 : 1;
      s.h0 = s.dht = true;
      check_case(s, GateSet::mixed, {.C = parameters ? 64 : 32});
    }
  }
}

TEST_CASE("kda v1 backward: sequences, empty ones among them, groups of value heads, launches of a few heads") {
  CallShape s = one_sequence(140, 64, 64);
  s.sequences = {{0, 0}, {0, 70}, {70, 71}, {71, 71}, {71, 135}, {135, 140}};
  s.H = 2;
  s.HV = 6;
  s.l2norm = true;
  s.gate = Gate::lower_bound;
  s.A_log = s.dt_bias = true;
  s.h0 = s.dht = true;
  check_case(s, GateSet::mixed);
  check_case(s, GateSet::mixed, {.workspace = 1});
  s.l2norm = false;
  check_case(s, GateSet::mixed, {.saved = true, .workspace = 1});
}

TEST_CASE("kda v1 backward: no gradient of o, no gradient of the final state") {
  CallShape s = one_sequence(70, 64, 64);
  s.h0 = s.dht = true;
  CallTensors x = draw_call(s, GateSet::mixed, 5);
  const CallGradients got = run_backward(s, x, {.d_o = false});
  std::fill(x.d_o.begin(), x.d_o.end(), 0.0);
  const CallGradients expected = plain_gradients(s, x);
  for (const double y : got.dq) {
    CHECK(y == 0.0);
  }
  CHECK(relative_rms(got.dk, expected.dk) <= kRoundingAllowance * kShortLimits.dk);
  CHECK(relative_rms(got.dh0, expected.dh0) <= kRoundingAllowance * kShortLimits.dh0);
  s.dht = false;
  check_case(s, GateSet::mixed);
}

TEST_CASE("kda v1 backward: the rounding of every gate set [slow]") {
  for (const GateSet set : kGateSets) {
    const CallShape s = one_sequence(512, 128, 128);
    const CallTensors x = draw_call(s, set, 11);
    CAPTURE(name_of(set));
    const CallGradients expected = plain_gradients(s, x);
    const CallGradients got = run_backward(s, x, {});
    MESSAGE(name_of(set) << ": dq " << relative_rms(got.dq, expected.dq) << " dk " << relative_rms(got.dk, expected.dk)
                         << " dv " << relative_rms(got.dv, expected.dv) << " dg " << relative_rms(got.dg, expected.dg)
                         << " dbeta " << relative_rms(got.dbeta, expected.dbeta));
    check_gradients(s, x, got, emulated_errors(set));
  }
}

TEST_CASE("kda v1 backward: the same bits in every order of blocks and warps") {
  CallShape s = one_sequence(150, 64, 64);
  s.sequences = {{0, 100}, {100, 150}};
  s.HV = 2;
  s.h0 = s.dht = s.l2norm = true;
  s.gate = Gate::lower_bound;
  s.A_log = s.dt_bias = true;
  const CallTensors x = draw_call(s, GateSet::mixed, 2);
  const CallGradients first = run_backward(s, x, {});
  for (const Schedule::Blocks blocks : {Schedule::Blocks::backward, Schedule::Blocks::shuffled}) {
    const ScheduleGuard guard({.blocks = blocks, .seed = 3, .deferred = true});
    const CallGradients again = run_backward(s, x, {});
    CHECK(again.dq == first.dq);
    CHECK(again.dk == first.dk);
    CHECK(again.dv == first.dv);
    CHECK(again.dg == first.dg);
    CHECK(again.dbeta == first.dbeta);
    CHECK(again.dA_log == first.dA_log);
    CHECK(again.ddt_bias == first.ddt_bias);
    CHECK(again.dh0 == first.dh0);
  }
}

TEST_CASE("kda v1 backward: what stands behind a sequence does not reach it") {
  CallShape s = one_sequence(90, 64, 64);
  s.sequences = {{0, 37}, {37, 90}};
  s.h0 = s.dht = true;
  CallTensors x = draw_call(s, GateSet::mixed, 8);
  const CallGradients clean = run_backward(s, x, {});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (auto* rows : {&x.q, &x.k, &x.v, &x.g, &x.beta, &x.d_o}) {
    const size_t width = rows->size() / 90;
    std::fill(rows->begin() + static_cast<std::ptrdiff_t>(37 * width), rows->end(), nan);
  }
  const CallGradients got = run_backward(s, x, {});
  const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
    const auto count = static_cast<std::ptrdiff_t>(a.size() / 90 * 37);
    return std::equal(a.begin(), a.begin() + count, b.begin());
  };
  CHECK(same(got.dq, clean.dq));
  CHECK(same(got.dk, clean.dk));
  CHECK(same(got.dv, clean.dv));
  CHECK(same(got.dg, clean.dg));
  CHECK(same(got.dbeta, clean.dbeta));
  CHECK(std::equal(got.dh0.begin(), got.dh0.begin() + 64 * 64, clean.dh0.begin()));
}

TEST_CASE("kda v1 backward: the plan keeps to the working memory") {
  CallShape s = one_sequence(512, 128, 128);
  s.H = s.HV = 8;
  BackwardOptions o;
  const auto whole = cuda::kda::v1::plan_backward(problem_of(s, o), Device::cuda(), true);
  CHECK(whole.heads == 8);
  CHECK(whole.takes_saved);
  o.workspace = whole.bytes / 3;
  const auto sliced = cuda::kda::v1::plan_backward(problem_of(s, o), Device::cuda(), true);
  CHECK(sliced.heads == 2);
  CHECK(sliced.bytes <= o.workspace);
  s.V = 96;
  CHECK(cuda::kda::v1::why_not_backward(problem_of(s, o), DType::bf16, Device::cuda()) ==
        "V is 96 and v1's backward takes 64 and 128");
}

TEST_CASE("kda v1 backward: calls without tokens") {
  kda::Options options;
  options.gate = Gate::standard;
  options.output_final_state = true;
  const KDAShape no_tokens{.B = 2, .T = 0, .H = 1, .HV = 2, .K = 64, .V = 64};
  const KDAShape no_rows{.B = 0, .T = 70, .H = 1, .HV = 2, .K = 64, .V = 64};
  const KDAShape empty_sequences{.B = 1, .T = 0, .H = 1, .HV = 2, .K = 64, .V = 64, .lengths = {0, 0, 0}};
  for (const KDAShape& shape : {no_tokens, no_rows, empty_sequences}) {
    CAPTURE(shape.B);
    CAPTURE(shape.lengths.size());
    const KDACase host = in_dtype(make_case(shape, options, 3), DType::bf16);
    REQUIRE(cuda::kda::v1::why_not_backward(kernel_call(host).problem, DType::bf16, Device::cuda()).empty());
    const NamedResults results = run_case_on_cuda(&kda::fused_chunk, host);
    CHECK(same_bits(find(results, "ht"), host.inputs.initial_state));
    CHECK(same_bits(find(results, "dh0"), host.d_ht));
    for (const char* name : {"dA_log", "ddt_bias"}) {
      CAPTURE(name);
      const Tensor sums = find(results, name);
      CHECK(same_bits(sums, zeros(sums.shape(), sums.options())));
    }
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

// Sequences cut into segments on the host twin: against whole sequences and float64, and when they are cut.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "backends/backend.h"
#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/segment_kernels.h"
#include "backends/cuda/kda/v1/segment_plan.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/stream.h"
#include "ops/creation.h"
#include "tests/backends/cuda/kda/v1/call_tensors.h"
#include "tests/backends/cuda/kda/v1/forward_reference.h"
#include "tests/backends/cuda/kda/v1/plain_call.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"
#include "tests/support/errors.h"

namespace deltatape::test::kda_v1 {
namespace {

namespace v1 = cuda::kda::v1;
using cuda::host::Schedule;
using cuda::host::ScheduleGuard;
using cuda::tile::host::Order;
using cuda::tile::host::Run;

struct Cut {
  std::optional<int64_t> chunks;  // of a segment; 0: whole sequences
  int C = 64;
  bool v_first = false;
  bool saved = false;
  int64_t workspace = kda::kWorkspaceLimit;
  std::vector<int64_t> in = {};   // the number of each sequence's initial state, -1: none; empty: in their order
  std::vector<int64_t> out = {};  // of its final state
};

struct Forward {
  std::vector<double> o;   // [rows,HV,V]
  std::vector<double> h;   // [chunks,HV,K,V]
  std::vector<double> ht;  // [N,HV,K,V]
};

kda::KernelProblem problem_of(const CallShape& s, const Cut& cut) {
  kda::KernelProblem p = call_problem(s);
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    const auto number = static_cast<int64_t>(n);
    p.sequences[n].state_in = !s.h0 ? -1 : cut.in.empty() ? number : cut.in[n];
    p.sequences[n].state_out = cut.out.empty() ? number : cut.out[n];
  }
  p.state_v_first = cut.v_first;
  p.chunk_size = cut.C;
  p.workspace_limit = cut.workspace;
  return p;
}

kda::KernelInputs inputs_of(const CallShape& s, const CallTensors& x, const Cut& cut) {
  const auto N = static_cast<int64_t>(s.sequences.size());
  kda::KernelInputs in;
  in.q = tensor_of(x.q, {1, s.rows, s.H, s.K}, DType::bf16);
  in.k = tensor_of(x.k, {1, s.rows, s.H, s.K}, DType::bf16);
  in.v = tensor_of(x.v, {1, s.rows, s.HV, s.V}, DType::bf16);
  in.g = tensor_of(x.g, {1, s.rows, s.HV, s.K}, DType::bf16);
  in.beta = tensor_of(x.beta, {1, s.rows, s.HV}, DType::bf16);
  in.A_log = tensor_of(x.A_log, {s.HV}, DType::f32);
  in.dt_bias = tensor_of(x.dt_bias, {s.HV * s.K}, DType::f32);
  in.initial_state = tensor_of(cut.v_first ? turned(x.h0, s.K, s.V) : x.h0,
                               cut.v_first ? Shape{N, s.HV, s.V, s.K} : Shape{N, s.HV, s.K, s.V}, DType::f32);
  return in;
}

int64_t chunks_of(const CallShape& s, int C) {
  int64_t chunks = 0;
  for (const auto& [begin, end] : s.sequences) {
    chunks += (end - begin + C - 1) / C;
  }
  return chunks;
}

Forward run_forward(const CallShape& s, const CallTensors& x, const Cut& cut) {
  const kda::KernelProblem p = problem_of(s, cut);
  const auto N = static_cast<int64_t>(s.sequences.size());
  const kda::KernelInputs in = inputs_of(s, x, cut);
  const TensorOptions f32{DType::f32, Device::cuda()};
  const auto states = [&](int64_t count) {
    return empty(cut.v_first ? Shape{count, s.HV, s.V, s.K} : Shape{count, s.HV, s.K, s.V}, f32);
  };
  kda::KernelOutputs out;
  out.o = empty(in.v.shape(), in.v.options());
  out.h = states(chunks_of(s, cut.C));
  out.final_state = states(N);
  if (cut.saved) {
    out.saved = empty(v1::saved_shape(p, Device::cuda()), {DType::bf16, Device::cuda()});
  }
  v1::forward_with({}, p, in, out, cut.chunks);
  Forward got{numbers_of(out.o), numbers_of(out.h), numbers_of(out.final_state)};
  if (cut.v_first) {
    got.h = turned(got.h, s.V, s.K);
    got.ht = turned(got.ht, s.V, s.K);
  }
  return got;
}

Forward plain_forward(const CallShape& s, const CallTensors& x, int C) {
  Forward f;
  const size_t state = static_cast<size_t>(s.K) * static_cast<size_t>(s.V);
  f.o.resize(x.v.size());
  f.ht.resize(s.sequences.size() * static_cast<size_t>(s.HV) * state);
  f.h.resize(static_cast<size_t>(chunks_of(s, C) * s.HV) * state);
  size_t chunk = 0;
  for (int n = 0; n < static_cast<int>(s.sequences.size()); ++n) {
    const auto [begin, end] = s.sequences[static_cast<size_t>(n)];
    size_t chunks = 0;
    for (int head = 0; head < s.HV; ++head) {
      const ForwardResults r = forward_recurrence(head_of(s, x, n, head, false), C);
      const auto hv = static_cast<size_t>(head);
      for (int t = 0; t < end - begin; ++t) {
        for (int c = 0; c < s.V; ++c) {
          f.o[static_cast<size_t>((int64_t{begin + t} * s.HV + head) * s.V + c)] = r.o(t, c);
        }
      }
      const auto copy_state = [&](const std::vector<double>& from, std::vector<double>& to, size_t number) {
        std::copy(from.begin(), from.end(),
                  to.begin() + static_cast<std::ptrdiff_t>((number * static_cast<size_t>(s.HV) + hv) * state));
      };
      copy_state(r.ht.x, f.ht, static_cast<size_t>(n));
      chunks = r.h.size();
      for (size_t c = 0; c < chunks; ++c) {
        copy_state(r.h[c].x, f.h, chunk + c);
      }
    }
    chunk += chunks;
  }
  return f;
}

CallShape one_sequence(int T, int K, int V) {
  CallShape s;
  s.rows = T;
  s.K = K;
  s.V = V;
  s.sequences = {{0, T}};
  return s;
}

/// Sequence n's part of x [states,..], whose number is numbers[n]; zeros where that is -1.
std::vector<double> by_sequence(const std::vector<double>& x, const std::vector<int64_t>& numbers) {
  if (x.empty() || numbers.empty()) {
    return x;
  }
  const size_t size = x.size() / numbers.size();
  std::vector<double> y(x.size());
  for (size_t n = 0; n < numbers.size(); ++n) {
    if (numbers[n] >= 0) {
      std::copy_n(x.begin() + numbers[n] * static_cast<std::ptrdiff_t>(size), size,
                  y.begin() + static_cast<std::ptrdiff_t>(n * size));
    }
  }
  return y;
}
/// What a plain call takes, whose states come in the order of the sequences.
CallTensors by_sequence(CallTensors x, const Cut& cut) {
  x.h0 = by_sequence(x.h0, cut.in);
  x.dht = by_sequence(x.dht, cut.out);
  return x;
}
/// Zeros where there is no such state.
std::vector<double> where_numbered(const std::vector<double>& x, std::vector<int64_t> numbers) {
  for (size_t n = 0; n < numbers.size(); ++n) {
    numbers[n] = numbers[n] >= 0 ? static_cast<int64_t>(n) : -1;
  }
  return by_sequence(x, numbers);
}

void check_forward(const CallShape& s, GateSet set, const Cut& cut) {
  CAPTURE(name_of(set));
  CAPTURE(s.rows);
  CAPTURE(s.K);
  CAPTURE(s.V);
  CAPTURE(cut.C);
  CAPTURE(cut.chunks.value_or(-1));
  const CallTensors x = draw_call(s, set, 23);
  const Forward expected = plain_forward(s, by_sequence(x, cut), cut.C);
  const Forward got = run_forward(s, x, cut);
  const RoundingErrors limits = emulated_errors(set);
  CHECK(relative_rms(got.o, expected.o) <= kRoundingAllowance * limits.o);
  CHECK(relative_rms(got.h, expected.h) <= kRoundingAllowance * limits.ht);
  CHECK(relative_rms(by_sequence(got.ht, cut.out), where_numbered(expected.ht, cut.out)) <=
        kRoundingAllowance * limits.ht);
}

/// Sequences of many lengths, some cut and some not, with groups of value heads. `ends`: gate, norm and sigmoid too;
/// the gate forgets within a chunk, and without it a state reaches far.
CallShape many_sequences(bool ends) {
  CallShape s;
  s.rows = 1200;
  s.K = 64;
  s.V = 64;
  s.H = 2;
  s.HV = 4;
  s.sequences = {{0, 0}, {0, 128}, {128, 129}, {129, 129}, {129, 129 + 450}, {579, 579 + 64}, {643, 1200}};
  s.h0 = s.dht = true;
  s.l2norm = s.beta_sigmoid = s.A_log = s.dt_bias = ends;
  s.gate = ends ? kda::Gate::lower_bound : kda::Gate::none;
  return s;
}

bool same(const Forward& a, const Forward& b) { return a.o == b.o && a.h == b.h && a.ht == b.ht; }

TEST_CASE("kda v1 segments: forward, several cuts, tails, states in both layouts") {
  for (const int64_t chunks : {1, 2, 3}) {
    for (const int T : {64 * 7, 64 * 9 + 1, 64 * 10 - 1}) {
      CallShape s = one_sequence(T, 64, 32);
      check_forward(s, GateSet::slow, {.chunks = chunks});
      s.h0 = true;
      check_forward(s, GateSet::mixed, {.chunks = chunks, .v_first = T % 2 == 1});
    }
  }
  for (const int K : {64, 128}) {
    for (const int V : {16, 80, 128}) {
      for (const int C : {64, 32}) {
        CallShape s = one_sequence(5 * C - 3, K, V);
        s.h0 = true;
        check_forward(s, GateSet::slow, {.chunks = 1, .C = C, .v_first = V == 80});
      }
    }
  }
}

TEST_CASE("kda v1 segments: forward, sequences of which some are cut, groups of value heads") {
  for (const bool ends : {false, true}) {
    const CallShape s = many_sequences(ends);
    check_forward(s, GateSet::slow, {.chunks = 1});
    check_forward(s, GateSet::slow, {.chunks = 2, .v_first = true});
    check_forward(s, GateSet::slow, {.chunks = 2, .C = 32});
  }
}

TEST_CASE("kda v1 segments: forward, the same bits in any order, in launches of few heads, with A kept") {
  const CallShape s = many_sequences(false);
  const CallTensors x = draw_call(s, GateSet::slow, 4);
  const Forward expected = run_forward(s, x, {.chunks = 1});
  CHECK(same(run_forward(s, x, {.chunks = 1}), expected));
  CHECK_FALSE(same(run_forward(s, x, {.chunks = 2}), expected));
  CHECK(same(run_forward(s, x, {.chunks = 1, .saved = true}), expected));
  CHECK(same(run_forward(s, x, {.chunks = 1, .workspace = 1}), expected));
  for (const Schedule::Blocks blocks : {Schedule::Blocks::backward, Schedule::Blocks::shuffled}) {
    const ScheduleGuard guard({.blocks = blocks, .seed = 3, .deferred = true});
    CHECK(same(run_forward(s, x, {.chunks = 1}), expected));
  }
  for (const auto& [order, seed] : {std::pair{Order::reverse, 0U}, std::pair{Order::random, 3U}}) {
    const Run run(order, seed);
    CHECK(same(run_forward(s, x, {.chunks = 1}), expected));
  }
}

TEST_CASE("kda v1 segments: a short sequence has the bits that it has without segments") {
  const CallShape s = many_sequences(false);
  const CallTensors x = draw_call(s, GateSet::slow, 4);
  const Forward cut = run_forward(s, x, {.chunks = 1});
  const Forward whole = run_forward(s, x, {.chunks = 0});
  const auto rows_equal = [&](int begin, int end) {
    const auto at = [&](int row) { return std::ptrdiff_t{row} * s.HV * s.V; };
    return std::equal(cut.o.begin() + at(begin), cut.o.begin() + at(end), whole.o.begin() + at(begin));
  };
  CHECK(rows_equal(0, 129));
  CHECK(rows_equal(579, 643));
  CHECK_FALSE(rows_equal(129, 579));
  CHECK(rows_equal(129, 129 + 64));  // a first segment begins with what the sequence does
}

TEST_CASE("kda v1 segments: errors of forward on the six gate sets [slow]") {
  for (const GateSet set : kGateSets) {
    const CallShape s = one_sequence(512, 128, 128);
    const CallTensors x = draw_call(s, set, 11);
    const Forward expected = plain_forward(s, x, 64);
    const RoundingErrors limits = emulated_errors(set);
    for (const int64_t chunks : {0, 1, 2}) {
      const Forward got = run_forward(s, x, {.chunks = chunks});
      const double o = relative_rms(got.o, expected.o);
      const double ht = relative_rms(got.ht, expected.ht);
      MESSAGE(name_of(set) << ", segments of " << chunks << " chunks: o " << o << " ht " << ht);
      CHECK(o <= kRoundingAllowance * limits.o);
      CHECK(ht <= kRoundingAllowance * limits.ht);
    }
  }
}

/// A of a forward that is whole is kept.
CallGradients run_backward(const CallShape& s, const CallTensors& x, const Cut& cut) {
  const kda::KernelProblem p = problem_of(s, cut);
  const kda::KernelInputs in = inputs_of(s, x, cut);
  const auto N = static_cast<int64_t>(s.sequences.size());
  kda::KernelUpstream up;
  up.d_o = tensor_of(x.d_o, {1, s.rows, s.HV, s.V}, DType::bf16);
  up.d_final_state = tensor_of(cut.v_first ? turned(x.dht, s.K, s.V) : x.dht,
                               cut.v_first ? Shape{N, s.HV, s.V, s.K} : Shape{N, s.HV, s.K, s.V}, DType::f32);
  const auto like = [](const Tensor& t) { return t.defined() ? empty(t.shape(), {t.dtype(), t.device()}) : Tensor(); };
  if (cut.saved) {
    kda::KernelOutputs out;
    out.o = like(in.v);
    out.saved = empty(v1::saved_shape(p, Device::cuda()), {DType::bf16, Device::cuda()});
    v1::forward(p, in, out);
    up.saved = out.saved;
  }
  const kda::KernelGradients d{like(in.q),    like(in.k),     like(in.v),       like(in.g),
                               like(in.beta), like(in.A_log), like(in.dt_bias), like(in.initial_state)};
  v1::backward_with({}, p, in, up, d, cut.chunks);
  CallGradients got{numbers_of(d.dq),    numbers_of(d.dk),     numbers_of(d.dv),       numbers_of(d.dg),
                    numbers_of(d.dbeta), numbers_of(d.dA_log), numbers_of(d.ddt_bias), numbers_of(d.d_initial_state)};
  if (cut.v_first) {
    got.dh0 = turned(got.dh0, s.V, s.K);
  }
  return got;
}

RoundingErrors errors_of(const CallGradients& got, const CallGradients& expected) {
  RoundingErrors e{};
  e.dq = relative_rms(got.dq, expected.dq);
  e.dk = relative_rms(got.dk, expected.dk);
  e.dv = relative_rms(got.dv, expected.dv);
  e.dg = relative_rms(got.dg, expected.dg);
  e.dbeta = relative_rms(got.dbeta, expected.dbeta);
  e.dh0 = got.dh0.empty() ? 0.0 : relative_rms(got.dh0, expected.dh0);
  return e;
}
void check_errors(const RoundingErrors& e, const RoundingErrors& limits) {
  CHECK(e.dq <= kRoundingAllowance * limits.dq);
  CHECK(e.dk <= kRoundingAllowance * limits.dk);
  CHECK(e.dv <= kRoundingAllowance * limits.dv);
  CHECK(e.dg <= kRoundingAllowance * limits.dg);
  CHECK(e.dbeta <= kRoundingAllowance * limits.dbeta);
  CHECK(e.dh0 <= kRoundingAllowance * limits.dh0);
}
void check_backward(const CallShape& s, GateSet set, const Cut& cut) {
  CAPTURE(name_of(set));
  CAPTURE(s.rows);
  CAPTURE(s.K);
  CAPTURE(s.V);
  CAPTURE(cut.C);
  CAPTURE(cut.chunks.value_or(-1));
  const CallTensors x = draw_call(s, set, 29);
  CallGradients expected = plain_gradients(s, by_sequence(x, cut));
  CallGradients got = run_backward(s, x, cut);
  expected.dh0 = where_numbered(expected.dh0, cut.in);
  got.dh0 = by_sequence(got.dh0, cut.in);
  const RoundingErrors limits = emulated_errors(set);
  check_errors(errors_of(got, expected), limits);
  if (s.A_log) {
    // A number per head, whose terms have both signs and cancel: the worst set's limit of dg.
    CHECK(relative_rms(got.dA_log, expected.dA_log) <=
          kRoundingAllowance * emulated_errors(GateSet::correlated_beta2).dg);
  }
  if (s.dt_bias) {
    CHECK(relative_rms(got.ddt_bias, expected.ddt_bias) <= kRoundingAllowance * limits.dg);
  }
}

TEST_CASE("kda v1 segments: backward, several cuts, tails, states in both layouts") {
  for (const int64_t chunks : {1, 2, 3}) {
    for (const int T : {64 * 7, 64 * 10 - 1}) {
      CallShape s = one_sequence(T, 64, 64);
      check_backward(s, GateSet::slow, {.chunks = chunks});
      s.h0 = true;
      check_backward(s, GateSet::mixed, {.chunks = chunks, .saved = true});
      s.dht = true;
      check_backward(s, GateSet::slow, {.chunks = chunks, .v_first = true});
    }
  }
  for (const int K : {64, 128}) {
    for (const int V : {64, 128}) {
      for (const int C : {64, 32}) {
        CallShape s = one_sequence(5 * C - 3, K, V);
        s.h0 = s.dht = true;
        check_backward(s, GateSet::slow, {.chunks = 1, .C = C, .v_first = C == 32});
      }
    }
  }
}

TEST_CASE(
    "kda v1 segments: backward, sequences of which some are cut, groups of value heads, launches of a few heads") {
  for (const bool ends : {false, true}) {
    CallShape s = many_sequences(ends);
    check_backward(s, GateSet::slow, {.chunks = 1});
    check_backward(s, GateSet::slow, {.chunks = 2, .v_first = true, .workspace = 1});
    s.dht = false;
    check_backward(s, GateSet::slow, {.chunks = 2, .C = 32});
  }
}

bool same(const CallGradients& a, const CallGradients& b) {
  return a.dq == b.dq && a.dk == b.dk && a.dv == b.dv && a.dg == b.dg && a.dbeta == b.dbeta && a.dA_log == b.dA_log &&
         a.ddt_bias == b.ddt_bias && a.dh0 == b.dh0;
}

TEST_CASE("kda v1 segments: backward, the same bits in any order") {
  CallShape s = one_sequence(64 * 6 - 9, 64, 64);
  s.HV = 2;
  s.h0 = s.dht = true;
  const CallTensors x = draw_call(s, GateSet::slow, 6);
  const CallGradients expected = run_backward(s, x, {.chunks = 1});
  CHECK(same(run_backward(s, x, {.chunks = 1}), expected));
  CHECK(same(run_backward(s, x, {.chunks = 1, .workspace = 1}), expected));
  CHECK_FALSE(same(run_backward(s, x, {.chunks = 0}), expected));
  for (const Schedule::Blocks blocks : {Schedule::Blocks::backward, Schedule::Blocks::shuffled}) {
    const ScheduleGuard guard({.blocks = blocks, .seed = 3, .deferred = true});
    CHECK(same(run_backward(s, x, {.chunks = 1}), expected));
  }
  for (const auto& [order, seed] : {std::pair{Order::reverse, 0U}, std::pair{Order::random, 3U}}) {
    const Run run(order, seed);
    CHECK(same(run_backward(s, x, {.chunks = 1}), expected));
  }
}

TEST_CASE("kda v1 segments: errors of backward on the six gate sets [slow]") {
  for (const GateSet set : kGateSets) {
    const CallShape s = one_sequence(512, 128, 128);
    const CallTensors x = draw_call(s, set, 11);
    const CallGradients expected = plain_gradients(s, x);
    for (const int64_t chunks : {0, 1, 2}) {
      const RoundingErrors e = errors_of(run_backward(s, x, {.chunks = chunks}), expected);
      MESSAGE(name_of(set) << ", segments of " << chunks << " chunks: dq " << e.dq << " dk " << e.dk << " dv " << e.dv
                           << " dg " << e.dg << " dbeta " << e.dbeta);
      check_errors(e, emulated_errors(set));
    }
  }
}

TEST_CASE("kda v1 segments: with states backward is as exact as without segments [slow]") {
  constexpr double kChance = 1.15;  // sums round otherwise
  for (const GateSet set : kGateSets) {
    CallShape s = one_sequence(512, 128, 128);
    s.h0 = s.dht = true;
    const CallTensors x = draw_call(s, set, 11);
    const CallGradients expected = plain_gradients(s, x);
    const RoundingErrors whole = errors_of(run_backward(s, x, {.chunks = 0}), expected);
    const RoundingErrors cut = errors_of(run_backward(s, x, {.chunks = 1}), expected);
    CAPTURE(name_of(set));
    MESSAGE(name_of(set) << ": dg " << whole.dg << ", cut " << cut.dg << "; dh0 " << whole.dh0 << ", cut " << cut.dh0);
    CHECK(cut.dq <= kChance * whole.dq);
    CHECK(cut.dk <= kChance * whole.dk);
    CHECK(cut.dv <= kChance * whole.dv);
    CHECK(cut.dg <= kChance * whole.dg);
    CHECK(cut.dbeta <= kChance * whole.dbeta);
    CHECK(cut.dh0 <= kChance * whole.dh0);
  }
}

TEST_CASE("kda v1 segments: the merge is as exact as f32, forward and backward, in both layouts") {
  constexpr int K = 64;
  constexpr int V = 32;
  constexpr int HV = 3;
  constexpr int64_t kStates = 9;  // of two sequences, five segments and four; one ends without a gradient
  constexpr size_t kState = size_t{K} * V;
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  const auto draw = [&](size_t count, float size) {
    std::vector<float> x(count);
    std::generate(x.begin(), x.end(), [&] { return size * normal(random); });
    return x;
  };
  const std::vector<float> maps = draw(size_t{5} * HV * K * K, 1.0F / std::sqrt(static_cast<float>(K)));
  const std::vector<float> found = draw(kStates * HV * kState, 1.0F);
  const std::vector<v1::SegmentChain> chains{{.first_state = 1, .first_end = 0, .maps = 3, .first_map = 0},
                                             {.first_state = 6, .first_end = 4, .maps = 2, .first_map = 3}};
  for (const bool v_first : {false, true}) {
    for (const auto& [order, seed] :
         {std::pair{Order::round_robin, 0U}, std::pair{Order::reverse, 0U}, std::pair{Order::random, 7U}}) {
      const Run run(order, seed);
      std::vector<float> states = found;
      std::vector<float> gradients = found;
      v1::MergeArguments p{.chains = chains.data(),
                           .maps = maps.data(),
                           .states = states.data(),
                           .gradients = gradients.data(),
                           .count = 2,
                           .HV = HV,
                           .V = V,
                           .first_head = 1,
                           .heads = 2,
                           .v_first = v_first};
      v1::launch_merge(cuda::current_stream(Device::cuda()), K, p);
      const auto at = [&](int64_t segment, int head, int i, int j) {
        return (static_cast<size_t>(segment * HV) + static_cast<size_t>(head)) * kState +
               static_cast<size_t>(v_first ? j * K + i : i * V + j);
      };
      std::vector<double> expected(found.begin(), found.end());
      std::vector<double> expected_gradients = expected;
      for (const v1::SegmentChain& chain : chains) {
        for (int64_t m = 0; m < chain.maps; ++m) {
          for (int head = 1; head < HV; ++head) {
            for (int i = 0; i < K; ++i) {
              for (int k = 0; k < K; ++k) {
                const auto map = [&](int64_t number, int row, int col) {
                  return static_cast<double>(
                      maps[static_cast<size_t>(((chain.first_map + number) * HV + head) * K * K + row * K + col)]);
                };
                const int64_t back = chain.maps - 1 - m;
                for (int j = 0; j < V; ++j) {
                  expected[at(chain.first_state + m + 1, head, i, j)] +=
                      map(m, i, k) * expected[at(chain.first_state + m, head, k, j)];
                  expected_gradients[at(chain.first_end + back, head, i, j)] +=
                      map(back, k, i) * expected_gradients[at(chain.first_end + back + 1, head, k, j)];
                }
              }
            }
          }
        }
      }
      CHECK(relative_rms(states, expected) <= 1e-6);
      CHECK(relative_rms(gradients, expected_gradients) <= 1e-6);
      CHECK(std::equal(states.begin(), states.begin() + kState, found.begin()));  // of head 0, of no concern
    }
  }
}

// The two sequences of many_sequences that are cut share initial state and gradient with none; three have neither.
const Cut kSomeStates{.chunks = 1, .in = {4, -1, 0, -1, 6, -1, 2}, .out = {-1, 3, -1, 5, 0, -1, 1}};
const Cut kOtherStates{.chunks = 2, .v_first = true, .in = {-1, 2, -1, 1, -1, 0, -1}, .out = {6, -1, 4, -1, -1, 2, -1}};

TEST_CASE("kda v1 segments: states of some sequences, in another order, as segment_ids gives them") {
  CallShape s = many_sequences(false);
  for (const Cut& cut : {kSomeStates, kOtherStates}) {
    check_forward(s, GateSet::slow, cut);
    check_backward(s, GateSet::slow, cut);
  }
  s.h0 = false;
  check_forward(s, GateSet::slow, kSomeStates);
  check_backward(s, GateSet::slow, kSomeStates);
}

/// Rows [begin, end) of x [rows,..].
std::vector<double> rows_of(const std::vector<double>& x, const CallShape& s, std::pair<int, int> rows) {
  const auto width = static_cast<std::ptrdiff_t>(x.size()) / s.rows;
  return {x.begin() + rows.first * width, x.begin() + rows.second * width};
}

TEST_CASE("kda v1 segments: what other sequences hold does not matter, NaN neither") {
  CallShape s = many_sequences(false);
  const CallTensors x = draw_call(s, GateSet::slow, 8);
  const Cut cut{.chunks = 1};
  const Forward expected = run_forward(s, x, cut);
  const CallGradients gradients = run_backward(s, x, cut);
  for (const size_t other : {size_t{1}, size_t{4}, size_t{6}}) {
    CAPTURE(other);
    const auto [begin, end] = s.sequences[other];
    CallTensors spoilt = x;
    for (auto* tensor : {&spoilt.q, &spoilt.k, &spoilt.v, &spoilt.g, &spoilt.beta, &spoilt.d_o}) {
      const auto width = static_cast<std::ptrdiff_t>(tensor->size()) / s.rows;
      std::fill(tensor->begin() + begin * width, tensor->begin() + end * width, std::nan(""));
    }
    for (auto* states : {&spoilt.h0, &spoilt.dht}) {
      const auto size = static_cast<std::ptrdiff_t>(states->size() / s.sequences.size());
      const auto first = states->begin() + static_cast<std::ptrdiff_t>(other) * size;
      std::fill(first, first + size, std::nan(""));
    }
    const Forward got = run_forward(s, spoilt, cut);
    const CallGradients d = run_backward(s, spoilt, cut);
    CHECK(std::isnan(got.o[static_cast<size_t>(int64_t{begin} * s.HV * s.V)]));
    for (size_t n = 0; n < s.sequences.size(); ++n) {
      CAPTURE(n);
      const auto same_rows = [&](const std::vector<double>& a, const std::vector<double>& b) {
        return rows_of(a, s, s.sequences[n]) == rows_of(b, s, s.sequences[n]);
      };
      const auto same_state = [&](const std::vector<double>& a, const std::vector<double>& b) {
        const auto size = static_cast<std::ptrdiff_t>(a.size() / s.sequences.size());
        const auto at = static_cast<std::ptrdiff_t>(n) * size;
        return std::equal(a.begin() + at, a.begin() + at + size, b.begin() + at);
      };
      if (n != other) {
        CHECK(same_rows(got.o, expected.o));
        CHECK(same_state(got.ht, expected.ht));
        CHECK(same_rows(d.dq, gradients.dq));
        CHECK(same_rows(d.dk, gradients.dk));
        CHECK(same_rows(d.dv, gradients.dv));
        CHECK(same_rows(d.dg, gradients.dg));
        CHECK(same_rows(d.dbeta, gradients.dbeta));
        CHECK(same_state(d.dh0, gradients.dh0));
      }
    }
  }
}

kda::KernelProblem long_problem(int64_t T, int64_t heads, int64_t sequences = 1) {
  kda::KernelProblem p;
  p.B = sequences;
  p.T = T;
  p.H = p.HV = heads;
  p.K = p.V = 128;
  for (int64_t row = 0; row < sequences; ++row) {
    p.sequences.push_back({.row = row, .begin = 0, .end = T});
  }
  return p;
}

TEST_CASE("kda v1 segments: which calls are cut") {
  const Device device = Device::cuda();  // 132 multiprocessors
  const auto forward = [&](const kda::KernelProblem& p) { return v1::plan_forward(p, device, false).segments; };
  const auto backward = [&](const kda::KernelProblem& p) { return v1::plan_backward(p, device, true).segments; };
  // The table of docs/cuda-kda-forward.md.
  struct Row {
    int64_t T, heads;
    int64_t forward;
    double forward_gain;
    int64_t backward;  // 1: whole
    double backward_gain;
  };
  for (const Row& row : {Row{65536, 8, 16, 2.82, 4, 1.57}, Row{65536, 4, 16, 4.85, 32, 2.81},
                         Row{65536, 1, 32, 8.88, 23, 6.83}, Row{8192, 8, 8, 2.12, 1, 1}, Row{65536, 16, 1, 1, 1, 1},
                         Row{8192, 16, 1, 1, 1, 1}, Row{8192, 64, 1, 1, 1, 1}}) {
    CAPTURE(row.T);
    CAPTURE(row.heads);
    const kda::KernelProblem p = long_problem(row.T, row.heads);
    CHECK(forward(p).segments == row.forward);
    CHECK(std::abs(forward(p).gain - row.forward_gain) <= 0.006);
    CHECK(backward(p).segments == row.backward);
    CHECK(std::abs(backward(p).gain - row.backward_gain) <= 0.006);
  }
  for (const auto& p : {long_problem(65536, 8), long_problem(65536, 4), long_problem(8192, 1)}) {
    CAPTURE(p.HV);
    const v1::SegmentPlan plan = forward(p);
    CHECK(plan.cut());
    CHECK(plan.chunks >= 16);
    CHECK(plan.segments == (p.T / 64 + plan.chunks - 1) / plan.chunks);
    CHECK(plan.maps == plan.segments - 2);
  }
  CHECK(backward(long_problem(65536, 4)).cut());
  for (const auto& p : {long_problem(8192, 64), long_problem(8192, 96), long_problem(2048, 1), long_problem(0, 8),
                        long_problem(512, 2, 64), long_problem(65536, 64)}) {
    CAPTURE(p.T);
    CAPTURE(p.HV);
    CHECK_FALSE(forward(p).cut());
    CHECK_FALSE(backward(p).cut());
    CHECK(forward(p).segments == static_cast<int64_t>(p.sequences.size()));
  }
  // Where there is no more room, nothing changes but the number of launches.
  kda::KernelProblem tight = long_problem(65536, 8);
  const v1::ForwardPlan roomy = v1::plan_forward(tight, device, false);
  tight.workspace_limit = roomy.bytes / 3;
  const v1::ForwardPlan sliced = v1::plan_forward(tight, device, false);
  CHECK(roomy.heads == 8);
  CHECK(sliced.heads < 8);
  CHECK(sliced.bytes <= tight.workspace_limit);
  CHECK(sliced.segments.chunks == roomy.segments.chunks);
  CHECK(roomy.segments.states == roomy.segments.segments - 1);
  CHECK(roomy.bytes == 1024 * 8 * 66'304 + roomy.segments.states * 8 * 65'536 + roomy.segments.maps * 8 * 65'536);
  // A device of few multiprocessors is busy without.
  const cuda::host::PretendedDevice small(9, 8, size_t{227} << 10);
  CHECK_FALSE(forward(long_problem(65536, 8)).cut());
}

/// A long sequence and `count` of one token behind it.
kda::KernelProblem one_long_and(int64_t count, int64_t T, int64_t heads, bool states = false) {
  kda::KernelProblem p = long_problem(T, heads);
  p.T = T + count;
  for (int64_t n = 0; n < count; ++n) {
    p.sequences.push_back({.row = 0, .begin = T + n, .end = T + n + 1});
  }
  for (size_t n = 0; states && n < p.sequences.size(); ++n) {
    p.sequences[n].state_in = p.sequences[n].state_out = static_cast<int64_t>(n);
  }
  return p;
}

TEST_CASE("kda v1 segments: memory is for states that are there, and a cut without room for them is not made") {
  const Device device = Device::cuda();
  const auto check_plans = [&](kda::KernelProblem p, bool cut) {
    for (const bool backward : {false, true}) {
      CAPTURE(p.sequences.size());
      CAPTURE(backward);
      const auto bytes_and_heads = [&](std::optional<int64_t> chunks) {
        if (backward) {
          const v1::BackwardPlan plan = v1::plan_backward(p, device, true, chunks);
          return std::tuple{plan.bytes, plan.heads, plan.segments};
        }
        const v1::ForwardPlan plan = v1::plan_forward(p, device, false, chunks);
        return std::tuple{plan.bytes, plan.heads, plan.segments};
      };
      const auto [bytes, heads, plan] = bytes_and_heads({});
      const auto [whole_bytes, whole_heads, whole] = bytes_and_heads(0);
      CHECK(plan.cut() == cut);
      CHECK(bytes <= p.workspace_limit);
      CHECK(heads == whole_heads);
      CHECK(bytes <= whole_bytes + (int64_t{200} << 20));
    }
  };
  check_plans(one_long_and(10000, 131072, 4), true);
  check_plans(one_long_and(5000, 65536, 4), true);
  check_plans(v1::with_states(one_long_and(5000, 65536, 4, true), false, false), true);
  check_plans(one_long_and(16000, 65536, 4, true), false);  // 3.9 GiB of states, and of gradients
  kda::KernelProblem roomy = one_long_and(16000, 65536, 4, true);
  roomy.workspace_limit = int64_t{64} << 30;
  const v1::SegmentPlan plan = v1::plan_forward(roomy, device, false).segments;
  CHECK(plan.cut());
  CHECK(plan.states == plan.segments);
  CHECK(plan.ends == plan.segments);
}

TEST_CASE("kda v1 segments: chunks of 32 tokens where the states in h are 64 apart") {
  const cuda::host::PretendedDevice small(9, 108, size_t{128} << 10);
  CallShape s = one_sequence(64 * 7 + 40, 128, 64);
  s.h0 = s.dht = true;
  CHECK(v1::plan_forward(problem_of(s, {}), Device::cuda(), false, 2).C == 32);
  check_forward(s, GateSet::slow, {.chunks = 2});
  check_backward(s, GateSet::slow, {.chunks = 4});
}

TEST_CASE("kda v1 segments: the plan's words") {
  const auto text = [](const kda::KernelProblem& p) {
    return backend_of(Device::cuda()).kda_plan(p, DType::bf16, Device::cuda()).text;
  };
  const std::string words = " pieces (working memory ";
  const std::string cut = text(long_problem(65536, 8));
  CHECK(cut.find(", 1 of 1 sequences cut into 16" + words) != std::string::npos);
  CHECK(cut.find("; backward v1, chunks of 64 tokens, 1 of 1 sequences cut into 4" + words) != std::string::npos);
  CHECK(text(one_long_and(100, 65536, 8)).find(", 1 of 101 sequences cut into ") != std::string::npos);
  CHECK(text(long_problem(8192, 64)).find("pieces") == std::string::npos);
}

TEST_CASE("kda v1 segments: chunks of states in h are not cut") {
  kda::KernelProblem p = long_problem(4096, 1);
  CHECK_THROWS_AS(v1::plan_segments(p, 32, false, cuda::device_properties(Device::cuda()), kda::kWorkspaceLimit, 3),
                  Error);
}

}  // namespace
}  // namespace deltatape::test::kda_v1

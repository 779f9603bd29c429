// Prep on the host twin against plain loops in double.
#include <doctest/doctest.h>

#include <cstring>

#include "tests/backends/cuda/kda/v1/forward_case.h"

namespace deltatape::test::kda_v1 {
namespace {

using cuda::kda::Gate;
using cuda::tile::host::Order;
using cuda::tile::host::Run;

/// Limits: one rounding to bf16 for kg and qg (half a unit in the last place is 2^-8 of the smallest number with these
/// bits), a dozen roundings of f32 and an approximate exponential for the decay, and for the matrices 1.5 times what an
/// emulation of the rounding points has in its worst gate set.
void check_errors(const ForwardCase& c) {
  constexpr double kHalfUnit = 0x1p-8;
  const ForwardCase::PrepErrors e = c.prep_errors();
  CHECK(e.kg <= 1.01 * kHalfUnit);
  CHECK(e.qg <= 1.01 * kHalfUnit);
  CHECK(e.w <= 1.5 * 0.0058);
  CHECK(e.Aqk <= 1.5 * 0.0056);
  CHECK(e.A <= 1.5 * 0.0019);
  CHECK(e.decay <= 1e-4);
  CHECK(e.beta <= 1e-6);
  CHECK(e.zeros_behind_the_end);
}

void check_prep(const ForwardOptions& options) {
  CAPTURE(name_of(options.set));
  CAPTURE(options.lengths);
  CAPTURE(options.C);
  CAPTURE(options.K);
  CAPTURE(options.centred);
  ForwardCase c(options);
  const Run run(Order::round_robin, 0, &c.memory);
  c.run_prep();
  c.memory.check_complete();
  check_errors(c);
}

TEST_CASE("kda v1 prep: every length around the borders of chunks, blocks and segments") {
  for (const int length : {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
    for (const int C : {64, 32}) {
      for (const bool centred : {false, true}) {
        check_prep({.set = GateSet::mixed, .lengths = {length}, .K = 64, .C = C, .centred = centred});
      }
    }
  }
}

TEST_CASE("kda v1 prep: every kind of gate, both head sizes") {
  for (const GateSet set : kGateSets) {
    for (const int K : {64, 128}) {
      for (const int C : {64, 32}) {
        check_prep({.set = set, .lengths = {100}, .K = K, .C = C});
        if (set != GateSet::unbounded) {
          check_prep({.set = set, .lengths = {100}, .K = K, .C = C, .centred = true});
        }
      }
    }
  }
}

TEST_CASE("kda v1 prep: sequences, empty ones among them, and groups of value heads") {
  check_prep({.lengths = {0, 70, 1, 0, 64, 5}, .H = 2, .HV = 4, .K = 64, .g_f32 = true});
  check_prep({.lengths = {33, 0, 32}, .H = 1, .HV = 3, .K = 128, .C = 32, .beta_f32 = true});
}

TEST_CASE("kda v1 prep: gates, norm and sigmoid inside the kernel") {
  for (const Gate gate : {Gate::standard, Gate::lower_bound}) {
    for (const bool f32 : {false, true}) {
      check_prep({.lengths = {70},
                  .HV = 2,
                  .K = 128,
                  .centred = gate == Gate::lower_bound,
                  .gate = gate,
                  .l2norm = true,
                  .beta_sigmoid = true,
                  .beta_factor = 2.0,
                  .g_f32 = f32});
    }
    check_prep({.lengths = {40}, .K = 64, .gate = gate, .dt_bias = false, .beta_sigmoid = true});
  }
  check_prep({.lengths = {40}, .K = 64, .gate = Gate::lower_bound, .lower_bound = -30.0, .A_log = false});
}

TEST_CASE("kda v1 prep: the leaf that knows no bounds holds for -inf too") {
  ForwardCase c({.set = GateSet::slow, .lengths = {64}, .K = 64, .g_f32 = true});
  auto* const g = static_cast<float*>(const_cast<void*>(c.prep.g));
  for (const int t : {0, 3, 8, 20, 32, 63}) {
    for (int x = 0; x < 64; x += 2) {
      g[t * 64 + x] = -std::numeric_limits<float>::infinity();
      const_cast<HeadInputs<double>&>(c.head(0, 0)).g(t, x) = -std::numeric_limits<double>::infinity();
    }
  }
  const Run run(Order::round_robin, 0, &c.memory);
  c.run_prep();
  check_errors(c);
}

TEST_CASE("kda v1 prep: the same bits in any order of warps and blocks") {
  const ForwardOptions options{.lengths = {70, 64}, .HV = 2, .K = 128};
  std::vector<unsigned char> records;
  std::vector<BFloat16> A;
  for (const bool centred : {false, true}) {
    records.clear();
    for (const auto& [order, seed] : {std::pair{Order::round_robin, 0U}, std::pair{Order::reverse, 0U},
                                      std::pair{Order::random, 1U}, std::pair{Order::random, 2U}}) {
      ForwardOptions o = options;
      o.centred = centred;
      ForwardCase c(o);
      const Run run(order, seed, &c.memory);
      c.run_prep();
      if (records.empty()) {
        records = c.records;
        A = c.A;
      }
      CHECK(std::memcmp(records.data(), c.records.data(), records.size()) == 0);
      CHECK(std::memcmp(A.data(), c.A.data(), A.size() * sizeof(BFloat16)) == 0);
    }
  }
}

TEST_CASE("kda v1 prep: a sequence of NaN harms no other") {
  const ForwardOptions options{.lengths = {70, 40, 64}, .HV = 2, .K = 64, .g_f32 = true, .beta_f32 = true};
  ForwardCase clean(options);
  ForwardCase spoilt(options);
  const auto spoil = [](auto* x, int first, int count) {
    std::memset(static_cast<void*>(x + first), 0xff, sizeof(*x) * static_cast<size_t>(count));
  };
  spoil(const_cast<BFloat16*>(spoilt.prep.q), 70 * 64, 40 * 64);
  spoil(const_cast<BFloat16*>(spoilt.prep.k), 70 * 64, 40 * 64);
  spoil(static_cast<float*>(const_cast<void*>(spoilt.prep.g)), 70 * 128, 40 * 128);
  spoil(static_cast<float*>(const_cast<void*>(spoilt.prep.beta)), 70 * 2, 40 * 2);
  for (ForwardCase* c : {&clean, &spoilt}) {
    const Run run(Order::round_robin, 0, &c->memory);
    c->run_prep();
  }
  // Chunks 0 and 1 are the first sequence's, 2 the second's, 3 the third's.
  const size_t of_chunk = clean.records.size() / 4;
  const size_t A_of_chunk = clean.A.size() / 4 * sizeof(BFloat16);
  const auto same = [&](size_t chunk) {
    return std::memcmp(clean.records.data() + chunk * of_chunk, spoilt.records.data() + chunk * of_chunk, of_chunk) ==
               0 &&
           std::memcmp(clean.A.data() + chunk * clean.A.size() / 4, spoilt.A.data() + chunk * clean.A.size() / 4,
                       A_of_chunk) == 0;
  };
  CHECK(same(0));
  CHECK(same(1));
  CHECK(!same(2));
  CHECK(same(3));
}

TEST_CASE("kda v1 prep: without the solve, from A as it was, the same record") {
  for (const bool centred : {false, true}) {
    const ForwardOptions options{.lengths = {100}, .HV = 2, .K = 128, .centred = centred};
    ForwardCase forward(options);
    {
      const Run run(Order::round_robin, 0, &forward.memory);
      forward.run_prep();
    }
    ForwardCase backward(options);
    const Run run(Order::round_robin, 0, &backward.memory);
    backward.prep.A = const_cast<BFloat16*>(backward.memory.input("saved A", forward.A));
    backward.run_prep(false);
    CHECK(std::memcmp(forward.records.data(), backward.records.data(), forward.records.size()) == 0);
  }
}

TEST_CASE("kda v1 prep: some heads at a time") {
  const ForwardOptions options{.lengths = {70}, .H = 2, .HV = 4, .K = 64};
  ForwardCase all(options);
  {
    const Run run(Order::round_robin, 0, &all.memory);
    all.run_prep();
  }
  ForwardCase part(options);
  const Run run(Order::round_robin, 0, &part.memory);
  part.prep.first_head = 2;
  part.prep.heads = 2;
  part.prep.A_first = 2;
  part.run_prep();
  const auto of_record = static_cast<size_t>(cuda::kda::v1::record_bytes(64, 64));
  for (size_t chunk = 0; chunk < 2; ++chunk) {
    for (size_t h = 0; h < 2; ++h) {
      CHECK(std::memcmp(all.records.data() + (4 * chunk + 2 + h) * of_record,
                        part.records.data() + (2 * chunk + h) * of_record, of_record) == 0);
      const size_t A_at = (4 * chunk + 2 + h) * 64 * 64;
      CHECK(std::memcmp(all.A.data() + A_at, part.A.data() + A_at, 64 * 64 * sizeof(BFloat16)) == 0);
    }
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

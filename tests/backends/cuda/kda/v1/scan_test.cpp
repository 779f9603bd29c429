// Prep and the scan on the host twin against the recurrence in double.
#include <doctest/doctest.h>

#include <cstring>

#include "tests/backends/cuda/kda/v1/forward_case.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace deltatape::test::kda_v1 {
namespace {

using cuda::kda::Gate;
using cuda::tile::host::Order;
using cuda::tile::host::Run;

/// Of short sequences: single elements weigh more than in the limits' 512 tokens, so the worst set's limit holds for
/// all, as far as bf16 allows it: the roundings of one output are not fewer than two half units.
constexpr double kShort = 1.5 * 0.0070;

void check_scan(const ForwardOptions& options, double limit_o = kShort, double limit_ht = kShort) {
  CAPTURE(name_of(options.set));
  CAPTURE(options.lengths);
  CAPTURE(options.C);
  CAPTURE(options.K);
  CAPTURE(options.V);
  CAPTURE(options.centred);
  ForwardCase c(options);
  const Run run(Order::round_robin, 0, &c.memory);
  c.run_prep();
  c.run_scan();
  c.memory.check_complete();
  const ForwardCase::ScanErrors e = c.scan_errors();
  CHECK(e.o <= limit_o);
  CHECK(e.ht <= limit_ht);
  CHECK(e.h <= limit_ht);
}

TEST_CASE("kda v1 scan: every length around the borders of chunks") {
  for (const int length : {1, 15, 16, 17, 63, 64, 65, 130, 200}) {
    for (const int C : {64, 32}) {
      check_scan({.lengths = {length}, .K = 64, .V = 32, .C = C, .warps = 2, .stages = C == 64 ? 3 : 2});
    }
  }
}

TEST_CASE("kda v1 scan: all head sizes, with and without an initial state, states in both layouts") {
  for (const int K : {64, 128}) {
    for (const int V : {64, 128}) {
      for (const int C : {64, 32}) {
        check_scan({.lengths = {100}, .K = K, .V = V, .C = C, .warps = V == 64 ? 4 : 8});
        check_scan({.lengths = {100}, .K = K, .V = V, .C = C, .states = false, .v_first = true, .warps = 4});
      }
    }
  }
  check_scan({.lengths = {100}, .K = 64, .V = 80, .v_first = true, .warps = 5, .stages = 3});
  check_scan({.lengths = {40}, .K = 64, .V = 16, .warps = 1});
}

TEST_CASE("kda v1 scan: sequences, empty ones among them, and groups of value heads") {
  check_scan({.lengths = {0, 70, 1, 0, 64, 5}, .H = 2, .HV = 4, .K = 64, .V = 32});
  check_scan({.lengths = {33, 0, 200, 32}, .H = 1, .HV = 3, .K = 128, .V = 32, .C = 32, .v_first = true, .stages = 3});
  check_scan({.lengths = {0, 0}, .HV = 2, .K = 64, .V = 32});
}

TEST_CASE("kda v1 scan: gates, norm and sigmoid in the kernels") {
  for (const Gate gate : {Gate::standard, Gate::lower_bound}) {
    check_scan({.lengths = {150},
                .K = 128,
                .V = 64,
                .centred = gate == Gate::lower_bound,
                .gate = gate,
                .l2norm = true,
                .beta_sigmoid = true,
                .beta_factor = 2.0});
  }
}

TEST_CASE("kda v1 forward: errors on the six gate sets [slow]") {
  for (const GateSet set : kGateSets) {
    const RoundingErrors limits = emulated_errors(set);
    for (const int C : {64, 32}) {
      for (const bool centred : {false, true}) {
        if (centred && set == GateSet::unbounded) {
          continue;
        }
        check_scan({.set = set,
                    .lengths = {512},
                    .K = 128,
                    .V = 128,
                    .C = C,
                    .centred = centred,
                    .states = false,
                    .warps = 4,
                    .stages = 3},
                   kRoundingAllowance * limits.o, kRoundingAllowance * limits.ht);
      }
    }
  }
}

TEST_CASE("kda v1 scan: the same bits in any order, for any slices of V and any number of stages") {
  std::vector<BFloat16> o;
  std::vector<float> ht;
  for (const auto& [warps, stages] : {std::pair{8, 2}, std::pair{4, 3}, std::pair{2, 2}, std::pair{1, 3}}) {
    for (const auto& [order, seed] :
         {std::pair{Order::round_robin, 0U}, std::pair{Order::reverse, 0U}, std::pair{Order::random, 3U}}) {
      ForwardCase c({.lengths = {70, 130}, .K = 64, .V = 128, .warps = warps, .stages = stages});
      const Run run(order, seed, &c.memory);
      c.run_prep();
      c.run_scan();
      if (o.empty()) {
        o = c.o;
        ht = c.ht;
      }
      CHECK(std::memcmp(o.data(), c.o.data(), o.size() * sizeof(BFloat16)) == 0);
      CHECK(std::memcmp(ht.data(), c.ht.data(), ht.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("kda v1 scan: a sequence of NaN harms no other") {
  const ForwardOptions options{.lengths = {70, 40, 64}, .K = 64, .V = 32};
  ForwardCase clean(options);
  ForwardCase spoilt(options);
  std::memset(static_cast<void*>(const_cast<BFloat16*>(spoilt.scan.v) + 70 * 32), 0xff, sizeof(BFloat16) * 40 * 32);
  std::memset(const_cast<float*>(spoilt.scan.initial_state) + 64 * 32, 0xff, sizeof(float) * 64 * 32);
  for (ForwardCase* c : {&clean, &spoilt}) {
    const Run run(Order::round_robin, 0, &c->memory);
    c->run_prep();
    c->run_scan();
  }
  const auto same = [&](int first, int rows) {
    return std::memcmp(clean.o.data() + first * 32, spoilt.o.data() + first * 32,
                       static_cast<size_t>(rows * 32) * sizeof(BFloat16)) == 0;
  };
  CHECK(same(0, 70));
  CHECK(!same(70, 40));
  CHECK(same(110, 64));
}

TEST_CASE("kda v1 scan of the backward: states before chunks and what tokens write") {
  for (const int K : {64, 128}) {
    for (const int C : {64, 32}) {
      ForwardCase c({.lengths = {100, 0, 64}, .HV = 2, .K = K, .V = 64, .C = C, .warps = 4});
      const Run run(Order::round_robin, 0, &c.memory);
      c.run_prep();
      c.run_scan_for_backward();
      c.memory.check_complete();
      const ForwardCase::ScanErrors e = c.scan_errors();
      CHECK(e.h <= kShort);
      CHECK(e.v_new <= kShort);
    }
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

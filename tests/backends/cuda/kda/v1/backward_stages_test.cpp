// What the kernels of v1's backward hand to one another, on the host twin: B1's records and B2's states, stage by stage
// against plain loops in double.
#include <doctest/doctest.h>

#include "tests/backends/cuda/kda/v1/forward_case.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace deltatape::test::kda_v1 {
namespace {

using cuda::kda::Gate;
using cuda::tile::host::Order;
using cuda::tile::host::Run;

constexpr double kHalfUnit = 0x1p-8;  // half a unit of bf16 in the last place, of the smallest number with these bits

void check_stages(const ForwardOptions& options) {
  CAPTURE(name_of(options.set));
  CAPTURE(options.lengths);
  CAPTURE(options.C);
  CAPTURE(options.K);
  CAPTURE(options.V);
  CAPTURE(options.centred);
  ForwardCase c(options);
  const Run run(Order::random, 5, &c.memory);
  c.run_prep();
  c.run_both_scans();
  c.memory.check_complete();
  const StageErrors limits = emulated_stage_errors(options.set);
  const ForwardCase::PrepErrors prep = c.prep_errors();
  const ForwardCase::ScanErrors scan = c.scan_errors();
  INFO("w ", prep.w, " A ", prep.A, " Aqk ", prep.Aqk, " h ", scan.h, " v_new ", scan.v_new, " dS ", scan.dS, " dv2 ",
       scan.dv2, " dh0 ", scan.dh0);
  CHECK(prep.w <= kRoundingAllowance * limits.w);
  CHECK(prep.A <= kRoundingAllowance * limits.A);
  CHECK(prep.Aqk <= kRoundingAllowance * limits.Aqk);
  CHECK(prep.kg <= 1.01 * kHalfUnit);
  CHECK(prep.qg <= 1.01 * kHalfUnit);
  CHECK(prep.zeros_behind_the_end);
  CHECK(scan.h <= kRoundingAllowance * limits.h);
  CHECK(scan.v_new <= kRoundingAllowance * limits.v_new);
  CHECK(scan.dS <= kRoundingAllowance * limits.dS);
  CHECK(scan.dv2 <= kRoundingAllowance * limits.dv2);
  CHECK(scan.dh0 <= kRoundingAllowance * limits.dS);
}

TEST_CASE("kda v1 backward stages: every kind of gate and keys, both leaves") {
  for (const GateSet set : kGateSets) {
    for (const int C : {64, 32}) {
      check_stages({.set = set, .lengths = {200}, .K = 64, .V = 64, .C = C, .warps = 4});
      if (set != GateSet::unbounded) {
        check_stages({.set = set, .lengths = {200}, .K = 64, .V = 64, .C = C, .centred = true, .warps = 4});
      }
    }
  }
}

TEST_CASE("kda v1 backward stages: head sizes, sequences with tails, groups of value heads, slices and stages") {
  check_stages({.lengths = {130}, .K = 128, .V = 128, .warps = 8});
  check_stages({.lengths = {33, 0, 64, 7}, .H = 1, .HV = 3, .K = 128, .V = 64, .C = 32, .warps = 2, .stages = 3});
  check_stages({.lengths = {70, 1, 0, 128}, .H = 2, .HV = 4, .K = 64, .V = 64, .v_first = true, .warps = 1});
  check_stages({.lengths = {100, 15}, .K = 64, .V = 128, .centred = true, .states = false, .warps = 4});
}

TEST_CASE("kda v1 backward stages: gates, norm and sigmoid in the kernels") {
  for (const Gate gate : {Gate::standard, Gate::lower_bound}) {
    for (const int K : {64, 128}) {
      check_stages({.lengths = {150},
                    .HV = 2,
                    .K = K,
                    .V = 64,
                    .C = K == 64 ? 64 : 32,
                    .centred = gate == Gate::lower_bound,
                    .gate = gate,
                    .l2norm = true,
                    .beta_sigmoid = true,
                    .warps = 4});
    }
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

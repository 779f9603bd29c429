// The scan on wgmma on the host twin: against v1's, whose sums it forms in the same order, and against the recurrence
// in double.
#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/v2/kernels.h"
#include "tests/backends/cuda/kda/v1/forward_case.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace deltatape::test::kda_v1 {
namespace {

namespace v2 = cuda::kda::v2;
using cuda::kda::Gate;
using cuda::tile::host::Order;
using cuda::tile::host::Run;

constexpr cuda::kda::v1::ForwardKernels kOnWgmma{.prep = v2::launch_prep, .scan = v2::launch_scan};
constexpr double kShort = 1.5 * 0.0070;  // as in v1's tests

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::string text_of(const ForwardOptions& o) {
  std::string lengths;
  for (const int length : o.lengths) {
    lengths += fmt::format(" {}", length);
  }
  return fmt::format("{}, lengths{}, H {} HV {} K {} V {}, gate {}, states {}, v_first {}", name_of(o.set), lengths,
                     o.H, o.HV, o.K, o.V, static_cast<int>(o.gate), o.states, o.v_first);
}

/// v2's results in this order of warps and blocks, complete, and bit for bit those of v1.
void check_scan(ForwardOptions options, Order order = Order::round_robin, uint32_t seed = 0) {
  const std::string text = text_of(options);
  CAPTURE(text);
  ForwardCase expected(options);
  options.kernels = kOnWgmma;
  ForwardCase c(options);
  {
    const Run run(Order::round_robin, 0, &expected.memory);
    expected.run_prep();
    expected.run_scan();
  }
  const Run run(order, seed, &c.memory);
  c.run_prep();
  c.run_scan();
  c.memory.check_complete();
  CHECK(same_bits(c.A, expected.A));
  CHECK(same_bits(c.o, expected.o));
  CHECK(same_bits(c.ht, expected.ht));
  CHECK(same_bits(c.h, expected.h));
  const ForwardCase::ScanErrors e = c.scan_errors();
  CHECK(e.o <= kShort);
  CHECK(e.ht <= kShort);
  CHECK(e.h <= kShort);
}

/// The two scans of the backward: states and writes are v1's bit for bit. The reverse scan adds in another order than
/// v1's, so its results are held to the recurrence in double, as v1's are.
void check_both_scans(ForwardOptions options, Order order = Order::round_robin) {
  const std::string text = text_of(options);
  CAPTURE(text);
  ForwardCase expected(options);
  options.kernels = kOnWgmma;
  options.both_scans = v2::launch_both_scans;
  ForwardCase c(options);
  {
    const Run run(Order::round_robin, 0, &expected.memory);
    expected.run_prep();
    expected.run_both_scans();
  }
  const Run run(order, 0, &c.memory);
  c.run_prep();
  c.run_both_scans();
  c.memory.check_complete();
  CHECK(same_bits(c.h_bf16, expected.h_bf16));
  CHECK(same_bits(c.v_new, expected.v_new));
  const StageErrors limits = emulated_stage_errors(options.set);
  const ForwardCase::ScanErrors e = c.scan_errors();
  CHECK(e.dS <= kRoundingAllowance * limits.dS);
  CHECK(e.dv2 <= kRoundingAllowance * limits.dv2);
  CHECK(e.dh0 <= kRoundingAllowance * limits.dS);
}

TEST_CASE("kda v2 scan: every length around the borders of chunks") {
  for (const int length : {1, 15, 16, 17, 63, 64, 65, 130, 260}) {
    check_scan({.lengths = {length}, .K = 64, .V = 64});
  }
}

TEST_CASE("kda v2 scan: all head sizes, one and two warpgroups, with and without a state, in both layouts") {
  for (const int K : {64, 128}) {
    for (const int V : {64, 128, 192}) {
      check_scan({.lengths = {100}, .K = K, .V = V, .warps = 4});
    }
    check_scan({.lengths = {200}, .K = K, .V = 64, .states = false, .v_first = true, .warps = 4});
  }
  const cuda::host::PretendedDevice one_multiprocessor(9, 1, 227 * 1024);
  for (const int K : {64, 128}) {
    check_scan({.lengths = {100}, .K = K, .V = 128, .warps = 4});
    check_scan({.lengths = {200, 70}, .K = K, .V = 128, .v_first = true, .warps = 4}, Order::reverse);
  }
}

TEST_CASE("kda v2 scan: sequences, empty ones among them, and groups of value heads") {
  check_scan({.lengths = {0, 70, 1, 0, 64, 5}, .H = 2, .HV = 4, .K = 64, .V = 64});
  check_scan({.lengths = {33, 0, 200, 32}, .H = 1, .HV = 3, .K = 128, .V = 64, .v_first = true});
  check_scan({.lengths = {0, 0}, .HV = 2, .K = 64, .V = 64});
}

TEST_CASE("kda v2 scan: random draws in random orders") {
  std::mt19937_64 random(11);
  const auto draw = [&](int count) { return static_cast<int>(random() % static_cast<uint64_t>(count)); };
  for (uint32_t i = 0; i < 12; ++i) {
    ForwardOptions options{.set = kGateSets[static_cast<size_t>(draw(static_cast<int>(std::size(kGateSets))))]};
    options.lengths.clear();
    for (int n = 1 + draw(3); n > 0; --n) {
      options.lengths.push_back(draw(5) == 0 ? 0 : 1 + draw(150));
    }
    options.H = 1 + draw(2);
    options.HV = options.H * (1 + draw(2));
    options.K = draw(2) == 0 ? 64 : 128;
    options.V = 64 * (1 + draw(2));
    options.gate = std::array{Gate::none, Gate::standard, Gate::lower_bound}[static_cast<size_t>(draw(3))];
    options.centred = options.gate == Gate::lower_bound;
    options.l2norm = options.gate != Gate::none;
    options.beta_sigmoid = options.l2norm;
    options.states = draw(2) == 0;
    options.v_first = draw(2) == 0;
    options.seed = 100 + i;
    const cuda::host::PretendedDevice device(9, draw(2) == 0 ? 1 : 132, 227 * 1024);
    check_scan(options, i % 3 == 0 ? Order::reverse : Order::random, i);
  }
}

TEST_CASE("kda v2 scan: what the backward's scans hand on, with one and two warpgroups") {
  for (const int multiprocessors : {132, 1}) {
    const cuda::host::PretendedDevice device(9, multiprocessors, 227 * 1024);
    for (const int K : {64, 128}) {
      check_both_scans({.lengths = {200}, .K = K, .V = 128, .warps = 4});
      check_both_scans({.lengths = {70, 0, 1, 64}, .H = 1, .HV = 2, .K = K, .V = 128, .v_first = true, .warps = 4},
                       Order::reverse);
      check_both_scans({.lengths = {65}, .K = K, .V = 64, .states = false, .warps = 4});
    }
  }
}

TEST_CASE("kda v2 scan: a sequence of NaN harms no other") {
  const ForwardOptions options{.lengths = {70, 40, 64}, .K = 64, .V = 64, .kernels = kOnWgmma};
  ForwardCase clean(options);
  ForwardCase spoilt(options);
  std::memset(static_cast<void*>(const_cast<BFloat16*>(spoilt.scan.v) + 70 * 64), 0xff, sizeof(BFloat16) * 40 * 64);
  for (ForwardCase* c : {&clean, &spoilt}) {
    const Run run(Order::round_robin, 0, &c->memory);
    c->run_prep();
    c->run_scan();
  }
  const auto same = [&](int first, int rows) {
    return std::memcmp(clean.o.data() + first * 64, spoilt.o.data() + first * 64,
                       static_cast<size_t>(rows * 64) * sizeof(BFloat16)) == 0;
  };
  CHECK(same(0, 70));
  CHECK(!same(70, 40));
  CHECK(same(110, 64));
}

TEST_CASE("kda v2 scan: warpgroups of a block") {
  const cuda::DeviceProperties h200{.name = "", .major = 9, .multiprocessors = 132};
  CHECK(v2::scan_groups(64, 1000, h200) == 1);
  CHECK(v2::scan_groups(192, 1000, h200) == 1);
  CHECK(v2::scan_groups(128, 64, h200) == 1);   // 128 blocks of one are a wave
  CHECK(v2::scan_groups(128, 96, h200) == 2);   // 192 of one are two, 96 of two are one
  CHECK(v2::scan_groups(128, 128, h200) == 2);  // the two scans of a backward call of 64 heads
  CHECK(v2::scan_groups(128, 150, h200) == 1);  // three waves of one, two of two
}

}  // namespace
}  // namespace deltatape::test::kda_v1

// Whole kernels through run_warps: the worked example, versions of it with one fault each, and the small algorithms.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backends/cuda/kda/tile/example.h"
#include "tests/backends/cuda/tile/run_block.h"

namespace deltatape::cuda::tile {
namespace {

std::vector<BFloat16> random_bf16(int count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<BFloat16> x;
  x.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    x.emplace_back(normal(generator));
  }
  return x;
}

float at(const std::vector<BFloat16>& x, int i) { return static_cast<float>(x[static_cast<size_t>(i)]); }

/// What ExampleProduct computes, in double.
std::vector<double> reference(const std::vector<BFloat16>& a, const std::vector<BFloat16>& b, int T) {
  std::vector<double> y;
  for (int i = 0; i < T; ++i) {
    double row_sum = 0;
    for (int k = 0; k < 64; ++k) {
      row_sum += at(a, i * 64 + k);
    }
    for (int j = 0; j < 32; ++j) {
      double sum = 0;
      for (int k = 0; k < 64; ++k) {
        sum += static_cast<double>(at(a, i * 64 + k)) * at(b, j * 64 + k);
      }
      y.push_back(sum * std::exp2(-std::fabs(row_sum) / 64));
    }
  }
  return y;
}

enum class Fault { none, no_barrier, wait_too_few, wrong_lane_map, tail_not_masked, row_not_written, deadlock, reuse };

/// ExampleProduct again, with a place for every fault.
template <Fault fault>
struct FaultyProduct : ExampleProduct {
  void operator()(const Block& block, const Params& p) const {
    const auto a = block.shared<TileA>(kA);
    const auto b = block.shared<TileB>(kB);
    const auto factors = block.shared<Factors>(kFactors);
    const auto y = block.shared<TileY>(kY);
    const int first = block.x * kRows;
    const int rows = fault == Fault::tail_not_masked ? first + kRows : p.T;
    const auto a_rows = GTile<const BFloat16>(p.a, kDepth, rows, kDepth).from_row(first);
    const auto y_rows = GTile<BFloat16>(p.y, kCols, rows - (fault == Fault::row_not_written ? 1 : 0), kCols);
    copy_async(block, a, a_rows);
    commit_copies();
    copy_async(block, b, GTile<const BFloat16>(p.b, kDepth, kCols, kDepth));
    commit_copies();
    wait_copies<1>();
    block.sync();
    block.each_warp(kRows, [&](int row) {
      const float sum = warp_sum([&](int lane) { return a(row, lane) + a(row, lane + kLanes); });
      one_lane([&] { factors.set(0, row, ex2(-fabsf(sum) / kDepth)); });
    });
    wait_copies<fault == Fault::wait_too_few ? 1 : 0>();
    if (fault != Fault::no_barrier) {
      block.sync();
    }
    const int row = block.warp() * 16;
    Acc product[2] = {zeros(), zeros()};
    unroll<kDepth / 16>([&](auto k) {
      FragA left = load_a(a, row, 16 * k);
      if (fault == Fault::wrong_lane_map) {
        each_lane([&](int lane) { std::swap(left.x(lane, 1), left.x(lane, 2)); });
      }
      unroll<2>([&](auto n) { mma(product[n], left, load_b_trans(b, 16 * n, 16 * k)); });
    });
    if (fault == Fault::deadlock && block.warp() == 0) {
      block.team(0, 2, 1).sync();
    } else if (fault != Fault::reuse) {
      block.sync();
    }
    unroll<2>([&](auto n) {
      each(product[n], [&](int i, int, float& x) { x *= factors(0, row + i); });
      store(y, row, 16 * n, product[n]);
    });
    block.sync();
    store(block, y_rows.from_row(first), y);
    wait_copies<0>();
  }
};

/// The first thing found wrong with a kernel, by the twin or by comparison.
template <class Kernel>
std::string finding(int T, const Schedule& schedule) {
  const std::vector<BFloat16> a = random_bf16(T * 64, 1);
  const std::vector<BFloat16> b = random_bf16(32 * 64, 2);
  host::Memory memory;
  const ExampleProduct::Params p{memory.input("a", a), memory.input("b", b),
                                 memory.output<BFloat16>("y", static_cast<size_t>(T) * 32), T};
  const host::Run run(schedule.order, schedule.seed, &memory);
  try {
    run_warps<Kernel>(Grid{ceil_div(T, ExampleProduct::kRows)}, p);
    memory.check_complete();
  } catch (const Error& error) {
    return error.what();
  }
  const std::vector<BFloat16> y = memory.read(p.y);
  const std::vector<double> expected = reference(a, b, T);
  for (size_t i = 0; i < y.size(); ++i) {
    if (!(std::fabs(static_cast<float>(y[i]) - expected[i]) <= 0.005 * std::fabs(expected[i]) + 1e-5)) {
      return "a value is wrong";
    }
  }
  return "";
}

template <Fault fault>
void check_found(int T, const std::string& text) {
  for (const Schedule& schedule : schedules()) {
    const std::string found = finding<FaultyProduct<fault>>(T, schedule);
    INFO("found: ", found);
    CHECK(!found.empty());
    CHECK(found.find(text) != std::string::npos);
  }
}

TEST_SUITE("tile_kernels") {
  TEST_CASE("the worked example") {
    for (const int T : {1, 31, 32, 33, 100}) {
      for (const Schedule& schedule : schedules()) {
        CHECK(finding<ExampleProduct>(T, schedule).empty());
        CHECK(finding<FaultyProduct<Fault::none>>(T, schedule).empty());
      }
    }
  }

  TEST_CASE("each planted fault is found under every order") {
    check_found<Fault::no_barrier>(33, "of shared memory");
    check_found<Fault::wait_too_few>(33, "a wait is missing");
    check_found<Fault::wrong_lane_map>(33, "a value is wrong");
    check_found<Fault::tail_not_masked>(33, "of a is read, expected at most");
    check_found<Fault::row_not_written>(33, "64 of 2112 bytes of y were not written, the first is byte 2048");
    check_found<Fault::deadlock>(33, "is deadlocked");
    check_found<Fault::reuse>(33, "since their last common barrier");
  }

  TEST_CASE("launches that a GPU would refuse") {
    const ExampleProduct::Params p{};
    CHECK_THROWS_WITH_AS(run_warps<ExampleProduct>(WarpLaunch{{1}, 1, 1024}, p),
                         doctest::Contains("warps is 1, expected 2"), Error);
    CHECK_THROWS_WITH_AS(run_warps<ExampleProduct>(WarpLaunch{{1}, 2, 240'000}, p),
                         doctest::Contains("shared_bytes is 240000, expected at most 232448"), Error);
    CHECK_THROWS_WITH_AS(run_warps<ExampleProduct>(Grid{1, 65536}, p), doctest::Contains("the grid is 1 x 65536 x 1"),
                         Error);
    CHECK_NOTHROW(run_warps<ExampleProduct>(Grid{0}, p));
  }
}

TEST_SUITE("tile_numbers") {
  TEST_CASE("approximate functions, their limits") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(ex2(-200.0F) == 0.0F);
    CHECK(ex2(-126.5F) == 0.0F);  // subnormal
    CHECK(ex2(3.0F) == 8.0F);
    CHECK(ex2(-infinity) == 0.0F);
    CHECK(rcp(infinity) == 0.0F);
    CHECK(rsqrt(4.0F) == 0.5F);
    CHECK(lg2(8.0F) == 3.0F);
    CHECK(sigmoid(0.0F) == 0.5F);
    CHECK(sigmoid(-1000.0F) == 0.0F);
    CHECK(sigmoid(1000.0F) == 1.0F);
    CHECK(softplus(1000.0F) == 1000.0F);
    CHECK(softplus(-20.0F) == doctest::Approx(2.0611536e-9));
  }

  TEST_CASE("roundings") {
    CHECK(round_bf16(1.0F + 1.0F / 256) == 1.0F);  // a tie goes to even
    CHECK(round_bf16(1.0F + 3.0F / 256) == 1.0F + 4.0F / 256);
    CHECK(std::bit_cast<float>(tf32_bits(1.0F + 1.0F / 2048)) == 1.0F + 1.0F / 1024);  // a tie goes away from zero
    CHECK(std::bit_cast<float>(tf32_bits(-1.0F - 1.0F / 2048)) == -1.0F - 1.0F / 1024);
    CHECK(std::isnan(std::bit_cast<float>(tf32_bits(std::nanf("")))));
    CHECK(low_bf16(pack_bf16(2.0F, -3.0F)) == 2.0F);
    CHECK(high_bf16(pack_bf16(2.0F, -3.0F)) == -3.0F);
  }

  TEST_CASE("a swizzle is a permutation that keeps chunks, and eight rows of a chunk lie in different banks") {
    const auto check_layout = [](auto cols) {
      constexpr int kCols = decltype(cols)::value;
      std::vector<int> seen(static_cast<size_t>(64 * kCols));
      for (int row = 0; row < 64; ++row) {
        for (int col = 0; col < kCols; ++col) {
          const int at = Swizzled::index<BFloat16, kCols>(row, col);
          ++seen[static_cast<size_t>(at)];
          CHECK(at % 8 == col % 8);
        }
      }
      CHECK(seen == std::vector<int>(static_cast<size_t>(64 * kCols), 1));
      for (int first = 0; first < 64; first += 8) {
        for (int col = 0; col < kCols; col += 8) {
          std::vector<int> banks(8);
          for (int row = first; row < first + 8; ++row) {
            ++banks[static_cast<size_t>(Swizzled::index<BFloat16, kCols>(row, col) / 8 % 8)];
          }
          CHECK(banks == std::vector<int>(8, 1));
        }
      }
    };
    check_layout(std::integral_constant<int, 16>{});
    check_layout(std::integral_constant<int, 32>{});
    check_layout(std::integral_constant<int, 64>{});
    check_layout(std::integral_constant<int, 128>{});
    check_layout(std::integral_constant<int, 192>{});
  }
}

}  // namespace
}  // namespace deltatape::cuda::tile

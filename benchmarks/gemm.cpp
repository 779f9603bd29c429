// Products of two matrices on one thread, beside the arithmetic that registers can do at best. `--shares` prints
// tables: small products as KDA's tiles need them, then large ones by each of the ways that gemm.h has.
#include "backends/cpu/gemm.h"

#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
#include <xsimd/xsimd.hpp>

#include "benchmarks/limits.h"
#include "core/generator.h"

namespace {

using namespace deltatape;
using cpu::MatrixView;
using cpu::Update;

template <class T>
constexpr std::string_view kName = std::is_same_v<T, float> ? "f32" : "f64";

constexpr size_t kSums = 12;  // enough to hide the latency of a multiply-add, and few enough for 16 registers
constexpr int64_t kRounds = 20000;

/// `count` times kSums multiply-adds. Indexed by constants only, so that the sums stay in registers.
template <class T, size_t... I>
void multiply_add(int64_t count, std::index_sequence<I...> /*sums*/) {
  using Vector = xsimd::batch<T>;
  std::array<Vector, sizeof...(I)> sums = {Vector(static_cast<T>(I))...};  // unlike each other, or they were one
  const Vector factor(T(0.5));
  const Vector other(T(0.25));
  for (int64_t i = 0; i < count; ++i) {
    ((sums[I] = xsimd::fma(factor, other, sums[I])), ...);
  }
  (benchmark::DoNotOptimize(sums[I].data), ...);
}

/// Floating-point operations per second of one core: multiply-adds of registers with registers.
template <class T>
double peak_rate() {
  const double seconds = bench::best_seconds([] { multiply_add<T>(kRounds, std::make_index_sequence<kSums>()); }, 0.02);
  return 2.0 * static_cast<double>(kRounds * kSums * xsimd::batch<T>::size) / seconds;
}

struct Size {
  int64_t m;
  int64_t n;
  int64_t k;
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
  [[nodiscard]] std::string text() const { return fmt::format("[{}, {}] x [{}, {}]", m, k, k, n); }
};

/// Which operands are stored transposed, as backward has them.
struct Order {
  bool a = false;
  bool b = false;
};

std::string text_of(Order order) { return fmt::format("{} {}", order.a ? "A'" : "A", order.b ? "B'" : "B"); }

/// Memory that begins on a cache line, as tensors and the kernels' tiles do, filled with random numbers.
template <class T>
class Block {
 public:
  Block(int64_t count, Generator& generator) : bytes_(static_cast<size_t>(count) * sizeof(T)) {
    data_ = static_cast<T*>(allocate_host(bytes_));
    std::generate_n(data_, count, [&] { return static_cast<T>(2.0 * generator.next_uniform() - 1.0); });
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { free_host(data_, bytes_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  size_t bytes_;
  T* data_;
};

template <class T>
struct Operands {
  Generator generator{1};
  Block<T> a_data;
  Block<T> b_data;
  Block<T> c;
  MatrixView<T> a{};
  MatrixView<T> b{};

  Operands(Size size, Order order)
      : a_data(size.m * size.k, generator), b_data(size.k * size.n, generator), c(size.m * size.n, generator) {
    a = order.a ? MatrixView<T>{a_data.data(), 1, size.m} : MatrixView<T>{a_data.data(), size.k, 1};
    b = order.b ? MatrixView<T>{b_data.data(), 1, size.k} : MatrixView<T>{b_data.data(), size.n, 1};
  }
};

using Run = std::function<void()>;

/// As often as makes about 2 million operations: a clock is too coarse for one small product.
int64_t repeats(Size size) { return std::max(int64_t{1}, static_cast<int64_t>(2e6 / size.flops())); }

/// The best rate of several turns, in operations per second.
double best_rate(const Run& run, double flops, double budget) { return flops / bench::best_seconds(run, budget); }

constexpr int kTurns = 3;
constexpr double kGiga = 1e9;

template <class T>
void print_small(const std::vector<Size>& sizes) {
  fmt::print("| C [m, n] += A [m, k] B [k, n], {} | A B | A' B | share of the peak |\n|---|---|---|---|\n", kName<T>);
  for (const Size size : sizes) {
    std::array<double, 2> rates{};
    double peak = 0.0;
    for (int turn = 0; turn < kTurns; ++turn) {
      peak = std::max(peak, peak_rate<T>());
      for (const bool transposed : {false, true}) {
        Operands<T> x(size, {transposed, false});
        const int64_t count = repeats(size);
        const Run run = [&] {
          for (int64_t i = 0; i < count; ++i) {
            cpu::small_gemm(size.m, size.n, size.k, x.a, x.b, x.c.data(), size.n, Update::add);
            benchmark::ClobberMemory();
          }
        };
        double& rate = rates[transposed ? 1 : 0];
        rate = std::max(rate, best_rate(run, size.flops() * static_cast<double>(count), 0.01));
      }
    }
    fmt::print("| {} x {} x {} | {:.1f} | {:.1f} | {:.0f} %, {:.0f} % |\n", size.m, size.n, size.k, rates[0] / kGiga,
               rates[1] / kGiga, 100.0 * rates[0] / peak, 100.0 * rates[1] / peak);
  }
  fmt::print("\n");
}

struct Large {
  Size size;
  Order order;
};

template <class T>
void print_large(const std::vector<Large>& products) {
  fmt::print("| C = A B, {} | gemm | OpenBLAS | blocked_gemm | small_gemm | gemm's share of the peak |\n", kName<T>);
  fmt::print("|---|---|---|---|---|---|\n");
  for (const Large& product : products) {
    const Size s = product.size;
    Operands<T> x(s, product.order);
    const std::array<Run, 4> ways = {[&] { cpu::gemm(s.m, s.n, s.k, x.a, x.b, x.c.data(), s.n); },
                                     [&] { cpu::blas_gemm(s.m, s.n, s.k, x.a, x.b, x.c.data(), s.n); },
                                     [&] { cpu::blocked_gemm(s.m, s.n, s.k, x.a, x.b, x.c.data(), s.n); },
                                     [&] { cpu::small_gemm(s.m, s.n, s.k, x.a, x.b, x.c.data(), s.n, Update::set); }};
    std::array<double, 4> rates{};
    double peak = 0.0;
    for (int turn = 0; turn < kTurns; ++turn) {
      peak = std::max(peak, peak_rate<T>());
      for (size_t way = 0; way < ways.size(); ++way) {
        rates[way] = std::max(rates[way], best_rate(ways[way], s.flops(), 0.03));
      }
    }
    fmt::print("| {} {} |", s.text(), text_of(product.order));
    for (const double rate : rates) {
      fmt::print(" {:.1f} |", rate / kGiga);
    }
    fmt::print(" {:.0f} % |\n", 100.0 * rates[0] / peak);
  }
  fmt::print("\n");
}

std::vector<Size> small_sizes() {
  return {{32, 32, 128},  {16, 32, 128},  {16, 16, 128}, {128, 32, 16},  {128, 32, 32},  {128, 128, 16},
          {128, 16, 128}, {16, 128, 128}, {16, 128, 16}, {32, 128, 128}, {32, 32, 32},   {16, 16, 16},
          {16, 32, 100},  {100, 32, 16},  {16, 100, 64}, {64, 32, 16},   {16, 32, 64},   {16, 32, 96},
          {16, 32, 256},  {256, 32, 16},  {1, 128, 128}, {5, 128, 128},  {13, 128, 128}, {23, 100, 100}};
}

std::vector<Large> large_products() {
  const Order plain{};
  const Order a_transposed{true, false};
  const Order b_transposed{false, true};
  return {{{32, 32, 32}, plain},
          {{64, 64, 64}, plain},
          {{128, 128, 128}, plain},
          {{256, 256, 256}, plain},
          {{512, 512, 512}, plain},
          {{1024, 1024, 1024}, plain},
          {{1024, 1024, 1024}, a_transposed},
          {{1024, 1024, 1024}, b_transposed},
          {{2048, 1024, 256}, plain},
          {{2048, 256, 1024}, b_transposed},
          {{256, 1024, 2048}, a_transposed},
          {{2048, 64, 64}, plain},
          {{2048, 64, 64}, b_transposed},
          {{64, 64, 2048}, a_transposed},
          {{8192, 64, 256}, plain},
          {{8192, 64, 1024}, plain},
          {{2048, 128, 256}, plain},
          {{2048, 128, 256}, a_transposed},
          {{256, 256, 256}, a_transposed},
          {{2048, 64, 64}, a_transposed},
          {{64, 64, 1024}, plain},
          {{32, 1024, 256}, plain},
          {{2048, 512, 256}, plain},
          {{2048, 512, 512}, plain},
          {{32, 256, 1024}, b_transposed},
          {{2048, 16, 256}, plain},
          {{2048, 256, 16}, plain},
          {{16, 256, 2048}, a_transposed}};
}

void print_shares(std::string_view which) {
  fmt::print("One thread, {} bits, Gflop/s. The peak, multiply-adds in registers: f32 {:.1f}, f64 {:.1f}.\n\n",
             8 * sizeof(xsimd::batch<float>), peak_rate<float>() / kGiga, peak_rate<double>() / kGiga);
  if (which != "large") {
    print_small<float>(small_sizes());
    print_small<double>(small_sizes());
  }
  if (which != "small") {
    print_large<float>(large_products());
    print_large<double>(large_products());
  }
}

template <class T>
void small(benchmark::State& state, Size size) {
  Operands<T> x(size, {});
  for (auto _ : state) {
    cpu::small_gemm(size.m, size.n, size.k, x.a, x.b, x.c.data(), size.n, Update::add);
    benchmark::ClobberMemory();
  }
  state.counters["flops"] = benchmark::Counter(size.flops(), benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void large(benchmark::State& state, const Large& product) {
  const Size s = product.size;
  Operands<T> x(s, product.order);
  for (auto _ : state) {
    cpu::gemm(s.m, s.n, s.k, x.a, x.b, x.c.data(), s.n);
    benchmark::ClobberMemory();
  }
  state.counters["flops"] = benchmark::Counter(s.flops(), benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void register_benchmarks() {
  for (const Size size : small_sizes()) {
    const std::string name = fmt::format("small_gemm {} {}", kName<T>, size.text());
    benchmark::RegisterBenchmark(name.c_str(), small<T>, size);
  }
  for (const Large& product : large_products()) {
    const std::string name = fmt::format("gemm {} {} {}", kName<T>, product.size.text(), text_of(product.order));
    benchmark::RegisterBenchmark(name.c_str(), large<T>, product);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view option = argc > 1 ? argv[1] : "";
  const std::string_view which = argc > 2 ? argv[2] : "all";
  if (option == "--shares" && argc <= 3 && (which == "all" || which == "small" || which == "large")) {
    print_shares(which);
    return 0;
  }
  register_benchmarks<float>();
  register_benchmarks<double>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

// What the engine costs: the price of recording a small op and of walking back over it, and how near ops on large
// tensors come to what the machine can do. `--shares` prints the second as a table, each op beside its limit, measured
// in turns so that both see the same machine.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/backward.h"
#include "backends/backend.h"
#include "benchmarks/limits.h"
#include "core/generator.h"
#include "ops/ops.h"

namespace {

using namespace deltatape;

// Small ops: an [8, 8] tensor is so little arithmetic that the engine is what is measured.

struct SmallInputs {
  Generator generator{1};
  Tensor a = randn({8, 8}, generator);
  Tensor b = randn({8, 8}, generator);
  Tensor dy = ones({8, 8});
  SmallInputs() {
    a.set_requires_grad();
    b.set_requires_grad();
  }
};

using BinaryOp = Tensor (*)(const Tensor&, const Tensor&);

void forward(benchmark::State& state, BinaryOp op) {
  const SmallInputs in;
  for (auto _ : state) {
    benchmark::DoNotOptimize(op(in.a, in.b));
  }
}

void forward_backward(benchmark::State& state, BinaryOp op) {
  SmallInputs in;
  for (auto _ : state) {
    op(in.a, in.b).backward(in.dy);
    in.a.zero_grad();
    in.b.zero_grad();
  }
}

constexpr int kChain = 10;

Tensor chain(const Tensor& a, const Tensor& b) {
  Tensor y = a;
  for (int i = 0; i < kChain; ++i) {
    y = mul(y, b);
  }
  return y;
}

void per_op(benchmark::State& state) {
  state.counters["time_per_op"] =
      benchmark::Counter(kChain, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void chain_forward(benchmark::State& state) {
  forward(state, chain);
  per_op(state);
}

void chain_forward_backward(benchmark::State& state) {
  forward_backward(state, chain);
  per_op(state);
}

// The same work without the engine: what the kernel and the result's memory cost.
void kernel_alone(benchmark::State& state) {
  const SmallInputs in;
  const Tensor out = empty({8, 8});
  const Backend& backend = backend_of(Device::cpu());
  for (auto _ : state) {
    backend.binary(BinaryKind::mul, in.a, in.b, out);
    benchmark::ClobberMemory();
  }
}

// Large ops.

/// An op on large tensors: bytes it must read and write at least, and exponentials it must compute.
struct LargeOp {
  std::string name;
  int64_t tensor_bytes;  // of the result: the size of the copy it is held against
  double bytes;
  double exponentials;
  std::function<void()> run;
};

std::vector<LargeOp> large_ops() {
  Generator generator(2);
  constexpr int64_t kSide = 4096;
  constexpr int64_t kBytes = kSide * kSide * 4;
  constexpr auto kElements = static_cast<double>(kSide * kSide);
  const Tensor x = randn({kSide, kSide}, generator);
  const Tensor y = randn({kSide, kSide}, generator);
  const Tensor row = randn({kSide}, generator);
  const Tensor column = randn({kSide, 1}, generator);
  const Tensor logits = randn({4096, 1024}, generator);
  const auto result = [](const Tensor& tensor) { benchmark::DoNotOptimize(tensor.impl()); };
  return {
      {"add [4096, 4096] + [4096]", kBytes, 2.0 * kBytes, 0.0, [=] { result(add(x, row)); }},
      {"add [4096, 4096] + [4096, 1]", kBytes, 2.0 * kBytes, 0.0, [=] { result(add(x, column)); }},
      {"mul [4096, 4096]", kBytes, 3.0 * kBytes, 0.0, [=] { result(mul(x, y)); }},
      {"mul [4096, 4096] by a number", kBytes, 2.0 * kBytes, 0.0, [=] { result(mul(x, 1.5)); }},
      {"exp [4096, 4096]", kBytes, 2.0 * kBytes, kElements, [=] { result(exp(x)); }},
      {"sigmoid [4096, 4096]", kBytes, 2.0 * kBytes, kElements, [=] { result(sigmoid(x)); }},
      {"softmax [4096, 4096]", kBytes, 2.0 * kBytes, kElements, [=] { result(softmax(x, -1)); }},
      {"softmax [4096, 1024]", kBytes / 4, kBytes / 2.0, kElements / 4.0, [=] { result(softmax(logits, -1)); }},
      {"sum over rows [4096, 4096]", kBytes / 2, 1.0 * kBytes, 0.0, [=] { result(sum(x, {1})); }},
      {"sum over columns [4096, 4096]", kBytes / 2, 1.0 * kBytes, 0.0, [=] { result(sum(x, {0})); }},
  };
}

/// Seconds the machine needs at best.
double limit_seconds(const LargeOp& op, int rounds) {
  const double memory = op.bytes / bench::copy_bandwidth(op.tensor_bytes, rounds);
  const double arithmetic = op.exponentials > 0.0 ? op.exponentials / bench::exp_rate(rounds) : 0.0;
  return std::max(memory, arithmetic);
}

void large(benchmark::State& state, const LargeOp& op) {
  for (auto _ : state) {
    op.run();
  }
  state.SetBytesProcessed(static_cast<int64_t>(op.bytes) * static_cast<int64_t>(state.iterations()));
  state.counters["limit_ms"] = 1e3 * limit_seconds(op, 5);
}

constexpr int64_t kMatmul = 1024;

std::function<void()> matmul_op() {
  Generator generator(3);
  const Tensor a = randn({kMatmul, kMatmul}, generator);
  const Tensor b = randn({kMatmul, kMatmul}, generator);
  return [=] { benchmark::DoNotOptimize(matmul(a, b).impl()); };
}

void large_matmul(benchmark::State& state) {
  const std::function<void()> run = matmul_op();
  for (auto _ : state) {
    run();
  }
  state.counters["flops"] =
      benchmark::Counter(2.0 * kMatmul * kMatmul * kMatmul, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["openblas_ms"] = 1e3 * bench::sgemm_seconds(kMatmul, 0.1);
}

// The table of --shares.

void print_row(std::string_view name, double seconds, double limit, std::string_view unit, double amount) {
  fmt::print("{:<32} {:>9.3f} ms {:>9.1f} {:<8} {:>9.3f} ms {:>7.0f} %\n", name, 1e3 * seconds, amount / seconds, unit,
             1e3 * limit, 100.0 * limit / seconds);
}

/// The best of several turns of the op and of its limit.
void print_shares() {
  constexpr int kTurns = 5;
  constexpr double kGiga = 1e9;
  fmt::print("{:<32} {:>12} {:>18} {:>12} {:>9}\n", "op", "time", "rate", "limit", "share");
  for (const LargeOp& op : large_ops()) {
    double seconds = 1e30;
    double limit = 1e30;
    for (int turn = 0; turn < kTurns; ++turn) {
      seconds = std::min(seconds, bench::best_seconds(op.run, 0.1));
      limit = std::min(limit, limit_seconds(op, 6));
    }
    print_row(op.name, seconds, limit, "GB/s", op.bytes / kGiga);
  }
  const std::function<void()> run = matmul_op();
  double seconds = 1e30;
  double limit = 1e30;
  for (int turn = 0; turn < kTurns; ++turn) {
    seconds = std::min(seconds, bench::best_seconds(run, 0.2));
    limit = std::min(limit, bench::sgemm_seconds(kMatmul, 0.2));
  }
  print_row("matmul [1024, 1024]", seconds, limit, "Gflop/s", 2.0 * kMatmul * kMatmul * kMatmul / kGiga);
}

void register_benchmarks() {
  benchmark::RegisterBenchmark("mul 8x8, kernel alone", kernel_alone);
  const BinaryOp multiply = mul;
  benchmark::RegisterBenchmark("mul 8x8, forward", forward, multiply);
  benchmark::RegisterBenchmark("mul 8x8, forward and backward", forward_backward, multiply);
  benchmark::RegisterBenchmark("matmul 8x8, forward", forward, &matmul);
  benchmark::RegisterBenchmark("matmul 8x8, forward and backward", forward_backward, &matmul);
  benchmark::RegisterBenchmark("10 muls 8x8, forward", chain_forward);
  benchmark::RegisterBenchmark("10 muls 8x8, forward and backward", chain_forward_backward);
  for (const LargeOp& op : large_ops()) {
    benchmark::RegisterBenchmark(op.name.c_str(), large, op)->Unit(benchmark::kMillisecond)->UseRealTime();
  }
  benchmark::RegisterBenchmark("matmul [1024, 1024]", large_matmul)->Unit(benchmark::kMillisecond)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--shares") {
    print_shares();
    return 0;
  }
  register_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

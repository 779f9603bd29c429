// What the engine costs: the price of recording a small op and of walking back over it, and how near ops on large
// tensors come to what the machine can do. `--shares [WORD]` prints the second as a table, each op (whose name contains
// WORD) beside its limit, measured in turns so that both see the same machine.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "benchmarks/limits.h"
#include "core/generator.h"
#include "nn/nn.h"
#include "ops/kda/gate.h"
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
  int64_t tensor_bytes;  // the size of the copy it is held against
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

// The ops of a layer, at the size of one with 4096 tokens of width 1024. A tensor that an op reads or writes counts
// once; what a backward pass needs of the forward pass counts as read. The copy moves as many bytes in all.

/// The gradients of `inputs` from `dy`, again and again, by a tape's pass over the one op that `forward` records.
std::function<void()> backward_of(const std::function<Tensor()>& forward, const std::vector<Tensor>& inputs) {
  const Tensor y = forward();
  const Tensor dy = ones(y.shape());
  return [=] {
    const std::vector<Tensor> gradients = grad(std::span(&y, 1), inputs, std::span(&dy, 1), {.retain_graph = true});
    benchmark::DoNotOptimize(gradients.data());
  };
}

Tensor leaf(const Tensor& values) {
  Tensor x = values.detach();
  x.set_requires_grad();
  return x;
}

std::vector<LargeOp> layer_ops() {
  Generator generator(3);
  constexpr int64_t kTokens = 4096;
  constexpr int64_t kWidth = 1024;
  constexpr int64_t kHeads = 8;
  constexpr int64_t kBytes = kTokens * kWidth * 4;
  constexpr auto kElements = static_cast<double>(kTokens * kWidth);
  std::vector<LargeOp> ops;
  const auto add_op = [&](const std::string& name, double tensors, double exponentials,
                          const std::function<void()>& run) {
    ops.push_back({name, static_cast<int64_t>(tensors * kBytes / 2), tensors * kBytes, exponentials * kElements, run});
  };
  const auto forward = [](const std::function<Tensor()>& f) {
    return [f] {
      const NoGradGuard guard;
      benchmark::DoNotOptimize(f().impl());
    };
  };

  const Tensor g = leaf(randn({1, kTokens, kHeads, kWidth / kHeads}, generator));
  const Tensor A_log = leaf(zeros({kHeads}));
  const Tensor dt_bias = leaf(zeros({kWidth}));
  for (const auto gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    const bool standard = gate == kda::Gate::standard;
    const std::string name = standard ? "gate activation, standard" : "gate activation, lower bound";
    const std::function<Tensor()> apply = [=] { return kda::fused_gate(gate, g, A_log, dt_bias, -5.0); };
    // softplus takes an exponential and a logarithm, which counts as one more.
    add_op(name, 2, standard ? 2 : 1, forward(apply));
    add_op(name + ", backward", 3, standard ? 2 : 1, backward_of(apply, {g, A_log, dt_bias}));
  }
  const Tensor x = leaf(randn({1, kTokens, kWidth}, generator));
  const Tensor z = leaf(randn({1, kTokens, kWidth}, generator));
  const Tensor weight = leaf(randn({kWidth}, generator));
  const Tensor taps = leaf(randn({kWidth, 4}, generator));
  for (const int64_t dim : {1, 2}) {
    const std::function<Tensor()> sums = [=] { return cumsum(x, dim); };
    add_op(dim == 1 ? "cumsum along tokens" : "cumsum along channels", 2, 0, forward(sums));
  }
  const std::function<Tensor()> chunk_sums = [=] { return kda::chunk_cumsum(g, 64); };
  add_op("cumsum in chunks of 64 tokens", 2, 0, forward(chunk_sums));
  add_op("cumsum in chunks, backward", 2, 0, backward_of(chunk_sums, {g}));
  const std::function<Tensor()> convolve = [=] { return causal_conv1d(x, taps, Tensor()); };
  add_op("causal_conv1d, width 4", 2, 0, forward(convolve));
  add_op("causal_conv1d, backward", 3, 0, backward_of(convolve, {x, taps}));
  const std::function<Tensor()> activate = [=] { return silu(x); };
  add_op("silu", 2, 1, forward(activate));
  add_op("silu, backward", 3, 1, backward_of(activate, {x}));
  const std::function<Tensor()> normalise = [=] { return rms_norm(x, weight); };
  add_op("rms_norm", 2, 0, forward(normalise));
  add_op("rms_norm, backward", 3, 0, backward_of(normalise, {x, weight}));
  const auto gated_norm = std::make_shared<nn::GatedRMSNorm>(kWidth / kHeads, 1e-6, "sigmoid");
  const Tensor o = leaf(randn({1, kTokens, kHeads, kWidth / kHeads}, generator));
  const std::function<Tensor()> gate_and_normalise = [=] { return gated_norm->forward(o, g); };
  add_op("GatedRMSNorm, heads of 128", 3, 1, forward(gate_and_normalise));
  add_op("GatedRMSNorm, backward", 5, 1, backward_of(gate_and_normalise, {o, g, gated_norm->weight}));
  const std::function<Tensor()> mlp = [=] { return swiglu(x, z); };
  add_op("swiglu", 3, 1, forward(mlp));
  add_op("swiglu, backward", 5, 1, backward_of(mlp, {x, z}));

  constexpr int64_t kRows = 2048;
  constexpr int64_t kClasses = 32000;
  constexpr int64_t kLogitBytes = kRows * kClasses * 4;
  constexpr auto kLogits = static_cast<double>(kRows * kClasses);
  const Tensor logits = leaf(randn({kRows, kClasses}, generator));
  const Tensor targets = randint(0, kClasses, {kRows}, generator);
  const std::function<Tensor()> loss = [=] { return cross_entropy(logits, targets); };
  ops.push_back({"cross_entropy [2048, 32000]", kLogitBytes / 2, 1.0 * kLogitBytes, kLogits, forward(loss)});
  ops.push_back({"cross_entropy, backward", kLogitBytes, 2.0 * kLogitBytes, kLogits, backward_of(loss, {logits})});

  constexpr int64_t kParameters = int64_t{1} << 24;
  Tensor p = leaf(randn({4096, kParameters / 4096}, generator));
  p.set_grad(randn({4096, kParameters / 4096}, generator));
  const auto adamw = std::make_shared<nn::AdamW>(nn::NamedTensors{{"p", p}});
  ops.push_back({"AdamW, 16 M parameters", kParameters * 4, 7.0 * 4 * kParameters, 0.0, [=] { adamw->step(); }});
  ops.push_back({"grad_norm, 16 M parameters", kParameters * 2, 4.0 * kParameters, 0.0,
                 [=] { benchmark::DoNotOptimize(nn::grad_norm(std::array{p})); }});
  return ops;
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

/// The best of several turns of the op and of its limit, for ops whose name contains `wanted`.
void print_shares(const std::string& wanted) {
  constexpr int kTurns = 5;
  constexpr double kGiga = 1e9;
  fmt::print("{:<32} {:>12} {:>18} {:>12} {:>9}\n", "op", "time", "rate", "limit", "share");
  for (const auto& ops : {large_ops, layer_ops}) {
    for (const LargeOp& op : ops()) {
      if (op.name.find(wanted) == std::string::npos) {
        continue;
      }
      double seconds = 1e30;
      double limit = 1e30;
      for (int turn = 0; turn < kTurns; ++turn) {
        seconds = std::min(seconds, bench::best_seconds(op.run, 0.1));
        limit = std::min(limit, limit_seconds(op, 6));
      }
      print_row(op.name, seconds, limit, "GB/s", op.bytes / kGiga);
    }
  }
  if (!wanted.empty()) {
    return;
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
  for (const auto& ops : {large_ops(), layer_ops()}) {
    for (const LargeOp& op : ops) {
      benchmark::RegisterBenchmark(op.name.c_str(), large, op)->Unit(benchmark::kMillisecond)->UseRealTime();
    }
  }
  benchmark::RegisterBenchmark("matmul [1024, 1024]", large_matmul)->Unit(benchmark::kMillisecond)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  if ((argc == 2 || argc == 3) && std::string_view(argv[1]) == "--shares") {
    print_shares(argc == 3 ? argv[2] : "");
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

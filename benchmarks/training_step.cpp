// What a training step costs and where its time goes: matrix products, the KDA operator, and everything else kernel by
// kernel.
//
//   bench_training_step [--layer | --model] [--shares] [--quick] [--json FILE]
//
// --layer is one KDA attention layer, forward and backward; --model a 2-layer language model's step: forward, loss,
// backward, clip_grad_norm, AdamW. Both run without either option. --shares adds the table of kernels, --quick makes
// the sizes and runs small. This program defines backend_of, which library code asks for the kernels of a device: it
// returns the CPU backend behind a clock.
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/backward.h"
#include "backends/cpu/cpu_backend.h"
#include "benchmarks/limits.h"
#include "benchmarks/timed_backend.h"
#include "core/generator.h"
#include "nn/nn.h"
#include "ops/ops.h"

namespace {

using deltatape::bench::TimedBackend;

TimedBackend& timed_backend() {
  static const deltatape::cpu::CpuBackend kernels;
  static TimedBackend timed(kernels);
  return timed;
}

}  // namespace

namespace deltatape {

const Backend& backend_of(Device /*device*/) { return timed_backend(); }

}  // namespace deltatape

namespace {

using namespace deltatape;

/// A workload: what one step does, and how many tokens it takes.
struct Workload {
  std::string name;
  int64_t tokens;
  std::function<void()> step;
};

enum class Group : uint8_t { product, kda, other };

Group group_of(std::string_view kernel) {
  if (kernel == "matmul" || kernel == "solve_triangular") {
    return Group::product;
  }
  return kernel.substr(0, 4) == "kda_" ? Group::kda : Group::other;
}

struct Profile {
  double seconds = 0.0;                                                 // of one step
  std::vector<std::pair<std::string_view, bench::KernelTime>> kernels;  // of one step, longest first

  [[nodiscard]] double share(Group group) const {
    double sum = 0.0;
    for (const auto& [kernel, time] : kernels) {
      sum += group_of(kernel) == group ? time.seconds : 0.0;
    }
    return sum / seconds;
  }
  /// Time in no kernel: the tape, checks, allocation.
  [[nodiscard]] double outside() const { return 1.0 - share(Group::product) - share(Group::kda) - share(Group::other); }
};

/// The quickest of the steps that fit into `budget` seconds (at least three), after one to warm up.
Profile profile(const Workload& work, double budget) {
  TimedBackend& backend = timed_backend();
  work.step();
  Profile best{1e30, {}};
  const auto start = bench::Clock::now();
  for (int steps = 0; steps < 3 || bench::seconds_since(start) < budget; ++steps) {
    backend.clear();
    const auto before = bench::Clock::now();
    work.step();
    const double seconds = bench::seconds_since(before);
    if (seconds < best.seconds) {
      best = {seconds, {backend.times().begin(), backend.times().end()}};
    }
  }
  std::sort(best.kernels.begin(), best.kernels.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  return best;
}

/// One layer; the gradient of its output is drawn once.
Workload layer_step(int64_t hidden, int64_t heads, int64_t head_dim, int64_t batch, int64_t time) {
  nn::KDALayerConfig config;
  config.hidden_size = hidden;
  config.num_heads = heads;
  config.head_dim = head_dim;
  Generator generator(1);
  const auto layer = std::make_shared<nn::KimiDeltaAttention>(config, generator);
  Tensor x = randn({batch, time, hidden}, generator);
  x.set_requires_grad();
  const Tensor dy = randn({batch, time, hidden}, generator);
  return {fmt::format("layer: width {}, {} x {}, {} x {} tokens", hidden, heads, head_dim, batch, time), batch * time,
          [layer, x, dy]() mutable {
            layer->zero_grad();
            x.zero_grad();
            layer->forward(x).backward(dy);
          }};
}

/// A 2-layer language model. `mlp` is the width of its MLP.
Workload model_step(int64_t hidden, int64_t heads, int64_t head_dim, int64_t mlp, int64_t vocabulary, int64_t batch,
                    int64_t time) {
  nn::KDAConfig config;
  config.hidden_size = hidden;
  config.num_heads = heads;
  config.head_dim = head_dim;
  config.intermediate_size = mlp;
  config.num_hidden_layers = 2;
  config.vocab_size = vocabulary;
  Generator generator(1);
  const auto model = std::make_shared<nn::KDAForCausalLM>(config, generator);
  const auto optimizer = std::make_shared<nn::AdamW>(model->named_parameters());
  const Tensor ids = randint(0, vocabulary, {batch, time}, generator);
  const Tensor targets = randint(0, vocabulary, {batch, time}, generator);
  return {fmt::format("model: {:.1f} M parameters, width {}, {} x {}, vocabulary {}, {} x {} tokens",
                      1e-6 * static_cast<double>(model->num_parameters()), hidden, heads, head_dim, vocabulary, batch,
                      time),
          batch * time, [=] {
            const Tensor loss = cross_entropy(model->forward(ids), targets);
            optimizer->zero_grad();
            loss.backward();
            static_cast<void>(nn::clip_grad_norm(model->parameters(), 1.0));
            optimizer->step();
          }};
}

void print_kernels(const Profile& result) {
  fmt::print("  {:<24} {:>6} {:>10} {:>7}\n", "kernel", "calls", "ms", "share");
  for (const auto& [kernel, time] : result.kernels) {
    fmt::print("  {:<24} {:>6} {:>10.3f} {:>5.1f} %\n", kernel, time.calls, 1e3 * time.seconds,
               100.0 * time.seconds / result.seconds);
  }
  fmt::print("  {:<24} {:>6} {:>10.3f} {:>5.1f} %\n", "outside kernels", "", 1e3 * result.outside() * result.seconds,
             100.0 * result.outside());
}

nlohmann::json to_json(const Workload& work, const Profile& result) {
  nlohmann::json kernels = nlohmann::json::object();
  for (const auto& [kernel, time] : result.kernels) {
    kernels[std::string(kernel)] = {{"calls", time.calls}, {"ms", 1e3 * time.seconds}};
  }
  return {{"name", work.name},
          {"tokens", work.tokens},
          {"ms", 1e3 * result.seconds},
          {"tokens_per_s", static_cast<double>(work.tokens) / result.seconds},
          {"share_products", result.share(Group::product)},
          {"share_kda", result.share(Group::kda)},
          {"share_other_kernels", result.share(Group::other)},
          {"share_outside_kernels", result.outside()},
          {"kernels", std::move(kernels)}};
}

struct Options {
  bool layer = true;
  bool model = true;
  bool shares = false;
  bool quick = false;
  std::string json;
};

/// False for something that is no option.
bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--layer") {
      options.model = false;
    } else if (argument == "--model") {
      options.layer = false;
    } else if (argument == "--shares") {
      options.shares = true;
    } else if (argument == "--quick") {
      options.quick = true;
    } else if (argument == "--json" && i + 1 < argc) {
      options.json = argv[++i];
    } else {
      return false;
    }
  }
  return options.layer || options.model;
}

std::vector<std::function<Workload()>> workloads(const Options& options) {
  std::vector<std::function<Workload()>> list;
  if (options.layer) {
    if (options.quick) {
      list.emplace_back([] { return layer_step(64, 2, 32, 1, 64); });
    } else {
      list.emplace_back([] { return layer_step(512, 4, 128, 1, 2048); });
    }
  }
  if (options.model) {
    if (options.quick) {
      list.emplace_back([] { return model_step(64, 2, 32, 128, 256, 1, 64); });
    } else {
      list.emplace_back([] { return model_step(128, 2, 64, 384, 256, 8, 256); });  // that of `deltatape train`
      list.emplace_back([] { return model_step(512, 4, 128, 1536, 16384, 2, 1024); });
    }
  }
  return list;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    fmt::print(stderr, "usage: bench_training_step [--layer | --model] [--shares] [--quick] [--json FILE]\n");
    return 2;
  }
  nlohmann::json results = nlohmann::json::array();
  for (const auto& make : workloads(options)) {
    const Workload work = make();
    const Profile result = profile(work, options.quick ? 0.0 : 5.0);
    fmt::print("{}\n", work.name);
    fmt::print(
        "  {:.1f} ms, {:.0f} tokens/s: products {:.1f} %, KDA {:.1f} %, other kernels {:.1f} %, outside kernels "
        "{:.1f} %\n",
        1e3 * result.seconds, static_cast<double>(work.tokens) / result.seconds, 100.0 * result.share(Group::product),
        100.0 * result.share(Group::kda), 100.0 * result.share(Group::other), 100.0 * result.outside());
    if (options.shares) {
      print_kernels(result);
    }
    results.push_back(to_json(work, result));
  }
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << results.dump(2) << "\n";
    if (!file) {
      fmt::print(stderr, "bench_training_step: {} cannot be written\n", options.json);
      return 1;
    }
  }
  return 0;
}

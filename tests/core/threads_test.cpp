// The promise of core/tensor.h on threads. Without ThreadSanitizer only the results are checked; with it the accesses.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "deltatape.h"

using namespace deltatape;

namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 50;

// Runs work(thread) on several threads that start together.
void run_together(const std::function<void(int)>& work) {
  std::atomic<int> waiting{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      waiting.fetch_sub(1);
      while (waiting.load() > 0) {
        std::this_thread::yield();
      }
      work(t);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// doctest's assertions may not be used by several threads at once: threads write, the test reads.
using Results = std::vector<std::vector<float>>;

}  // namespace

TEST_CASE("threads: distinct tensors in distinct threads") {
  Results results(kThreads);
  run_together([&](int t) {
    Generator generator(static_cast<uint64_t>(t));
    Tensor x = rand({16, 16}, generator);
    for (int round = 0; round < kRounds; ++round) {
      x = mul(matmul(x, x), 0.1);
      mul_(x, 0.5);
      x.mutable_data<float>()[round] = static_cast<float>(t);
    }
    results[static_cast<size_t>(t)] = x.to_vector<float>();
  });
  for (int t = 0; t < kThreads; ++t) {
    Generator generator(static_cast<uint64_t>(t));
    Tensor x = rand({16, 16}, generator);
    for (int round = 0; round < kRounds; ++round) {
      x = mul(matmul(x, x), 0.1);
      mul_(x, 0.5);
      x.mutable_data<float>()[round] = static_cast<float>(t);
    }
    CHECK(results[static_cast<size_t>(t)] == x.to_vector<float>());
  }
}

TEST_CASE("threads: one tensor is read by several, large enough for kernels with threads of their own") {
  Generator generator(1);
  const Tensor x = randn({200, 200}, generator);
  const Tensor index = randint(0, 200, {300}, generator);
  const auto compute = [&] {
    const Tensor y = matmul(transpose(x, 0, 1), index_select(x, 1, index));
    return sum(tril(y), {0}).to_vector<float>();
  };
  Results results(kThreads);
  run_together([&](int t) {
    for (int round = 0; round < 3; ++round) {
      results[static_cast<size_t>(t)] = compute();
    }
  });
  const std::vector<float> expected = compute();
  for (const std::vector<float>& result : results) {
    CHECK(result == expected);
  }
}

TEST_CASE("threads: handles of one tensor are copied and dropped by all, and the last one frees it") {
  const int64_t before = memory_stats().live_bytes;
  std::atomic<int> released{0};
  std::vector<float> memory(64, 1.0F);
  {
    Tensor x = from_external(memory.data(), {64}, {}, [&] { released.fetch_add(1); });
    std::vector<Tensor> handles(kThreads, x);
    x = Tensor();
    std::atomic<bool> wrong{false};
    run_together([&](int t) {
      Tensor mine = std::move(handles[static_cast<size_t>(t)]);
      for (int round = 0; round < 1000; ++round) {
        const Tensor copy = mine;
        const Tensor view = copy.as_view({8}, {8}, round % 8);
        mine = copy;
        if (view.data<float>()[7] != 1.0F) {
          wrong.store(true);
        }
      }
    });
    CHECK(!wrong.load());
  }
  CHECK(released.load() == 1);
  CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("threads: memory freed by another thread than allocated it") {
  std::vector<std::vector<Tensor>> tensors(kThreads);
  const int64_t before = memory_stats().live_bytes;
  run_together([&](int t) {
    for (int round = 0; round < kRounds; ++round) {
      tensors[static_cast<size_t>(t)].push_back(zeros({round % 2 == 0 ? 10 : 50000}));
    }
  });
  run_together([&](int t) { tensors[static_cast<size_t>((t + 1) % kThreads)].clear(); });
  CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("threads: separate graphs in separate threads, on a shared input without gradient") {
  Generator generator(2);
  const Tensor x = randn({8, 12}, generator);
  const auto train = [&](int seed) {
    Generator own(static_cast<uint64_t>(seed));
    Tensor w = randn({12, 4}, own);
    w.set_requires_grad();
    for (int step = 0; step < 10; ++step) {
      const Tensor loss = mean(square(tanh(matmul(x, w)) - 0.5));
      loss.backward();
      const NoGradGuard guard;
      add_(w, w.grad(), -0.1);
      w.zero_grad();
    }
    return w.to_vector<float>();
  };
  Results results(kThreads);
  run_together([&](int t) { results[static_cast<size_t>(t)] = train(t); });
  for (int t = 0; t < kThreads; ++t) {
    CHECK(results[static_cast<size_t>(t)] == train(t));
  }
}

TEST_CASE("threads: one leaf is read by graphs of several threads that ask for gradients without accumulating") {
  Generator generator(3);
  Tensor w = randn({12, 4}, generator);
  w.set_requires_grad();
  const auto gradient = [&](int seed) {
    Generator own(static_cast<uint64_t>(seed));
    const Tensor x = randn({8, 12}, own);
    return grad(sum(tanh(matmul(x, w))), w).to_vector<float>();
  };
  Results results(kThreads);
  run_together([&](int t) {
    for (int round = 0; round < 10; ++round) {
      results[static_cast<size_t>(t)] = gradient(t);
    }
  });
  for (int t = 0; t < kThreads; ++t) {
    CHECK(results[static_cast<size_t>(t)] == gradient(t));
  }
  CHECK(!w.grad().defined());
}

TEST_CASE("threads: recording is switched off for one thread alone") {
  std::vector<int> recorded(kThreads, -1);
  run_together([&](int t) {
    Tensor x = ones({3});
    x.set_requires_grad();
    if (t % 2 == 0) {
      const NoGradGuard guard;
      std::this_thread::yield();
      recorded[static_cast<size_t>(t)] = static_cast<int>(mul(x, 2.0).requires_grad());
    } else {
      recorded[static_cast<size_t>(t)] = static_cast<int>(mul(x, 2.0).requires_grad());
    }
  });
  CHECK(recorded == std::vector<int>{0, 1, 0, 1});
}

TEST_CASE("threads: one retained graph is walked by several") {
  struct Scaled : Function {
    [[nodiscard]] std::string_view name() const override { return "scaled"; }
    std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> x) const override {
      std::vector<Tensor> outputs{x[0] * 0.5};
      context.save_for_backward({x[0], outputs[0]});
      return outputs;
    }
    Gradients backward(FunctionContext& context, std::span<const Tensor> dy) const override {
      return {dy[0] * 0.5 + 0.0 * context.saved()[0] * context.saved()[1]};
    }
  };
  Tensor x = ones({16});
  x.set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 10; ++i) {
    y = apply_function(std::make_shared<Scaled>(), {exp(y)})[0];
    y = checkpoint([](const Tensor& t) { return tanh(t); }, y);
  }
  const Tensor loss = sum(y);
  const auto walk = [&] { return grad(loss, x, Tensor(), {.retain_graph = true}).to_vector<float>(); };
  const std::vector<float> expected = walk();
  std::vector<std::vector<float>> results(kThreads);
  run_together([&](int t) {
    for (int round = 0; round < kRounds; ++round) {
      results[static_cast<size_t>(t)] = walk();
    }
  });
  for (const std::vector<float>& result : results) {
    CHECK(result == expected);
  }
}

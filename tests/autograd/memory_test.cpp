// What the tape keeps, and for how long.
#include <doctest/doctest.h>

#include "deltatape.h"
#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("memory: backward frees intermediates as it passes them") {
  constexpr int64_t kElements = 1 << 16;
  constexpr int64_t kBytes = kElements * 8;
  constexpr int kDepth = 20;
  Tensor x = ones({kElements}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const int64_t before = memory_stats().live_bytes;
  Tensor y = x;
  for (int i = 0; i < kDepth; ++i) {
    y = sin(y);
  }
  Tensor loss = sum(y);
  y = Tensor();
  const int64_t forward = memory_stats().live_bytes - before;
  CHECK(forward >= (kDepth - 1) * kBytes);  // what sin saves
  CHECK(forward <= kDepth * kBytes + 4096);
  reset_peak_memory();
  loss.backward();
  // On top of what forward kept there are at most the upstream gradient, the rule's intermediate and its result; by
  // then the saved tensors begin to go.
  CHECK(memory_stats().peak_bytes - before <= forward + 3 * kBytes + 4096);
  CHECK(memory_stats().live_bytes - before <= kBytes + 4096);  // x.grad() is left
}

TEST_CASE("memory: without recording nothing is kept") {
  constexpr int64_t kElements = 1 << 16;
  Tensor x = ones({kElements}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const NoGradGuard guard;
  const int64_t before = memory_stats().live_bytes;
  reset_peak_memory();
  Tensor y = x;
  for (int i = 0; i < 20; ++i) {
    y = sin(y);
  }
  CHECK(memory_stats().peak_bytes - before <= 2 * kElements * 8);
}

TEST_CASE("memory: a training loop is flat over 1,000 steps") {
  Generator generator(1);
  Tensor w = randn({8, 8}, generator, {DType::f64, Device::cpu()});
  w.set_requires_grad();
  int64_t after_warm_up = 0;
  for (int step = 0; step < 1000; ++step) {
    const Tensor x = randn({4, 8}, generator, {DType::f64, Device::cpu()});
    const Tensor y = softmax(tanh(matmul(x, w)), -1);
    const Tensor loss = mean(square(y - 0.5));
    loss.backward();
    const NoGradGuard guard;
    add_(w, w.grad(), -0.01);
    w.zero_grad();
    if (step == 10) {
      after_warm_up = memory_stats().live_bytes;
    }
  }
  CHECK(memory_stats().live_bytes <= after_warm_up);
}

TEST_CASE("memory: dropping a graph without a backward pass frees it") {
  Tensor x = ones({1024}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor y = softmax(exp(x) * x, -1);
    CHECK(memory_stats().live_bytes > before);
  }
  CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("memory: second-order graphs leave nothing behind") {
  Tensor x = ones({16}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor y = sum(exp(sigmoid(x)));
    const Tensor g = grad(y, x, Tensor(), {.create_graph = true});
    const Tensor h = grad(sum(square(g)), x);
    CHECK(h.defined());
  }
  CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("deep graphs: a chain of 100,000 ops neither overflows the stack in backward nor when it is freed") {
  Tensor x = ones({1}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  auto chain = [&] {
    Tensor y = x;
    for (int i = 0; i < 100000; ++i) {
      y = y * 1.0;
    }
    return y;
  };
  SUBCASE("backward") {
    chain().backward();
    CHECK(x.grad().item() == 1.0);
  }
  SUBCASE("freed unused") {
    const Tensor y = chain();
    CHECK(y.requires_grad());
  }
  SUBCASE("with saved outputs and inputs") {
    Tensor y = x;
    for (int i = 0; i < 50000; ++i) {
      y = sigmoid(y) * x;
    }
    CHECK(y.requires_grad());
  }
  SUBCASE("through create_graph") {
    Tensor y = x;
    for (int i = 0; i < 20000; ++i) {
      y = y * x;
    }
    const Tensor g = grad(y, x, Tensor(), {.create_graph = true});
    CHECK(g.item() == 20001.0);
    CHECK(grad(g, x).item() == 20001.0 * 20000.0);
  }
}

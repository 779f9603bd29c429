#include "autograd/function.h"

#include <doctest/doctest.h>

#include "deltatape.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {

// y = x^3, from the saved input.
struct Cube : Function {
  [[nodiscard]] std::string_view name() const override { return "cube"; }
  std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> x) const override {
    context.save_for_backward({x[0]});
    return {x[0] * x[0] * x[0]};
  }
  Gradients backward(FunctionContext& context, std::span<const Tensor> dy) const override {
    return {3.0 * square(context.saved()[0]) * dy[0]};
  }
};

// y = exp(x), z = 2 x, from the saved output.
struct ExpAndDouble : Function {
  [[nodiscard]] std::string_view name() const override { return "exp_and_double"; }
  std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> x) const override {
    std::vector<Tensor> outputs{exp(x[0]), x[0] * 2.0};
    context.save_for_backward({outputs[0]});
    return outputs;
  }
  Gradients backward(FunctionContext& context, std::span<const Tensor> d) const override {
    return {context.saved()[0] * d[0] + d[1] * 2.0};
  }
};

Tensor input() { return from_vector<double>({0.5, -1.0, 2.0}); }

}  // namespace

TEST_CASE("Function: first and second derivatives of a user's op") {
  const auto cube = [](const std::vector<Tensor>& x) { return apply_function(std::make_shared<Cube>(), x); };
  const auto both = [](const std::vector<Tensor>& x) { return apply_function(std::make_shared<ExpAndDouble>(), x); };
  for (const TensorFunction& f : {TensorFunction(cube), TensorFunction(both)}) {
    const GradcheckReport first = gradcheck(f, {input()});
    CHECK_MESSAGE(first.ok, first.text());
    const GradcheckReport second = gradgradcheck(f, {input()});
    CHECK_MESSAGE(second.ok, second.text());
  }
}

TEST_CASE("Function: one gradient missing counts as zeros") {
  Tensor x = input();
  x.set_requires_grad();
  const std::vector<Tensor> y = apply_function(std::make_shared<ExpAndDouble>(), {x});
  sum(y[1]).backward();
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2.0, 2.0, 2.0});
}

TEST_CASE("Function: a saved output makes no reference cycle") {
  Tensor x = input();
  x.set_requires_grad();
  const int64_t before = memory_stats().live_bytes;
  static_cast<void>(apply_function(std::make_shared<ExpAndDouble>(), {x}));
  CHECK(memory_stats().live_bytes == before);
}

TEST_CASE("Function: a saved tensor that was modified in place is noticed") {
  Tensor w = input();
  w.set_requires_grad();
  Tensor x = input();
  const Tensor y = apply_function(std::make_shared<Cube>(), {w})[0];
  {
    const NoGradGuard guard;
    fill_(w, 1.0);
  }
  CHECK_THROWS_AS(sum(y).backward(), Error);
}

TEST_CASE("checkpoint: same gradients as without, first and second order, captured parameters included") {
  Tensor w = from_vector<double>({0.3, -0.2, 0.7});
  w.set_requires_grad();
  const auto block = [&](const Tensor& x) { return tanh(x * w) + sin(x); };
  const auto gradients = [&](bool checkpointed) {
    Tensor x = input();
    x.set_requires_grad();
    w.zero_grad();
    const Tensor inner = square(x);
    const Tensor y = checkpointed ? checkpoint(block, inner) : block(inner);
    sum(y * y).backward();
    return std::pair(x.grad().to_vector<double>(), w.grad().to_vector<double>());
  };
  CHECK(gradients(false) == gradients(true));

  const auto f = [](const std::vector<Tensor>& x) {
    const auto body = [weight = x[1]](const Tensor& t) { return tanh(t * weight) * t; };
    return std::vector<Tensor>{checkpoint(body, square(x[0]))};
  };
  const GradcheckReport first = gradcheck(f, {input(), input() * 0.3});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(f, {input(), input() * 0.3});
  CHECK_MESSAGE(second.ok, second.text());
}

TEST_CASE("checkpoint: inputs that depend on each other are not counted twice") {
  const auto f = [](const std::vector<Tensor>& x) {
    const Tensor a = sin(x[0]);
    const Tensor b = exp(a);
    const std::vector<Tensor> inputs{a, b};
    return checkpoint([](std::span<const Tensor> t) { return std::vector<Tensor>{t[0] * t[1]}; }, inputs);
  };
  const GradcheckReport first = gradcheck(f, {input()});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(f, {input()});
  CHECK_MESSAGE(second.ok, second.text());
}

TEST_CASE("checkpoint: grad() finds captured parameters") {
  Tensor w = input();
  w.set_requires_grad();
  const Tensor y = checkpoint([&](const Tensor& x) { return x * w; }, input());
  CHECK(grad(sum(y), w).to_vector<double>() == input().to_vector<double>());
}

TEST_CASE("checkpoint: keeps only its inputs") {
  Tensor x = ones({1 << 14}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const int64_t before = memory_stats().live_bytes;
  const Tensor y = checkpoint(
      [](Tensor t) {
        for (int i = 0; i < 10; ++i) {
          t = sin(t);
        }
        return t;
      },
      x);
  CHECK(memory_stats().live_bytes - before <= (1 << 14) * 8 + 1024);
}

namespace {

// exp(x)^2 with a saved intermediate: right to first order only.
struct SquaredExp : Function {
  [[nodiscard]] std::string_view name() const override { return "squared_exp"; }
  std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> x) const override {
    const Tensor e = exp(x[0]);
    context.save_for_backward({e});
    return {e * e};
  }
  Gradients backward(FunctionContext& context, std::span<const Tensor> dy) const override {
    const Tensor e = context.saved()[0];
    return {2.0 * e * e * dy[0]};
  }
};

// Returns a tensor that it keeps.
struct Constant : Function {
  Tensor kept = from_vector<double>({1.0, 2.0, 3.0});
  [[nodiscard]] std::string_view name() const override { return "constant"; }
  std::vector<Tensor> forward(FunctionContext&, std::span<const Tensor>) const override { return {kept}; }
  Gradients backward(FunctionContext&, std::span<const Tensor>) const override { return {Tensor()}; }
};

}  // namespace

TEST_CASE("Function: a saved intermediate is refused where its history would be missed") {
  const TensorFunction f = [](const std::vector<Tensor>& x) {
    return apply_function(std::make_shared<SquaredExp>(), x);
  };
  const GradcheckReport first = gradcheck(f, {input()});
  CHECK_MESSAGE(first.ok, first.text());
  Tensor x = input();
  x.set_requires_grad();
  CHECK_THROWS_AS(grad(sum(f({x})[0]), x, Tensor(), {.create_graph = true}), Error);
}

TEST_CASE("Function: a tensor that forward keeps stays the function's own") {
  Tensor x = input();
  x.set_requires_grad();
  const auto constant = std::make_shared<Constant>();
  const Tensor y = apply_function(constant, {x})[0];
  CHECK(y.requires_grad());
  CHECK_FALSE(constant->kept.requires_grad());
}

TEST_CASE("checkpoint: a captured parameter that was modified in place is noticed") {
  Tensor w = input();
  w.set_requires_grad();
  const Tensor y = checkpoint([&](const Tensor& x) { return x * w * w; }, input());
  {
    const NoGradGuard guard;
    add_(w, ones_like(w));
  }
  CHECK_THROWS_AS(sum(y).backward(), Error);
}

TEST_CASE("checkpoint: a captured tensor with a history is refused") {
  Tensor w = input();
  w.set_requires_grad();
  const Tensor h = w * 2.0;
  CHECK_ERROR(
      checkpoint([&](const Tensor& x) { return sin(x * h); }, input()),
      "checkpoint: the function captured a tensor made by 'mul', expected captured tensors to be leaves; pass it "
      "as an input");
  sum(h).backward();  // h's own graph is as it was
  CHECK(w.grad().to_vector<double>() == std::vector<double>{2.0, 2.0, 2.0});
}

#include "autograd/backward.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "deltatape.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
Tensor leaf(const std::vector<double>& values, const Shape& shape) {
  return from_vector(values, shape).set_requires_grad();
}
Tensor leaf(const std::vector<double>& values) { return leaf(values, {static_cast<int64_t>(values.size())}); }
using Doubles = std::vector<double>;
}  // namespace

TEST_CASE("backward: the gradient of a product reaches both leaves") {
  const Tensor a = leaf({2.0, 3.0});
  const Tensor b = leaf({5.0, 7.0});
  const Tensor y = a * b;
  CHECK(y.requires_grad());
  CHECK_FALSE(y.is_leaf());
  y.backward(from_vector<double>({1.0, 10.0}));
  CHECK(a.grad().to_vector<double>() == Doubles{5.0, 70.0});
  CHECK(b.grad().to_vector<double>() == Doubles{2.0, 30.0});
}

TEST_CASE("backward: a tensor used twice gets the sum of its gradients") {
  const Tensor x = leaf({3.0});
  (x * x + x).backward();
  CHECK(x.grad().item() == 7.0);
}

TEST_CASE("backward: gradients accumulate over passes until cleared") {
  Tensor x = leaf({3.0});
  square(x).backward();
  square(x).backward();
  CHECK(x.grad().item() == 12.0);
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  square(x).backward();
  CHECK(x.grad().item() == 6.0);
}

TEST_CASE("backward: leaves of one pass never share gradient memory") {
  Tensor a = leaf({1.0, 2.0});
  Tensor b = leaf({3.0, 4.0});
  const Tensor upstream = from_vector<double>({1.0, 1.0});
  (a + b).backward(upstream);
  Tensor gradient = a.grad();
  mul_(gradient, 5.0);
  CHECK(b.grad().to_vector<double>() == Doubles{1.0, 1.0});
  CHECK(upstream.to_vector<double>() == Doubles{1.0, 1.0});
}

TEST_CASE("backward: the caller's upstream gradient is never written to") {
  const Tensor x = leaf({1.0, 2.0});
  const Tensor upstream = from_vector<double>({1.0, 2.0});
  for (int pass = 0; pass < 3; ++pass) {
    (x + x).backward(upstream);
  }
  CHECK(upstream.to_vector<double>() == Doubles{1.0, 2.0});
  CHECK(x.grad().to_vector<double>() == Doubles{6.0, 12.0});
}

TEST_CASE("backward: several outputs at once, with and without upstream gradients") {
  const Tensor x = leaf({2.0});
  const std::vector<Tensor> outputs{square(x), x * 10.0};
  backward(outputs);
  CHECK(x.grad().item() == 14.0);
  CHECK_ERROR(backward(outputs, std::vector<Tensor>{scalar(1.0)}),
              "backward: 1 gradients were given for 2 outputs, expected as many or none");
}

TEST_CASE("backward: only what leads to a leaf is recorded") {
  const Tensor x = leaf({2.0});
  const Tensor c = from_vector<double>({4.0});
  CHECK_FALSE((c * c).requires_grad());
  CHECK_FALSE(x.detach().requires_grad());
  {
    const NoGradGuard guard;
    CHECK_FALSE((x * c).requires_grad());
    const EnableGradGuard inner;
    CHECK((x * c).requires_grad());
  }
  CHECK((x * c).requires_grad());
}

TEST_CASE("backward: errors") {
  const Tensor x = leaf({2.0, 3.0});
  CHECK_ERROR((x * 2.0).backward(),
              "backward: an output has shape [2], expected one element where no gradient is given");
  CHECK_ERROR(from_vector<double>({1.0}).backward(),
              "backward: an output (f64[1] cpu) has no history: no op that made it was recorded with an input that "
              "requires a gradient");
  CHECK_ERROR((x * 2.0).backward(from_vector<double>({1.0})),
              "backward: the gradient of an output is f64[1] cpu, expected f64[2] cpu");
  CHECK_ERROR((x * 2.0).backward(from_vector<float>({1.0F, 1.0F})),
              "backward: the gradient of an output is f32[2] cpu, expected f64[2] cpu");
  Tensor integers = from_vector<int64_t>({1});
  CHECK_ERROR(integers.set_requires_grad(),
              "set_requires_grad: the tensor has dtype i64, expected a floating-point dtype");
  Tensor y = x * 2.0;
  CHECK_ERROR(y.set_requires_grad(false),
              "set_requires_grad: the tensor was made by 'mul', expected a leaf; detach it first");
}

TEST_CASE("backward: a freed graph is refused, a retained one can be walked again") {
  const Tensor x = leaf({2.0});
  const Tensor y = square(x);
  y.backward();
  CHECK_ERROR(y.backward(),
              "backward: what 'square' saved was freed by an earlier backward pass; pass retain_graph to keep it");
  CHECK(x.grad().item() == 4.0);
  const Tensor z = square(x);
  z.backward(Tensor(), {.retain_graph = true});
  z.backward();
  CHECK(x.grad().item() == 12.0);
}

TEST_CASE("backward: a saved tensor that was modified in place is noticed, and no leaf changes") {
  Tensor w = leaf({2.0});
  Tensor x = from_vector<double>({3.0});
  const Tensor y = w * x;
  fill_(x, 5.0);
  CHECK_ERROR(
      y.backward(),
      "backward: in the rule of 'mul': Saved: a tensor saved for backward (f64[1] cpu) was modified in place: it "
      "is at version 1, expected 0");
  CHECK_FALSE(w.grad().defined());
  SUBCASE("through a view as well") {
    Tensor base = from_vector<double>({3.0, 4.0});
    const Tensor z = w * base[0];
    fill_(base, 1.0);
    CHECK_THROWS_AS(z.backward(), Error);
  }
  SUBCASE("and an output that the rule needs") {
    const Tensor z = exp(w);
    Tensor alias = z.detach();
    fill_(alias, 0.0);
    CHECK_THROWS_AS(z.backward(), Error);
  }
}

TEST_CASE("backward: a rule that returns a wrong gradient is named") {
  const Tensor x = leaf({1.0, 2.0});
  auto custom = [&](const Tensor& gradient) {
    return record("bad_op", from_vector<double>({0.0, 0.0}), {x},
                  [gradient](const RuleContext&) { return Gradients{gradient}; });
  };
  const Tensor upstream = from_vector<double>({1.0, 1.0});
  CHECK_ERROR(custom(from_vector<double>({1.0})).backward(upstream),
              "backward: the rule of 'bad_op' returned f64[1] cpu for input 0 (made by 'leaf'), expected f64[2] cpu");
  CHECK_ERROR(custom(from_vector<float>({1.0F, 1.0F})).backward(upstream),
              "backward: the rule of 'bad_op' returned f32[2] cpu for input 0 (made by 'leaf'), expected f64[2] cpu");
  const Tensor many = record("bad_op", from_vector<double>({0.0}), {x}, [](const RuleContext&) {
    return Gradients{Tensor(), Tensor()};
  });
  CHECK_ERROR(many.backward(), "backward: the rule of 'bad_op' returned 2 gradients, expected 1");
}

TEST_CASE("backward: an undefined gradient counts as zero") {
  const Tensor x = leaf({1.0});
  const Tensor none =
      record("no_gradient", from_vector<double>({0.0}), {x}, [](const RuleContext&) { return Gradients{Tensor()}; });
  (none + x * 3.0).backward();
  CHECK(x.grad().item() == 3.0);
}

TEST_CASE("backward: anomaly detection names the first op with a gradient that is not finite") {
  const Tensor x = leaf({0.0});
  CHECK_ERROR((log(sqrt(x)) * 2.0).backward(Tensor(), {.detect_anomaly = true}),
              "backward: the gradient that 'log' returned for input 0 (f64[1] cpu) has NaN or infinite elements");
  CHECK_FALSE(x.grad().defined());
  sqrt(x + 1.0).backward(Tensor(), {.detect_anomaly = true});
  CHECK(x.grad().item() == 0.5);
}

TEST_CASE("grad: leaves and intermediates, without touching .grad()") {
  const Tensor x = leaf({3.0});
  const Tensor y = square(x);
  const Tensor z = y * x;  // x^3
  const std::vector<Tensor> found = grad(std::vector<Tensor>{z}, std::vector<Tensor>{x, y});
  CHECK(found[0].item() == 27.0);
  CHECK(found[1].item() == 3.0);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("grad: unused inputs are an error unless allowed") {
  const Tensor x = leaf({3.0});
  const Tensor other = leaf({1.0});
  const std::vector<Tensor> outputs{square(x)};
  const std::vector<Tensor> inputs{other};
  CHECK_ERROR(grad(outputs, inputs, {}, {.retain_graph = true}),
              "grad: no output depends on input 0 (f64[1] cpu); pass allow_unused to get an undefined gradient");
  CHECK_FALSE(grad(outputs, inputs, {}, {.retain_graph = true, .allow_unused = true})[0].defined());
  CHECK_ERROR(grad(outputs, std::vector<Tensor>{from_vector<double>({1.0})}),
              "grad: input 0 (f64[1] cpu) does not require a gradient");
}

TEST_CASE("grad: create_graph gives derivatives of every order") {
  const Tensor x = leaf({2.0});
  Tensor y = pow(x, 4.0);
  const Doubles expected{32.0, 48.0, 48.0, 24.0};
  for (const double derivative : expected) {
    y = grad(y, x, Tensor(), {.create_graph = true});
    CHECK(y.item() == doctest::Approx(derivative));
  }
}

TEST_CASE("backward: create_graph makes .grad() differentiable") {
  Tensor x = leaf({2.0});
  pow(x, 3.0).backward(Tensor(), {.create_graph = true});
  const Tensor first = x.grad();
  CHECK(first.item() == 12.0);
  CHECK(grad(first, x).item() == 12.0);
  x.zero_grad();  // x holds a gradient whose graph holds x
}

TEST_CASE("hooks: on leaves and on intermediates, may replace a gradient, may be removed") {
  Tensor x = leaf({2.0});
  Doubles seen;
  HookHandle handle = x.register_hook([&](const Tensor& gradient) {
    seen.push_back(gradient.item());
    return Tensor();
  });
  {
    Tensor y = square(x);
    y.register_hook([](const Tensor& gradient) { return gradient * 10.0; });
    (y + x).backward();
  }
  CHECK(seen == Doubles{41.0});  // called once, with the complete sum
  CHECK(x.grad().item() == 41.0);
  handle.remove();
  square(x).backward();
  CHECK(seen.size() == 1);
  Tensor y = square(x);
  y.register_hook([](const Tensor&) { return from_vector<double>({1.0, 2.0}); });
  CHECK_ERROR(y.backward(), "backward: a hook on an output of 'square' returned f64[2] cpu, expected f64[1] cpu");
}

TEST_CASE("retain_grad: a non-leaf keeps its gradient when asked") {
  const Tensor x = leaf({2.0});
  Tensor y = square(x);
  const Tensor z = y * 3.0;
  y.retain_grad();
  z.backward();
  CHECK(y.grad().item() == 3.0);
  CHECK_FALSE(z.grad().defined());
}

TEST_CASE("set_grad: only a fitting gradient on a leaf") {
  Tensor x = leaf({2.0});
  x.set_grad(from_vector<double>({9.0}));
  CHECK(x.grad().item() == 9.0);
  CHECK_ERROR(x.set_grad(from_vector<double>({1.0, 2.0})), "set_grad: grad is f64[2] cpu, expected f64[1] cpu");
}

TEST_CASE("to_dot: ops, leaves and arrows") {
  const Tensor x = leaf({2.0});
  const std::string text = to_dot(exp(x) * x);
  CHECK(text ==
        "digraph tape {\n"
        "  node [fontname=\"Helvetica\", fontsize=11];\n"
        "  n0 [label=\"mul\\nf64[1]\", shape=box];\n"
        "  n1 [label=\"exp\\nf64[1]\", shape=box];\n"
        "  n2 [label=\"leaf\\nf64[1]\", shape=ellipse];\n"
        "  n1 -> n0;\n"
        "  n2 -> n0;\n"
        "  n2 -> n1;\n"
        "}\n");
}

TEST_CASE("hooks: one that throws leaves every leaf as it was") {
  const Tensor a = leaf({2.0});
  Tensor b = leaf({3.0});
  b.register_hook([](const Tensor&) -> Tensor { throw Error("no"); });
  CHECK_THROWS_AS((a * b).backward(), Error);
  CHECK_FALSE(a.grad().defined());
  CHECK_FALSE(b.grad().defined());
}

TEST_CASE("zero_grad: clears what retain_grad kept") {
  const Tensor x = leaf({2.0});
  Tensor y = square(x);
  y.retain_grad();
  sum(y).backward(Tensor(), {.retain_graph = true});
  CHECK(y.grad().item() == 1.0);
  y.zero_grad();
  CHECK_FALSE(y.grad().defined());
}

TEST_CASE("record: an output that has history is refused") {
  const Tensor x = leaf({2.0});
  CHECK_ERROR(record("identity", x, {x}, [](const RuleContext& c) { return Gradients{c.grad(0)}; }),
              "record: output 0 of 'identity' has history, expected a fresh tensor (detach() makes one)");
}

TEST_CASE("Tensor: methods of an undefined tensor throw") {
  const Tensor none;
  CHECK_ERROR(none.shape(), "Tensor: the tensor is undefined, expected one with elements");
  CHECK_THROWS_AS(static_cast<void>(none.numel()), Error);
  CHECK_THROWS_AS(static_cast<void>(none.requires_grad()), Error);
  CHECK_THROWS_AS(static_cast<void>(leaf({2.0}).grad().dtype()), Error);
}

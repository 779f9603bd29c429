// The checker itself: it must find what is wrong.
#include "autograd/gradcheck.h"

#include <doctest/doctest.h>

#include <limits>

#include "deltatape.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {

Tensor input() { return from_vector<double>({0.5, -1.0, 2.0, 0.25}, {2, 2}); }

// sin(x) whose rule returns `factor` * cos(x) * dy, plus `offset` in the last element.
std::vector<Tensor> faulty_sin(const Tensor& x, double factor, double offset) {
  const Tensor y = [&] {
    const NoGradGuard guard;
    return sin(x);
  }();
  return {record("faulty_sin", y.detach(), {x}, [x = Saved(x), factor, offset](const RuleContext& c) {
    return Gradients{factor * cos(x) * c.grad(0) + from_vector<double>({0.0, 0.0, 0.0, offset}, {2, 2})};
  })};
}

}  // namespace

TEST_CASE("gradcheck: a right gradient passes, element by element and along directions") {
  const TensorFunction f = [](const std::vector<Tensor>& x) { return std::vector<Tensor>{sin(x[0]) * x[1]}; };
  const GradcheckReport report = gradcheck(f, {input(), input()});
  CHECK_MESSAGE(report.ok, report.text());
  CHECK(report.inputs.size() == 2);
  CHECK(report.inputs[0].comparisons == 4);
  GradcheckOptions options;
  options.directions = 3;
  const GradcheckReport along = gradcheck(f, {input(), input()}, options);
  CHECK_MESSAGE(along.ok, along.text());
  CHECK(along.inputs[1].comparisons == 3);
}

TEST_CASE("gradcheck: a wrong factor, or one wrong element, fails and is located") {
  const TensorFunction scaled = [](const std::vector<Tensor>& x) { return faulty_sin(x[0], 1.001, 0.0); };
  CHECK_FALSE(gradcheck(scaled, {input()}).ok);
  const TensorFunction single = [](const std::vector<Tensor>& x) { return faulty_sin(x[0], 1.0, 1e-4); };
  const GradcheckReport report = gradcheck(single, {input()});
  CHECK_FALSE(report.ok);
  CHECK(report.inputs[0].index == Shape{1, 1});
  CHECK(report.inputs[0].analytic - report.inputs[0].numeric == doctest::Approx(1e-4).epsilon(1e-3));
  CHECK(report.text().find("FAILED") != std::string::npos);
  GradcheckOptions options;
  options.directions = 3;
  CHECK_FALSE(gradcheck(single, {input()}, options).ok);
}

TEST_CASE("gradcheck: errors that cancel in a sum of outputs are seen") {
  // The gradient of softmax's sum is zero; a rule that returns zero is wrong all the same.
  const TensorFunction f = [](const std::vector<Tensor>& x) {
    const Tensor y = softmax(x[0].detach(), -1);
    return std::vector<Tensor>{
        record("constant_softmax", y, {x[0]}, [](const RuleContext& c) { return Gradients{c.grad(0) * 0.0}; })};
  };
  CHECK_FALSE(gradcheck(f, {input()}).ok);
}

TEST_CASE("gradcheck: NaN on either side fails") {
  const TensorFunction analytic = [](const std::vector<Tensor>& x) {
    return faulty_sin(x[0], 1.0, std::numeric_limits<double>::quiet_NaN());
  };
  CHECK_FALSE(gradcheck(analytic, {input()}).ok);
  const TensorFunction numeric = [](const std::vector<Tensor>& x) { return std::vector<Tensor>{log(x[0])}; };
  CHECK_FALSE(gradcheck(numeric, {input()}).ok);
}

TEST_CASE("gradcheck: a gradient that never arrives fails") {
  const TensorFunction f = [](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{sin(x[0].detach()) + 0.0 * x[0]};
  };
  CHECK_FALSE(gradcheck(f, {input()}).ok);
}

TEST_CASE("gradcheck: f32 inputs are refused, integer inputs are passed on") {
  const TensorFunction f = [](const std::vector<Tensor>& x) { return std::vector<Tensor>{embedding(x[0], x[1])}; };
  CHECK_ERROR(gradcheck(f, {to(input(), DType::f32), from_vector<int64_t>({1})}),
              "gradcheck: input 0 has dtype f32, expected f64: central differences in a narrower type are too rough "
              "(near 1e-3 in f32) and hide real mistakes");
  const GradcheckReport report = gradcheck(f, {input(), from_vector<int64_t>({1, 0, 1})});
  CHECK_MESSAGE(report.ok, report.text());
  CHECK(report.inputs.size() == 1);
}

TEST_CASE("gradgradcheck: right second derivatives pass, a rule that forgets its input fails") {
  const TensorFunction f = [](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{sigmoid(x[0]) * x[0], exp(x[0])};
  };
  const GradcheckReport report = gradgradcheck(f, {input()});
  CHECK_MESSAGE(report.ok, report.text());
  const TensorFunction forgetful = [](const std::vector<Tensor>& x) {
    const Tensor y = sin(x[0].detach());
    return std::vector<Tensor>{record("forgetful", y, {x[0]}, [kept = cos(x[0].detach())](const RuleContext& c) {
      return Gradients{kept * c.grad(0)};
    })};
  };
  CHECK(gradcheck(forgetful, {input()}).ok);
  CHECK_FALSE(gradgradcheck(forgetful, {input()}).ok);
}

TEST_CASE("gradcheck: functions that cannot be checked are refused, never passed") {
  const TensorFunction nothing = [](const std::vector<Tensor>&) { return std::vector<Tensor>{}; };
  const TensorFunction undefined = [](const std::vector<Tensor>&) { return std::vector<Tensor>{Tensor()}; };
  const TensorFunction same = [](const std::vector<Tensor>& x) { return x; };
  int calls = 0;
  const TensorFunction changing = [&](const std::vector<Tensor>& x) {
    return ++calls < 3 ? std::vector<Tensor>{x[0], x[0]} : std::vector<Tensor>{x[0]};
  };
  for (const auto check : {&gradcheck, &gradgradcheck}) {
    CHECK_THROWS_AS(check(nothing, {input()}, {}), Error);
    CHECK_THROWS_AS(check(undefined, {input()}, {}), Error);
    CHECK_THROWS_AS(check(same, {from_vector<int64_t>({1})}, {}), Error);
    CHECK_THROWS_AS(check(TensorFunction(), {input()}, {}), Error);
    calls = 0;
    CHECK_THROWS_AS(check(changing, {input()}, {}), Error);
  }
}

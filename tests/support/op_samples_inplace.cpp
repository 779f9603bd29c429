#include "ops/convert.h"
#include "ops/inplace.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// Changes a copy of the first input; with a second, that is the operand.
template <class F>
OpSample changed(const std::string& name, const std::string& variant, const Shape& shape, F change) {
  return OpSample(name, variant)
      .in(shape)
      .calls([change](const Tensors& t) {
        Tensor x = clone(t[0]);
        change(x, t);
        return x;
      })
      .no_gradient();
}

std::function<void()> on_nothing(void (*change)(Tensor&)) {
  return [change] {
    Tensor none;
    change(none);
  };
}

// The same on every second column of a block, of which the rest must stay as it is.
template <class F>
OpSample changed_in_part(const std::string& name, const Shape& shape, F change) {
  return OpSample(name, "part of a block")
      .in(shape)
      .calls([change](const Tensors& t) {
        Tensor block = clone(t[0]);
        Tensor part = block.as_view({block.size(1) / 2, block.size(0)}, {2, block.size(1)}, 1);  // transposed
        change(part, t);
        return block;
      })
      .no_gradient();
}

Array in_part(const Array& x, const std::function<double(double, const Shape&)>& f) {
  return build(x.shape, [&](const Shape& i) { return i[1] % 2 == 1 ? f(x.at(i), {i[1] / 2, i[0]}) : x.at(i); });
}

}  // namespace

std::vector<OpSample> inplace_samples() {
  const auto fill = [](Tensor& x, const Tensors&) { fill_(x, -0.5); };
  const auto copy = [](Tensor& x, const Tensors& t) { copy_(x, t.at(1)); };
  const auto add = [](Tensor& x, const Tensors& t) { add_(x, t.at(1), -0.5); };
  const auto mul = [](Tensor& x, const Tensors& t) { mul_(x, t.at(1)); };
  const auto scale = [](Tensor& x, const Tensors&) { mul_(x, -1.5); };
  const auto sum = [](double a, double b) { return a - 0.5 * b; };
  const auto product = [](double a, double b) { return a * b; };
  return {
      changed("fill_", "", {5, 9}, fill)
          .equals([](const Array& x) { return filled(x.shape, -0.5); })
          .any_shape()
          .rejects("fill_: x is undefined, expected a tensor", on_nothing([](Tensor& x) { fill_(x, 1); }))
          .rejects("fill_: value is 0.5, expected a whole number that i64 holds",
                   [] {
                     Tensor x = empty({2}, DType::i64);
                     fill_(x, 0.5);
                   })
          .rejects("fill_: x requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard)",
                   [] {
                     Tensor x = empty({2});
                     x.set_requires_grad();
                     fill_(x, 0.5);
                   }),
      changed_in_part("fill_", {5, 8}, fill).equals([](const Array& x) {
        return in_part(x, [](double, const Shape&) { return -0.5; });
      }),
      changed("copy_", "", {5, 9}, copy)
          .in({9})
          .equals([](const Array& x, const Array& source) { return stretch(source, x.shape); })
          .also_for({{0, 9}, {9}})
          .rejects("copy_: x is undefined, expected a tensor", on_nothing([](Tensor& x) { copy_(x, empty({2})); }))
          .rejects("copy_: source has shape [3], expected a shape that broadcasts to [2]",
                   [] {
                     Tensor x = empty({2});
                     copy_(x, empty({3}));
                   }),
      changed_in_part("copy_", {5, 8}, copy).in({4, 5}).equals([](const Array& x, const Array& source) {
        return in_part(x, [&](double, const Shape& i) { return source.at(i); });
      }),
      changed("add_", "", {5, 9}, add)
          .in({5, 1})
          .equals([sum](const Array& x, const Array& y) { return zip(x, y, sum); })
          .also_for({{131, 307}, {131, 307}})
          .also_for({{0, 9}, {1}})
          .rejects("add_: x is undefined, expected a tensor", on_nothing([](Tensor& x) { add_(x, empty({2})); }))
          .rejects("add_: y has shape [3], expected a shape that broadcasts to [2]",
                   [] {
                     Tensor x = empty({2});
                     add_(x, empty({3}));
                   }),
      changed_in_part("add_", {5, 8}, add).in({4, 5}).equals([sum](const Array& x, const Array& y) {
        return in_part(x, [&](double value, const Shape& i) { return sum(value, y.at(i)); });
      }),
      changed("mul_", "", {5, 9}, mul)
          .in({5, 9})
          .equals([product](const Array& x, const Array& y) { return zip(x, y, product); })
          .also_for({{131, 307}, {307}})
          .also_for({{0, 9}, {1}})
          .rejects("mul_: x is undefined, expected a tensor", on_nothing([](Tensor& x) { mul_(x, 2.0); }))
          .rejects("mul_: y has shape [3], expected a shape that broadcasts to [2]",
                   [] {
                     Tensor x = empty({2});
                     mul_(x, empty({3}));
                   }),
      changed_in_part("mul_", {5, 8}, mul).in({4, 5}).equals([product](const Array& x, const Array& y) {
        return in_part(x, [&](double value, const Shape& i) { return product(value, y.at(i)); });
      }),
      changed("mul_", "number", {5, 9}, scale)
          .equals([](const Array& x) { return map(x, [](double v) { return -1.5 * v; }); })
          .any_shape(),
      // Reading and writing the same memory: as if the operand had been read first.
      changed("add_", "itself transposed", {5, 5},
              [](Tensor& x, const Tensors&) {
                add_(x, x.as_view({5, 5}, {1, 5}, 0), -0.5);
              })
          .equals([sum](const Array& x) {
            return zip(x, permuted(x, {1, 0}), sum);
          }),
  };
}

}  // namespace deltatape::test

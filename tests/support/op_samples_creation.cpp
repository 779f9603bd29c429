#include "ops/convert.h"
#include "ops/creation.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

const TensorOptions kF64{DType::f64, Device::cpu()};

// A call without tensor arguments.
template <class F>
OpSample made(const std::string& name, const std::string& variant, F f, DType dtype, const Array& expected) {
  return OpSample(name, variant)
      .calls([f](const Tensors&) { return f(); })
      .equals([expected](const Arrays&) { return expected; })
      .gives({dtype})
      .no_gradient();
}

OpSample filled_like(const std::string& name, Tensor (*f)(const Tensor&), double value) {
  return OpSample(name)
      .in({2, 3})
      .calls(f)
      .equals([value](const Array& like) { return filled(like.shape, value); })
      .no_gradient()
      .takes_integers()
      .also_for({{0, 3}})
      .rejects(name + ": like is undefined, expected a tensor", [f] { f(Tensor()); });
}

OpSample copied(const std::string& name, const std::string& variant, Tensor (*f)(const Tensor&)) {
  return OpSample(name, variant)
      .in({5, 9})
      .calls(f)
      .equals([](const Array& x) { return x; })
      .any_shape()
      .takes_integers()
      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor()); });
}

OpSample cast(const std::string& variant, DType from, DType target, const std::vector<double>& values,
              const std::vector<double>& expected) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return OpSample("to", variant)
      .in_values(shape, values, from)
      .calls([target](const Tensor& x) { return to(x, target); })
      .equals([=] { return Array(shape, expected); })
      .gives({target})
      .no_gradient();
}

}  // namespace

std::vector<OpSample> creation_samples() {
  const TensorOptions i32{DType::i32, Device::cpu()};
  return {
      made(
          "zeros", "",
          [] {
            return zeros({2, 3});
          },
          DType::f32, filled({2, 3}, 0)),
      made(
          "zeros", "empty bool",
          [] {
            return zeros({0, 3}, {DType::boolean, Device::cpu()});
          },
          DType::boolean, filled({0, 3}, 0)),
      made(
          "ones", "",
          [] {
            return ones({2, 3});
          },
          DType::f32, filled({2, 3}, 1)),
      made(
          "ones", "scalar", [i32] { return ones({}, i32); }, DType::i32, Array(1)),
      made(
          "full", "",
          [] {
            return full({2, 3}, -0.1, kF64);
          },
          DType::f64, filled({2, 3}, -0.1))
          .rejects("full: value is 0.5, expected a whole number that i32 holds", [i32] { full({2}, 0.5, i32); }),
      made(
          "full", "rounded",
          [] {
            return full({2}, 1.005, {DType::bf16, Device::cpu()});
          },
          DType::bf16, filled({2}, 1.0078125)),
      filled_like("zeros_like", zeros_like, 0),
      filled_like("ones_like", ones_like, 1),
      made(
          "scalar", "", [] { return scalar(2.5); }, DType::f32, Array(2.5)),
      made(
          "arange", "", [] { return arange(4); }, DType::i64, Array({4}, {0, 1, 2, 3}))
          .rejects("arange: count is -1, expected 0 or more", [] { arange(-1); })
          .rejects("arange: step is 0, expected a number that leads from 0 to 1", [] { arange(0.0, 1.0, 0.0); })
          .rejects("arange: step is -1, expected a number that leads from 0 to 1", [] { arange(0.0, 1.0, -1.0); }),
      made(
          "arange", "step", [] { return arange(1, -1, -0.75, kF64); }, DType::f64, Array({3}, {1, 0.25, -0.5})),
      made(
          "arange", "stop left out", [] { return arange(0, 6, 3); }, DType::i64, Array({2}, {0, 3})),
      made(
          "arange", "nothing", [] { return arange(0); }, DType::i64, filled({0}, 0)),
      made(
          "eye", "", [] { return eye(3); }, DType::f32, Array({3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1}))
          .rejects("eye: n is -1, expected 0 or more", [] { eye(-1); }),
      made(
          "eye", "nothing", [] { return eye(0); }, DType::f32, filled({0, 0}, 0)),
  };
}

std::vector<OpSample> convert_samples() {
  return {
      OpSample("to")
          .in({5, 9})
          .calls([](const Tensor& x) { return to(x, DType::f64); })
          .equals([](const Array& x) { return x; })
          .gives({DType::f64})
          .any_shape()
          .takes_integers()
          .rejects("to: x is undefined, expected a tensor", [] { to(Tensor(), DType::f32); }),
      // There and back: the gradient comes back in the dtype of the input, rounded on the way.
      OpSample("to", "and back")
          .in({5, 9}, reals(), DType::f32)
          .calls([](const Tensor& x) { return to(to(x, DType::f64), DType::f32); })
          .equals([](const Array& x) { return x; })
          .gives({DType::f32})
          .one_dtype(),
      cast("f64 to i64", DType::f64, DType::i64, {-1.75, -0.5, 0.5, 2.99}, {-1, 0, 0, 2}),
      cast("f64 to bool", DType::f64, DType::boolean, {-1.75, 0, 0.001, -0.0}, {1, 0, 1, 0}),
      cast("bool to f32", DType::boolean, DType::f32, {0, 1}, {0, 1}),
      cast("i64 to i32", DType::i64, DType::i32, {-7, 0, 2147483647}, {-7, 0, 2147483647}),
      // Halves between two neighbours go to the even one.
      cast("f64 to bf16", DType::f64, DType::bf16, {1 + 0x1p-8, 1 + 3 * 0x1p-8, -1 - 0x1.8p-8},
           {1, 1 + 0x1p-6, -1 - 0x1p-7}),
      cast("f32 to f16", DType::f32, DType::f16, {1 + 0x1p-11, 1 + 3 * 0x1p-11, 65504, 0x1p-24},
           {1, 1 + 0x1p-9, 65504, 0x1p-24}),
      copied("to", "device", [](const Tensor& x) { return to(x, Device::cpu()); }),
      copied("contiguous", "", contiguous),
      copied("clone", "", clone),
  };
}

}  // namespace deltatape::test

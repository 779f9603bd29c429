#include <cmath>
#include <numbers>

#include "ops/random.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

constexpr uint64_t kSeed = 0x0123456789abcdef;
const TensorOptions kF64{DType::f64, Device::cpu()};

// The first 64 bits of element i: the stream as core/generator.h describes it.
uint64_t word(int64_t i, size_t half = 0) {
  const auto words = philox_words(kSeed, static_cast<uint64_t>(i));
  return words[2 * half] | (uint64_t{words[2 * half + 1]} << 32);
}

double uniform_f64(int64_t i) { return static_cast<double>(word(i) >> 11) * 0x1p-53; }
double uniform_f32(int64_t i) { return static_cast<double>((word(i) & 0xffffffffU) >> 8) * 0x1p-24; }

double normal_f64(int64_t i) {
  const double first = static_cast<double>((word(i, 0) >> 11) + 1) * 0x1p-53;
  const double second = static_cast<double>(word(i, 1) >> 11) * 0x1p-53;
  return std::sqrt(-2 * std::log(first)) * std::cos(2 * std::numbers::pi * second);
}

// `element(i)` for the i-th element in row-major order.
Array numbered(const Shape& shape, const std::function<double(int64_t)>& element) {
  int64_t i = 0;
  return build(shape, [&](const Shape&) { return element(i++); });
}

template <class F>
OpSample drawn(const std::string& name, const std::string& variant, F f, DType dtype, const Array& expected) {
  return OpSample(name, variant)
      .calls([f](const Tensors&) {
        Generator generator(kSeed);
        return f(generator);
      })
      .equals([expected](const Arrays&) { return expected; })
      .gives({dtype})
      .no_gradient();
}

}  // namespace

std::vector<OpSample> random_samples() {
  const TensorOptions i32{DType::i32, Device::cpu()};
  return {
      drawn(
          "rand", "",
          [](Generator& g) {
            return rand({3, 41}, g, kF64);
          },
          DType::f64, numbered({3, 41}, uniform_f64))
          .rejects("rand: dtype is i64, expected floating point",
                   [] {
                     Generator g(1);
                     rand({2}, g, {DType::i64, Device::cpu()});
                   }),
      drawn(
          "rand", "f32",
          [](Generator& g) {
            return rand({3, 411}, g);
          },
          DType::f32, numbered({3, 411}, uniform_f32)),
      drawn(
          "rand", "empty", [](Generator& g) { return rand({0}, g); }, DType::f32, filled({0}, 0)),
      // The stream goes on where the last call ended.
      drawn(
          "rand", "second call",
          [](Generator& g) {
            rand({5}, g);
            return rand({4}, g, kF64);
          },
          DType::f64, numbered({4}, [](int64_t i) { return uniform_f64(i + 5); })),
      drawn(
          "randn", "",
          [](Generator& g) {
            return randn({3, 41}, g, kF64);
          },
          DType::f64, numbered({3, 41}, normal_f64)),
      drawn(
          "randint", "",
          [](Generator& g) {
            return randint(-3, 5, {3, 41}, g);
          },
          DType::i64, numbered({3, 41}, [](int64_t i) { return static_cast<double>(word(i) >> 61) - 3.0; }))
          .rejects("randint: low is 3 and high is 3, expected low < high",
                   [] {
                     Generator g(1);
                     randint(3, 3, {2}, g);
                   }),
      drawn(
          "randint", "one value", [i32](Generator& g) { return randint(7, 8, {9}, g, i32); }, DType::i32,
          filled({9}, 7)),
      OpSample("dropout")
          .in({5, 9})
          .calls([](const Tensor& x) {
            Generator generator(kSeed);
            return dropout(x, 0.25, generator);
          })
          .equals([](const Array& x) {
            const Array kept = numbered(x.shape, [](int64_t i) { return uniform_f32(i) >= 0.25 ? 1 / 0.75 : 0.0; });
            return zip(x, kept, [](double value, double factor) { return value * factor; });
          })
          .any_shape()
          .rejects("dropout: p is 1, expected 0 <= p < 1",
                   [] {
                     Generator g(1);
                     dropout(empty({2}), 1.0, g);
                   }),
      OpSample("dropout", "nothing dropped")
          .in({5, 9})
          .calls([](const Tensor& x) {
            Generator generator(kSeed);
            return dropout(x, 0.0, generator);
          })
          .equals([](const Array& x) { return x; }),
      // Only one choice has weight, so that any correct way of drawing gives it.
      OpSample("multinomial")
          .in_values({3, 4}, {0, 0, 2, 0, 1e-3, 0, 0, 0, 0, 0, 0, 5}, DType::f64)
          .calls([](const Tensor& weights) {
            Generator generator(kSeed);
            return multinomial(weights, 6, generator);
          })
          .equals([] {
            return build({3, 6}, [](const Shape& i) { return i[0] == 0 ? 2.0 : i[0] == 1 ? 0.0 : 3.0; });
          })
          .gives({DType::i64})
          .no_gradient()
          .rejects("multinomial: weights is undefined",
                   [] {
                     Generator g(1);
                     multinomial(Tensor(), 1, g);
                   })
          .rejects("multinomial: weights has sum 0 in row 1, expected more than 0",
                   [] {
                     Generator g(1);
                     multinomial(from_vector(std::vector<float>{1, 2, 0, 0}, {2, 2}), 1, g);
                   }),
      OpSample("multinomial", "no rows")
          .in({0, 4}, between(0.5, 1))
          .calls([](const Tensor& weights) {
            Generator generator(kSeed);
            return multinomial(weights, 6, generator);
          })
          .equals([] {
            return filled({0, 6}, 0);
          })
          .gives({DType::i64})
          .no_gradient(),
  };
}

}  // namespace deltatape::test

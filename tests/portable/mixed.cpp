// A program with the kernels' inline functions, compiled for AVX2, beside a library that may be compiled for AVX-512.
// Vec<T> is another type there under the same name: were the library's calls to end here, results would be wrong. Runs
// ops that call what is never inlined, and prints the library's instruction set.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "backends/cpu/kda/tile.h"
#include "backends/cpu/vec.h"
#include "backends/elementwise_functions.h"
#include "core/generator.h"
#include "core/instruction_set.h"
#include "ops/kda/plan.h"
#include "ops/ops.h"

namespace {

using namespace deltatape;

bool failed = false;

void expect(bool right, const char* what) {
  if (!right) {
    std::printf("wrong: %s\n", what);
    failed = true;
  }
}

bool near(double actual, double expected, double tolerance) {
  return std::abs(actual - expected) <= tolerance * std::abs(expected);
}

// f by the library's op and by this program's vectors. The kernels call pow and sigmoid of vectors out of line.
template <class T, class Op, class Own, class Exact>
void compare(const char* name, const std::vector<T>& points, Op op, Own own, Exact exact) {
  const std::vector<T> from_library = op(from_vector(points)).template to_vector<T>();
  const int64_t step = cpu::Vec<T>::kSize;
  std::vector<T> from_here(points.size());
  for (int64_t i = 0; i < static_cast<int64_t>(points.size()); i += step) {
    const int64_t count = std::min(step, static_cast<int64_t>(points.size()) - i);
    own(cpu::Vec<T>::load_part(points.data() + i, count)).store_part(from_here.data() + i, count);
  }
  for (size_t i = 0; i < points.size(); ++i) {
    const double expected = exact(static_cast<double>(points[i]));
    const double tolerance = std::max(16.0 * static_cast<double>(std::numeric_limits<T>::epsilon()),
                                      static_cast<double>(std::numeric_limits<T>::denorm_min()) / expected);
    expect(near(static_cast<double>(from_library[i]), expected, std::abs(tolerance)), name);
    expect(near(static_cast<double>(from_here[i]), expected, std::abs(tolerance)), name);
  }
}

template <class T>
std::vector<T> spread(double from, double to) {
  std::vector<T> points(41);  // no multiple of a register
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] = static_cast<T>(from + (to - from) * static_cast<double>(i) / 40.0);
  }
  return points;
}

void check_functions() {
  compare<float>(
      "exp", spread<float>(-102.0, 88.5), [](const Tensor& x) { return exp(x); },
      [](cpu::Vec<float> x) { return cpu::exp(x); }, [](double x) { return std::exp(x); });
  compare<double>(
      "exp in f64", spread<double>(-744.0, 709.5), [](const Tensor& x) { return exp(x); },
      [](cpu::Vec<double> x) { return cpu::exp(x); }, [](double x) { return std::exp(x); });
  compare<float>(
      "sigmoid", spread<float>(-80.0, 30.0), [](const Tensor& x) { return sigmoid(x); },
      [](cpu::Vec<float> x) { return elementwise::sigmoid(x); }, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
  compare<double>(
      "sigmoid in f64", spread<double>(-80.0, 30.0), [](const Tensor& x) { return sigmoid(x); },
      [](cpu::Vec<double> x) { return elementwise::sigmoid(x); }, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
  compare<float>(
      "pow", spread<float>(0.1, 9.0), [](const Tensor& x) { return pow(x, x); },
      [](cpu::Vec<float> x) { return cpu::pow(x, x); }, [](double x) { return std::pow(x, x); });
}

// Rows that are padded to whole registers: K and V are no multiples of 8 or of 16.
void check_kda() {
  Generator generator(1);
  constexpr TensorOptions kF32 = {DType::f32, Device()};
  kda::Inputs in;
  in.q = randn({1, 50, 2, 20}, generator, kF32);
  in.k = randn({1, 50, 2, 20}, generator, kF32);
  in.v = randn({1, 50, 2, 12}, generator, kF32);
  in.g = mul(rand({1, 50, 2, 20}, generator, kF32), -1.0);
  in.beta = rand({1, 50, 2}, generator, kF32);
  kda::Options options;
  options.use_qk_l2norm = true;
  const auto fused = kda::run(kda::Implementation::fused_chunk, in, options).o.to_vector<float>();
  const auto plain = kda::run(kda::Implementation::recurrent, in, options).o.to_vector<float>();
  float largest = 0.0F;
  float difference = 0.0F;
  for (size_t i = 0; i < plain.size(); ++i) {
    largest = std::max(largest, std::abs(plain[i]));
    const float here = std::abs(plain[i] - fused[i]);
    difference = here <= difference ? difference : here;
  }
  expect(difference <= 1e-5F * largest, "kda");
  expect(cpu::kda::Sizes<float>::padded(9) ==
             (9 + cpu::Vec<float>::kSize - 1) / cpu::Vec<float>::kSize * cpu::Vec<float>::kSize,
         "the program's own Sizes");
}

}  // namespace

int main() {
  check_functions();
  check_kda();
  std::printf("instruction_set %s\n", std::string(instruction_set()).c_str());
  return failed ? 1 : 0;
}

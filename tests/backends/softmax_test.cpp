// Softmax, its gradient, and rms_norm against plain loops.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/backends/kernel_inputs.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

using Wide = long double;

std::vector<double> spread(int count, double scale, double phase) {
  std::vector<double> numbers;
  for (int i = 0; i < count; ++i) {
    numbers.push_back(scale * std::sin(phase + 0.9 * i + 0.02 * i * i));
  }
  return numbers;
}

/// Whether `got` is within `roundings` of `want`, measured at `magnitude`.
bool within(DType dtype, double got, Wide want, double magnitude, double roundings) {
  return std::fabs(static_cast<Wide>(got) - want) <= static_cast<Wide>(roundings * spacing(dtype, magnitude));
}

std::vector<Wide> softmax_of(const std::vector<double>& row, bool log) {
  Wide largest = -std::numeric_limits<Wide>::infinity();
  for (const double value : row) {
    largest = std::max(largest, static_cast<Wide>(value));
  }
  Wide sum = 0;
  for (const double value : row) {
    sum += std::exp(static_cast<Wide>(value) - largest);
  }
  std::vector<Wide> result;
  for (const double value : row) {
    const Wide shifted = static_cast<Wide>(value) - largest;
    result.push_back(log ? shifted - std::log(sum) : std::exp(shifted) / sum);
  }
  return result;
}

std::vector<double> row_of(const std::vector<double>& all, size_t row, size_t length) {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(row * length);
  return {first, first + static_cast<std::ptrdiff_t>(length)};
}

}  // namespace

TEST_CASE("softmax kernels: every layout and dtype") {
  for (const Placement& placement : placements()) {
    const int rank = placement.shape.rank();
    if (rank == 0 || placement.shape.numel() == 0) {
      continue;
    }
    const auto length = static_cast<size_t>(placement.shape[rank - 1]);
    for (const DType dtype : kFloats) {
      const Tensor x = place(placement, dtype, spread(613, 5.0, 0.0));
      const std::vector<double> in = x.to_vector<double>();
      for (const bool log : {false, true}) {
        const Tensor out = empty(placement.shape, dtype);
        cpu().softmax(x, log, out);
        const std::vector<double> got = out.to_vector<double>();
        bool near = true;
        for (size_t row = 0; row < in.size() / length; ++row) {
          const std::vector<Wide> want = softmax_of(row_of(in, row, length), log);
          for (size_t i = 0; i < length; ++i) {
            const auto magnitude = static_cast<double>(log ? std::max(Wide{10}, -want[i]) : want[i]);
            // Rounding x - max, up to 10 in size, is what costs most.
            near = near && within(dtype, got[row * length + i], want[i], magnitude, 16.0);
          }
        }
        CHECK_MESSAGE(near, placement.shape, " as ", to_string(dtype), std::string(log ? " log" : ""));
      }
    }
  }
}

TEST_CASE("softmax kernels: infinities and NaN in a row") {
  const float inf = HUGE_VALF;
  const Tensor x = from_vector<float>({1, -inf, 1, -inf, -inf, -inf, 0, std::nanf(""), 2, 1, inf, 0}, {4, 3});
  const Tensor out = empty({4, 3});
  cpu().softmax(x, false, out);
  std::vector<float> got = out.to_vector<float>();
  CHECK(std::vector<float>(got.begin(), got.begin() + 3) == std::vector<float>{0.5F, 0.0F, 0.5F});
  for (size_t i = 3; i < 9; ++i) {
    CHECK(std::isnan(got[i]));
  }
  CHECK(std::isnan(got[10]));
  cpu().softmax(x, true, out);
  got = out.to_vector<float>();
  CHECK(got[1] == -inf);
  CHECK(std::fabs(got[0] + std::log(2.0F)) < 1e-6F);
  for (size_t i = 3; i < 9; ++i) {
    CHECK(std::isnan(got[i]));
  }
  for (const int64_t size : {16, 17, 33}) {  // NaN in the vector part and in the rest
    for (int64_t at = 0; at < size; ++at) {
      std::vector<double> numbers(static_cast<size_t>(size), 1.0);
      numbers[static_cast<size_t>(at)] = std::nan("");
      const Tensor result = empty({size});
      cpu().softmax(place({{size}, {1}}, DType::f32, numbers), false, result);
      for (const float value : result.to_vector<float>()) {
        CHECK(std::isnan(value));
      }
    }
  }
  const Tensor none = empty({3, 0});
  cpu().softmax(none, false, empty({3, 0}));
}

TEST_CASE("softmax kernels: large arguments cancel") {
  const Tensor x = from_vector<double>({1e300, 1e300, -1e300});
  const Tensor out = empty({3}, DType::f64);
  cpu().softmax(x, false, out);
  CHECK(out.to_vector<double>() == std::vector<double>{0.5, 0.5, 0.0});
}

TEST_CASE("softmax kernels: gradients, every layout and dtype") {
  for (const Placement& placement : placements()) {
    const int rank = placement.shape.rank();
    if (rank == 0 || placement.shape.numel() == 0) {
      continue;
    }
    const auto length = static_cast<size_t>(placement.shape[rank - 1]);
    for (const DType dtype : kFloats) {
      const Tensor y = place(placement, dtype, spread(613, 0.5, 0.0));
      const Tensor dy = place({placement.shape, contiguous_strides(placement.shape)}, dtype, spread(307, 1.0, 2.0));
      const std::vector<double> outputs = y.to_vector<double>();
      const std::vector<double> gradients = dy.to_vector<double>();
      for (const bool log : {false, true}) {
        const Tensor dx = empty(placement.shape, dtype);
        cpu().softmax_backward(y, dy, log, dx);
        const std::vector<double> got = dx.to_vector<double>();
        bool near = true;
        for (size_t row = 0; row < got.size() / length; ++row) {
          Wide sum = 0;
          Wide size = 0;
          for (size_t i = row * length; i < (row + 1) * length; ++i) {
            const Wide term = static_cast<Wide>(gradients[i]) * (log ? Wide{1} : static_cast<Wide>(outputs[i]));
            sum += term;
            size += std::fabs(term);
          }
          for (size_t i = row * length; i < (row + 1) * length; ++i) {
            const auto out = static_cast<Wide>(outputs[i]);
            const auto gradient = static_cast<Wide>(gradients[i]);
            const Wide want = log ? gradient - std::exp(out) * sum : out * (gradient - sum);
            near = near && within(dtype, got[i], want, static_cast<double>(size + 2), 8.0);
          }
        }
        CHECK_MESSAGE(near, placement.shape, " as ", to_string(dtype), std::string(log ? " log" : ""));
      }
    }
  }
}

TEST_CASE("rms_norm kernel: with and without weight, mean and sum, every layout and dtype") {
  for (const Placement& placement : placements()) {
    const int rank = placement.shape.rank();
    if (rank == 0 || placement.shape.numel() == 0) {
      continue;
    }
    const int64_t length = placement.shape[rank - 1];
    Shape row_shape = placement.shape;
    row_shape[rank - 1] = 1;
    for (const DType dtype : kFloats) {
      const Tensor x = place(placement, dtype, spread(613, 2.0, 0.0));
      const Tensor weight = place({{length}, {2}}, dtype, spread(97, 1.5, 1.0));
      const std::vector<double> in = x.to_vector<double>();
      const std::vector<double> gains = weight.to_vector<double>();
      for (const bool sum : {false, true}) {
        for (const bool weighted : {false, true}) {
          const DType rstd_dtype = dtype == DType::f64 ? DType::f64 : DType::f32;
          const Tensor out = empty(placement.shape, dtype);
          const Tensor rstd = empty(row_shape, rstd_dtype);
          cpu().rms_norm(x, weighted ? weight : Tensor(), 1e-3, sum, out, rstd);
          const std::vector<double> got = out.to_vector<double>();
          const std::vector<double> factors = rstd.to_vector<double>();
          bool near = true;
          for (size_t row = 0; row < factors.size(); ++row) {
            const auto count = static_cast<size_t>(length);
            Wide squares = 0;
            for (size_t i = 0; i < count; ++i) {
              squares += static_cast<Wide>(in[row * count + i]) * static_cast<Wide>(in[row * count + i]);
            }
            const Wide factor = 1 / std::sqrt(squares / (sum ? Wide{1} : static_cast<Wide>(length)) + 1e-3L);
            near = near && is_near(rstd_dtype, factors[row], factor, 3.0);
            for (size_t i = 0; i < count; ++i) {
              const Wide want =
                  static_cast<Wide>(in[row * count + i]) * factor * (weighted ? static_cast<Wide>(gains[i]) : Wide{1});
              near = near && is_near(dtype, got[row * count + i], want, 4.0);
            }
          }
          CHECK_MESSAGE(near, placement.shape, " as ", to_string(dtype));
        }
      }
    }
  }
}

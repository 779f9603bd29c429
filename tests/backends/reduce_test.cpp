// Reductions over every set of dimensions, arg_reduce and cumsum against plain loops.
#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <numeric>

#include "tests/backends/kernel_inputs.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

using Wide = long double;

/// For each element of x in row-major order: the place of its result in a dense tensor of out's shape.
std::vector<size_t> result_places(const Shape& shape, const Shape& out_shape) {
  const Strides out_strides = contiguous_strides(out_shape);
  std::vector<size_t> places(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < places.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t place = 0;
    for (int dim = shape.rank() - 1; dim >= 0; --dim) {
      place += out_shape[dim] == 1 ? 0 : rest % shape[dim] * out_strides[dim];
      rest /= shape[dim];
    }
    places[i] = static_cast<size_t>(place);
  }
  return places;
}

Wide combine(ReduceKind kind, Wide a, Wide b) {
  switch (kind) {
    case ReduceKind::sum:
      return a + b;
    case ReduceKind::prod:
      return a * b;
    case ReduceKind::max:
      return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b);
    case ReduceKind::min:
      break;
  }
  return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b);
}

Wide identity(ReduceKind kind) {
  const Wide inf = std::numeric_limits<Wide>::infinity();
  return kind == ReduceKind::sum ? 0 : kind == ReduceKind::prod ? 1 : kind == ReduceKind::max ? -inf : inf;
}

void check_reduce(ReduceKind kind, const Tensor& x, const Shape& out_shape, DType out_dtype) {
  const Tensor out = empty(out_shape, out_dtype);
  cpu().reduce(kind, x, out);
  const std::vector<double> in = x.to_vector<double>();
  const std::vector<size_t> places = result_places(x.shape(), out_shape);
  const auto count = static_cast<size_t>(out_shape.numel());
  std::vector<Wide> want(count, identity(kind));
  std::vector<Wide> size(count, 0);
  for (size_t i = 0; i < in.size(); ++i) {
    want[places[i]] = combine(kind, want[places[i]], static_cast<Wide>(in[i]));
    size[places[i]] += std::fabs(static_cast<Wide>(in[i]));
  }
  const std::vector<double> got = out.to_vector<double>();
  for (size_t i = 0; i < count; ++i) {
    // A sum is off by a few roundings of the sum of magnitudes; everything else is exact or nearly so.
    const double magnitude = kind == ReduceKind::sum ? static_cast<double>(size[i]) : static_cast<double>(want[i]);
    const bool exact = kind == ReduceKind::max || kind == ReduceKind::min || !is_floating(out_dtype);
    const double limit = exact ? 0.0 : 4.0 * spacing(out_dtype, magnitude);
    const bool both_nan = std::isnan(want[i]) && std::isnan(got[i]);
    const bool near = both_nan || static_cast<Wide>(got[i]) == want[i] ||
                      std::fabs(static_cast<Wide>(got[i]) - want[i]) <= static_cast<Wide>(limit);
    if (!near) {
      FAIL_CHECK("reduction ", static_cast<int>(kind), " of ", to_string(x.dtype()), " ", x.shape(), " to ", out_shape,
                 ": ", got[i], " at ", i, ", expected ", static_cast<double>(want[i]));
    }
  }
}

std::vector<double> spread(int count, double scale) {
  std::vector<double> numbers;
  for (int i = 0; i < count; ++i) {
    numbers.push_back(scale * std::sin(0.9 * i + 0.02 * i * i));
  }
  return numbers;
}

}  // namespace

TEST_CASE("reduce: every set of dimensions, every layout") {
  for (const Placement& placement : placements()) {
    const int rank = placement.shape.rank();
    if (rank > 4) {
      continue;
    }
    for (unsigned mask = 0; mask < (1U << rank); ++mask) {
      Shape out_shape = placement.shape;
      for (int dim = 0; dim < rank; ++dim) {
        out_shape[dim] = (mask >> dim & 1U) != 0 ? 1 : out_shape[dim];
      }
      for (const DType dtype : kFloats) {
        const Tensor x = place(placement, dtype, spread(613, 2.0));
        check_reduce(ReduceKind::sum, x, out_shape, dtype);
        check_reduce(ReduceKind::max, x, out_shape, dtype);
      }
      const Tensor counts = place(placement, DType::i32, {3, -1, 4, -1, 5, -9, 2});
      check_reduce(ReduceKind::sum, counts, out_shape, DType::i64);
      if (counts.numel() > 0) {
        check_reduce(ReduceKind::min, counts, out_shape, DType::i32);
      }
      check_reduce(ReduceKind::sum, place(placement, DType::boolean, {1, 0, 1, 1, 0}), out_shape, DType::i64);
    }
  }
}

TEST_CASE("reduce: eight dimensions, alternately kept") {
  for (const auto& strides : {Strides{72, 72, 24, 12, 12, 6, 3, 1}, Strides{1, 5, 2, 6, 7, 12, 24, 48}}) {
    const Placement placement{{2, 1, 3, 2, 1, 2, 2, 3}, strides};
    for (unsigned mask = 0; mask < 256; mask += 7) {
      Shape out_shape = placement.shape;
      for (int dim = 0; dim < 8; ++dim) {
        out_shape[dim] = (mask >> dim & 1U) != 0 ? 1 : out_shape[dim];
      }
      check_reduce(ReduceKind::sum, place(placement, DType::f64, spread(101, 1.0)), out_shape, DType::f64);
      check_reduce(ReduceKind::prod, place(placement, DType::f32, {1, -1, 2, 0.5}), out_shape, DType::f32);
    }
  }
}

TEST_CASE("reduce: long sums stay accurate, along rows and columns") {
  for (const Shape& shape : {Shape{1, 300001}, Shape{300001, 1}, Shape{3, 100003}, Shape{100003, 3}, Shape{700, 600}}) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      std::vector<double> numbers;
      for (int i = 0; i < 4099; ++i) {
        numbers.push_back(1.0 + 0.1 * std::sin(i));
      }
      const Tensor x = place({shape, contiguous_strides(shape)}, dtype, numbers);
      check_reduce(ReduceKind::sum, x, {1, 1}, dtype);
      check_reduce(ReduceKind::sum, x, {shape[0], 1}, dtype);
      check_reduce(ReduceKind::sum, x, {1, shape[1]}, dtype);
    }
  }
}

TEST_CASE("reduce: NaN and infinity") {
  const double nan = std::nan("");
  for (int64_t size : {1, 2, 15, 40, 700}) {
    for (int64_t place_of_nan = 0; place_of_nan < size; place_of_nan += 1 + size / 7) {
      std::vector<double> numbers = spread(static_cast<int>(size), 1.0);
      numbers[static_cast<size_t>(place_of_nan)] = nan;
      for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::prod, ReduceKind::max, ReduceKind::min}) {
        for (const DType dtype : {DType::f32, DType::f64}) {
          check_reduce(kind, place({{size}, {1}}, dtype, numbers), {1}, dtype);
          check_reduce(kind, place({{size, 3}, {1, 0}}, dtype, numbers), {1, 3}, dtype);
        }
      }
    }
  }
  const Tensor infinite = from_vector<float>({1, HUGE_VALF, 2});
  check_reduce(ReduceKind::sum, infinite, {1}, DType::f32);
  check_reduce(ReduceKind::sum, from_vector<float>({-HUGE_VALF, HUGE_VALF, 2}), {1}, DType::f32);
  const Tensor low = from_vector<float>({-HUGE_VALF, -HUGE_VALF});
  check_reduce(ReduceKind::max, low, {1}, DType::f32);
}

TEST_CASE("reduce: over nothing") {
  const Tensor x = empty({0, 3});
  for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::prod, ReduceKind::max, ReduceKind::min}) {
    check_reduce(kind, x, {1, 3}, DType::f32);
    check_reduce(kind, x, {0, 1}, DType::f32);
  }
}

TEST_CASE("reduce: the same bits for any number of threads") {
  const Tensor x = place({{900, 1000}, {1000, 1}}, DType::f32, spread(7919, 1.0));
  const int threads = omp_get_max_threads();
  for (const Shape& shape : {Shape{1, 1}, Shape{900, 1}, Shape{1, 1000}}) {
    std::vector<std::vector<float>> results;
    for (const int count : {1, 2, 3}) {
      omp_set_num_threads(count);
      const Tensor out = empty(shape);
      cpu().reduce(ReduceKind::sum, x, out);
      results.push_back(out.to_vector<float>());
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
  omp_set_num_threads(threads);
}

TEST_CASE("arg_reduce: first of equals, first NaN, every dimension and layout") {
  for (const Placement& placement : placements()) {
    for (int dim = 0; dim < placement.shape.rank(); ++dim) {
      if (placement.shape.numel() == 0) {
        continue;
      }
      std::vector<double> numbers = spread(613, 3.0);
      for (double& number : numbers) {
        number = std::round(number);
      }
      numbers[500] = std::nan("");
      numbers[600] = std::nan("");
      for (const DType dtype : {DType::f32, DType::bf16, DType::i64}) {
        if (dtype == DType::i64) {
          numbers[500] = numbers[600] = 0.0;
        }
        const Tensor x = place(placement, dtype, numbers);
        const std::vector<double> in = x.to_vector<double>();
        Shape out_shape = placement.shape;
        out_shape[dim] = 1;
        const std::vector<size_t> places = result_places(x.shape(), out_shape);
        for (const bool largest : {true, false}) {
          const auto count = static_cast<size_t>(out_shape.numel());
          std::vector<int64_t> want(count, 0);
          std::vector<int64_t> seen(count, 0);
          std::vector<double> best(count, 0.0);
          for (size_t i = 0; i < in.size(); ++i) {
            const size_t at = places[i];
            const bool better = largest ? in[i] > best[at] : in[i] < best[at];
            if (seen[at] == 0 || (!std::isnan(best[at]) && (better || std::isnan(in[i])))) {
              best[at] = in[i];
              want[at] = seen[at];
            }
            ++seen[at];
          }
          const Tensor out = empty(out_shape, DType::i64);
          cpu().arg_reduce(largest, x, dim, out);
          CHECK_MESSAGE(out.to_vector<int64_t>() == want, placement.shape, " along ", dim);
        }
      }
    }
  }
}

TEST_CASE("cumsum: both directions, every dimension, layout and dtype") {
  for (const Placement& placement : placements()) {
    for (int dim = 0; dim < placement.shape.rank(); ++dim) {
      for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32}) {
        const Tensor x = place(placement, dtype, spread(613, 3.0));
        const DType out_dtype = dtype == DType::i32 ? DType::i64 : dtype;
        const std::vector<double> in = x.to_vector<double>();
        int64_t step = 1;
        for (int inner = dim + 1; inner < placement.shape.rank(); ++inner) {
          step *= placement.shape[inner];
        }
        const int64_t length = placement.shape[dim];
        for (const bool reverse : {false, true}) {
          const Tensor out = empty(placement.shape, out_dtype);
          cpu().cumsum(x, dim, reverse, out);
          const std::vector<double> got = out.to_vector<double>();
          std::vector<Wide> want(in.begin(), in.end());
          std::vector<Wide> size(in.size());
          const auto count = static_cast<int64_t>(in.size());
          for (int64_t k = 0; k < count; ++k) {
            const int64_t i = reverse ? count - 1 - k : k;
            const int64_t before = reverse ? i + step : i - step;
            const bool first = (i / step) % length == (reverse ? length - 1 : 0);
            const auto at = static_cast<size_t>(i);
            size[at] = std::fabs(want[at]) + (first ? Wide{0} : size[static_cast<size_t>(before)]);
            want[at] += first ? Wide{0} : want[static_cast<size_t>(before)];
          }
          bool near = true;
          for (size_t i = 0; i < in.size(); ++i) {
            const double limit = 2.0 * spacing(out_dtype, static_cast<double>(size[i])) *
                                 (out_dtype == DType::f64 ? std::sqrt(static_cast<double>(length)) : 1.0);
            near = near && std::fabs(static_cast<Wide>(got[i]) - want[i]) <=
                               static_cast<Wide>(out_dtype == DType::i64 ? 0.0 : limit);
          }
          CHECK_MESSAGE(near, placement.shape, " along ", dim, " of ", to_string(dtype));
        }
      }
    }
  }
}

// Fill, copy, conversion and arange.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/backends/kernel_inputs.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {
constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i64, DType::i32, DType::boolean};

/// Distinct places for distinct elements, so that it can be written to.
bool is_writable(const Placement& placement) {
  for (int dim = 0; dim < placement.shape.rank(); ++dim) {
    if (placement.strides[dim] == 0 && placement.shape[dim] > 1) {
      return false;
    }
  }
  return true;
}
}  // namespace

TEST_CASE("copy kernel: every pair of dtypes and every layout on either side") {
  for (const Placement& placement : placements()) {
    const Placement dense{placement.shape, contiguous_strides(placement.shape)};
    for (const DType from : kAll) {
      for (const DType to : kAll) {
        const Tensor in = place(placement, from, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
        const std::vector<double> values = in.to_vector<double>();
        const auto check_copy = [&](const Tensor& out) {
          cpu().copy(in, out);
          const std::vector<double> got = out.to_vector<double>();
          bool same = true;
          for (size_t i = 0; i < got.size(); ++i) {
            same = same && got[i] == (to == DType::boolean ? (values[i] != 0.0 ? 1.0 : 0.0) : values[i]);
          }
          CHECK_MESSAGE(same, to_string(from), " to ", to_string(to), " of shape ", placement.shape);
        };
        check_copy(place(dense, to, {0}));
        if (is_writable(placement)) {
          check_copy(place(placement, to, {0}));
        }
      }
    }
  }
}

TEST_CASE("copy kernel: permuted dimensions, for every element size") {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::boolean}) {
    for (const auto& strides : {Strides{1, 6, 114}, Strides{19, 1, 114}, Strides{570, 30, 1}, Strides{1, 240, 8}}) {
      const Shape shape{6, 19, 30};
      const Tensor in = place({shape, strides}, dtype, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
      const Tensor out = empty(shape, dtype);
      cpu().copy(in, out);
      CHECK(out.to_vector<double>() == in.to_vector<double>());
    }
  }
  const Tensor wide = place({{1030, 260}, {1, 1030}}, DType::f32, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const Tensor out = empty({1030, 260});
  cpu().copy(wide, out);
  CHECK(out.to_vector<float>() == wide.to_vector<float>());
}

TEST_CASE("copy kernel: rounding of 16-bit floats, and what integers make of numbers that do not fit") {
  const std::vector<double> numbers = telling_numbers();
  const auto count = static_cast<int64_t>(numbers.size());
  const Tensor in = place({{count}, {1}}, DType::f32, numbers);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor narrow = empty({count}, dtype);
    const Tensor back = empty({count});
    cpu().copy(in, narrow);
    cpu().copy(narrow, back);
    const std::vector<float> got = back.to_vector<float>();
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK(is_near(DType::f32, static_cast<double>(got[i]),
                    rounded(dtype, static_cast<double>(static_cast<float>(numbers[i]))), 0));
    }
  }
  const Tensor odd = from_vector<double>({std::nan(""), 1e30, -1e30, 2.9, -2.9, HUGE_VAL, -HUGE_VAL});
  const Tensor whole = empty({7}, DType::i64);
  const int64_t low = std::numeric_limits<int64_t>::min();
  const int64_t high = std::numeric_limits<int64_t>::max();
  cpu().copy(odd, whole);
  CHECK(whole.to_vector<int64_t>() == std::vector<int64_t>{0, high, low, 2, -2, high, low});
  const Tensor flags = empty({7}, DType::boolean);
  cpu().copy(odd, flags);
  CHECK(flags.to_vector<bool>() == std::vector<bool>(7, true));
}

TEST_CASE("fill kernel: every dtype and layout, nothing written beside the elements") {
  for (const Placement& placement : placements()) {
    for (const DType dtype : kAll) {
      const Tensor out = place(placement, dtype, {0});
      cpu().fill(1.0, out);
      const std::vector<double> got = out.to_vector<double>();
      CHECK(std::all_of(got.begin(), got.end(), [](double value) { return value == 1.0; }));
    }
  }
  const Tensor row = place({{10}, {1}}, DType::f32, {7});
  cpu().fill(-2.5, row.as_view({4}, {2}, 1));
  CHECK(row.to_vector<float>() == std::vector<float>{7, -2.5F, 7, -2.5F, 7, -2.5F, 7, -2.5F, 7, 7});
}

TEST_CASE("arange kernel: start and step") {
  for (const DType dtype : {DType::f32, DType::f64, DType::i64, DType::i32}) {
    const Tensor out = empty({1300}, dtype);
    cpu().arange(5.0, -2.0, out);
    const std::vector<double> got = out.to_vector<double>();
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i] == 5.0 - 2.0 * static_cast<double>(i));
    }
  }
  cpu().arange(0.0, 1.0, empty({0}));
}

// gather, scatter_add, index_select, index_add and topk against plain loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "backends/backend.h"
#include "tests/backends/layouts.h"
#include "tests/support/errors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

const Shape kShape{3, 4, 5};

Tensor random_indices(const Shape& shape, DType dtype, Layout layout, int64_t size, Generator& generator) {
  const Tensor index = in_layout(shape, dtype, layout);
  set_values(index,
             [&](const Shape&) { return static_cast<double>(generator.next_below(static_cast<uint64_t>(size))); });
  return index;
}

Shape with_size(Shape shape, int dim, int64_t size) {
  shape[dim] = size;
  return shape;
}

// Row-major number of element `index`.
size_t number_of(const Shape& shape, const Shape& index) {
  int64_t number = 0;
  for (int d = 0; d < shape.rank(); ++d) {
    number = number * shape[d] + index[d];
  }
  return static_cast<size_t>(number);
}

// Whether `actual` holds the sums `expected` of a few terms below 10 up to rounding.
void check_sums(const Tensor& actual, const std::vector<double>& expected) {
  const std::vector<double> values = actual.to_vector<double>();
  for (size_t i = 0; i < values.size(); ++i) {
    const double limit = 4 * epsilon_of(actual.dtype()) * (10 + std::abs(expected[i]));
    CHECK(std::abs(values[i] - expected[i]) <= limit);
  }
}

}  // namespace

TEST_CASE("gather kernel: every dtype, layout and dimension") {
  Generator generator(1);
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kLayouts) {
      for (int dim = 0; dim < 3; ++dim) {
        for (const int64_t size : {0, 1, 7}) {
          const Tensor x = random_values(kShape, dtype, layout, generator, -9, 9);
          const Shape shape = with_size(kShape, dim, size);
          const DType index_type = size == 7 ? DType::i64 : DType::i32;
          const Tensor index = random_indices(shape, index_type, layout, kShape[dim], generator);
          const Tensor out = empty(shape, dtype);
          backend_of(x).gather(x, dim, index, out);
          const std::vector<double> from = x.to_vector<double>();
          const std::vector<int64_t> indices = index.to_vector<int64_t>();
          std::vector<double> expected;
          for_each_element(out, [&](const Shape& at, int64_t) {
            expected.push_back(from[number_of(kShape, with_size(at, dim, indices[expected.size()]))]);
          });
          CHECK(out.to_vector<double>() == expected);
        }
      }
    }
  }
}

TEST_CASE("scatter_add kernel: every dtype, layout and dimension, equal indices included") {
  Generator generator(2);
  for (const DType dtype : kAllTypes) {
    if (dtype == DType::boolean) {
      continue;
    }
    for (const Layout layout : kLayouts) {
      for (int dim = 0; dim < 3; ++dim) {
        for (const int64_t size : {0, 1, 9}) {
          const Shape shape = with_size(kShape, dim, size);
          const Tensor src = random_values(shape, dtype, layout, generator, -9, 9);
          const Tensor index = random_indices(shape, DType::i64, layout, kShape[dim], generator);
          const Tensor out = random_values(kShape, dtype, Layout::dense, generator, -9, 9);
          std::vector<double> expected = out.to_vector<double>();
          const std::vector<double> terms = src.to_vector<double>();
          const std::vector<int64_t> indices = index.to_vector<int64_t>();
          size_t number = 0;
          for_each_element(src, [&](const Shape& at, int64_t) {
            expected[number_of(kShape, with_size(at, dim, indices[number]))] += terms[number];
            ++number;
          });
          backend_of(out).scatter_add(src, dim, index, out);
          check_sums(out, expected);
        }
      }
    }
  }
}

TEST_CASE("index_select kernel: every dtype, layout and dimension") {
  Generator generator(3);
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kLayouts) {
      for (int dim = 0; dim < 3; ++dim) {
        for (const int64_t size : {0, 1, 7}) {
          const Tensor x = random_values(kShape, dtype, layout, generator, -9, 9);
          const Tensor index = random_indices({size}, DType::i32, layout, kShape[dim], generator);
          const Shape shape = with_size(kShape, dim, size);
          const Tensor out = empty(shape, dtype);
          backend_of(x).index_select(x, dim, index, out);
          const std::vector<double> from = x.to_vector<double>();
          const std::vector<int64_t> indices = index.to_vector<int64_t>();
          std::vector<double> expected;
          for_each_element(out, [&](const Shape& at, int64_t) {
            expected.push_back(from[number_of(kShape, with_size(at, dim, indices[static_cast<size_t>(at[dim])]))]);
          });
          CHECK(out.to_vector<double>() == expected);
        }
      }
    }
  }
}

TEST_CASE("index_add kernel: every dtype, layout and dimension, equal indices included") {
  Generator generator(4);
  for (const DType dtype : kAllTypes) {
    if (dtype == DType::boolean) {
      continue;
    }
    for (const Layout layout : kLayouts) {
      for (int dim = 0; dim < 3; ++dim) {
        for (const int64_t size : {0, 1, 9}) {
          const Shape shape = with_size(kShape, dim, size);
          const Tensor src = random_values(shape, dtype, layout, generator, -9, 9);
          const Tensor index = random_indices({size}, DType::i64, layout, kShape[dim], generator);
          const Tensor out = random_values(kShape, dtype, Layout::dense, generator, -9, 9);
          std::vector<double> expected = out.to_vector<double>();
          const std::vector<double> terms = src.to_vector<double>();
          const std::vector<int64_t> indices = index.to_vector<int64_t>();
          size_t number = 0;
          for_each_element(src, [&](const Shape& at, int64_t) {
            expected[number_of(kShape, with_size(at, dim, indices[static_cast<size_t>(at[dim])]))] += terms[number++];
          });
          backend_of(out).index_add(src, dim, index, out);
          check_sums(out, expected);
        }
      }
    }
  }
}

TEST_CASE("scatter_add and index_add kernels: thousands of terms for one place are summed in a wider type") {
  constexpr int64_t kCount = 4096;
  for (const DType dtype : kFloatingTypes) {
    const Tensor src = in_layout({kCount, 3}, dtype, Layout::dense);
    set_values(src, [](const Shape&) { return 0.125; });
    const Tensor index = in_layout({kCount}, DType::i64, Layout::dense);
    set_values(index, [](const Shape&) { return 1.0; });
    const Tensor added = in_layout({2, 3}, dtype, Layout::dense);
    set_values(added, [](const Shape&) { return 0.0; });
    backend_of(src).index_add(src, 0, index, added);
    CHECK(added.to_vector<double>() == std::vector<double>{0, 0, 0, 512, 512, 512});
    const Tensor scattered = in_layout({2, 3}, dtype, Layout::dense);
    set_values(scattered, [](const Shape&) { return 0.0; });
    backend_of(src).scatter_add(src, 0, index.as_view({kCount, 3}, {1, 0}, 0), scattered);
    CHECK(scattered.to_vector<double>() == std::vector<double>{0, 0, 0, 512, 512, 512});
  }
}

TEST_CASE("index kernels: enough work for several threads") {
  Generator generator(5);
  const Tensor table = random_values({500, 64}, DType::f32, Layout::dense, generator);
  const Tensor index = random_indices({3000}, DType::i64, Layout::dense, 500, generator);
  const Tensor rows = empty({3000, 64}, DType::f32);
  backend_of(table).index_select(table, 0, index, rows);
  const std::vector<int64_t> indices = index.to_vector<int64_t>();
  const std::vector<double> table_values = table.to_vector<double>();
  const std::vector<double> row_values = rows.to_vector<double>();
  std::vector<double> expected(500 * 64, 0.0);
  bool equal = true;
  for (size_t i = 0; i < row_values.size(); ++i) {
    const size_t at = static_cast<size_t>(indices[i / 64]) * 64 + i % 64;
    equal = equal && row_values[i] == table_values[at];
    expected[at] += row_values[i];
  }
  CHECK(equal);
  const Tensor sums = in_layout({500, 64}, DType::f32, Layout::dense);
  set_values(sums, [](const Shape&) { return 0.0; });
  backend_of(sums).index_add(rows, 0, index, sums);
  check_sums(sums, expected);
}

TEST_CASE("index kernels: an index out of range is an Error, and nothing has changed") {
  const Backend& backend = backend_of(Device::cpu());
  const Tensor x = from_vector<float>({0, 1, 2, 3, 4});
  const Tensor out = from_vector<float>({9, 9, 9, 9});
  const Tensor high = from_vector<int64_t>({0, 1, 2, 7});
  const Tensor low = from_vector<int32_t>({0, -1, 2, 3});
  const Tensor terms = from_vector<float>({1, 1, 1, 1});
  CHECK_ERROR(backend.gather(x, 0, high, out), "gather: index is 7 at position 3, expected 0 to 4");
  CHECK_ERROR(backend.gather(x, 0, low, out), "gather: index is -1 at position 1, expected 0 to 4");
  CHECK_ERROR(backend.index_select(x, 0, high, out), "index_select: index is 7 at position 3, expected 0 to 4");
  CHECK_ERROR(backend.scatter_add(terms, 0, high, x), "scatter_add: index is 7 at position 3, expected 0 to 4");
  CHECK_ERROR(backend.index_add(terms, 0, low, x), "index_add: index is -1 at position 1, expected 0 to 4");
  CHECK_ERROR(backend.index_select(empty({0}), 0, from_vector<int64_t>({0, 0, 0, 0}), out),
              "index_select: index is 0 at position 0, but there are no entries along dim");
  CHECK(out.to_vector<float>() == std::vector<float>{9, 9, 9, 9});
  CHECK(x.to_vector<float>() == std::vector<float>{0, 1, 2, 3, 4});
}

TEST_CASE("topk kernel: every dtype and layout against a full sort") {
  Generator generator(6);
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kLayouts) {
      const Tensor x = random_values({3, 2, 11}, dtype, layout, generator, -4, 4);
      const std::vector<double> from = x.to_vector<double>();
      for (const int64_t k : {0, 1, 4, 11}) {
        const Tensor values = empty({3, 2, k}, dtype);
        const Tensor indices = empty({3, 2, k}, DType::i64);
        backend_of(x).topk(x, k, values, indices);
        std::vector<double> expected_values;
        std::vector<int64_t> expected_indices;
        for (int64_t row = 0; row < 6; ++row) {
          std::vector<int64_t> order(11);
          std::iota(order.begin(), order.end(), int64_t{0});
          const auto value = [&](int64_t i) { return from[static_cast<size_t>(row * 11 + i)]; };
          std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return value(a) > value(b); });
          for (int64_t i = 0; i < k; ++i) {
            expected_values.push_back(value(order[static_cast<size_t>(i)]));
            expected_indices.push_back(order[static_cast<size_t>(i)]);
          }
        }
        CHECK(values.to_vector<double>() == expected_values);
        CHECK(indices.to_vector<int64_t>() == expected_indices);
      }
    }
  }
}

TEST_CASE("topk kernel: NaN is larger than everything") {
  const Tensor x = from_vector<float>({1, std::nanf(""), std::numeric_limits<float>::infinity(), std::nanf(""), 2});
  const Tensor values = empty({3}, DType::f32);
  const Tensor indices = empty({3}, DType::i64);
  backend_of(x).topk(x, 3, values, indices);
  CHECK(indices.to_vector<int64_t>() == std::vector<int64_t>{1, 3, 2});
}

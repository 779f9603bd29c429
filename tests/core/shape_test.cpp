#include "core/shape.h"

#include <doctest/doctest.h>

#include <sstream>

#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("Shape: entries, numel, comparison, text") {
  Shape shape{2, 64, 4};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 512);
  CHECK(shape.back() == 4);
  CHECK(to_string(shape) == "[2, 64, 4]");
  CHECK(shape == Shape(std::vector<int64_t>{2, 64, 4}));
  CHECK(!(shape == Shape{2, 64}));
  CHECK(!(shape == Shape{2, 64, 5}));
  shape.insert(0, 7);
  shape.push_back(0);
  shape.erase(1);
  CHECK(shape == Shape{7, 64, 4, 0});
  CHECK(shape.numel() == 0);
  CHECK(Shape().numel() == 1);
  CHECK(to_string(Shape()) == "[]");
  CHECK(Shape::filled(3, 9) == Shape{9, 9, 9});
  std::ostringstream out;
  out << shape;
  CHECK(out.str() == "[7, 64, 4, 0]");
  CHECK(fmt::format("{}", shape) == "[7, 64, 4, 0]");
}

TEST_CASE("Shape: a rank above kMaxRank is an Error, and nothing has changed") {
  const std::vector<int64_t> nine(9, 1);
  CHECK_ERROR(Shape(nine), "Shape: rank is 9, expected at most 8");
  CHECK_ERROR(Shape::filled(9, 1), "Shape: rank is 9, expected 0 to 8");
  CHECK_ERROR(Shape::filled(-1, 1), "Shape: rank is -1, expected 0 to 8");
  Shape full = Shape::filled(8, 2);
  CHECK_ERROR(full.push_back(1), "Shape: rank is 9, expected at most 8");
  CHECK_ERROR(full.insert(0, 1), "Shape: rank is 9, expected at most 8");
  CHECK(full == Shape::filled(8, 2));
}

TEST_CASE("contiguous_strides: row-major, usable for sizes of zero") {
  CHECK(contiguous_strides({2, 3, 4}) == Strides{12, 4, 1});
  CHECK(contiguous_strides({}) == Strides{});
  CHECK(contiguous_strides({5}) == Strides{1});
  CHECK(contiguous_strides({2, 0, 4}) == Strides{4, 4, 1});
}

TEST_CASE("broadcast_shapes: aligned at the right, sizes of 1 stretch") {
  CHECK(broadcast_shapes("f", {2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast_shapes("f", {}, {3, 1}) == Shape{3, 1});
  CHECK(broadcast_shapes("f", {3, 1}, {}) == Shape{3, 1});
  CHECK(broadcast_shapes("f", {1}, {0}) == Shape{0});
  CHECK(broadcast_shapes("f", {2, 3}, {2, 3}) == Shape{2, 3});
  CHECK_ERROR(broadcast_shapes("f", {2, 4}, {3}), "f: b has shape [3], expected a shape that broadcasts with [2, 4]");
  CHECK_ERROR(broadcast_shapes("f", {2}, {0}), "f: b has shape [0], expected a shape that broadcasts with [2]");
}

TEST_CASE("normalize_dim: negative dimensions count from the end") {
  CHECK(normalize_dim("f", "dim", 0, 3) == 0);
  CHECK(normalize_dim("f", "dim", 2, 3) == 2);
  CHECK(normalize_dim("f", "dim", -1, 3) == 2);
  CHECK(normalize_dim("f", "dim", -3, 3) == 0);
  CHECK_ERROR(normalize_dim("f", "dim", 3, 3), "f: dim is 3, expected -3 to 2 for a tensor of rank 3");
  CHECK_ERROR(normalize_dim("f", "axis", -4, 3), "f: axis is -4, expected -3 to 2 for a tensor of rank 3");
}

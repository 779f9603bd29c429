// Array: a host array of doubles, and the few plain loops that references in tests are written with. Nothing here
// calls the library's kernels or ops: an error would have to be made twice to go unseen.
#pragma once

#include <functional>
#include <vector>

#include "core/shape.h"
#include "core/tensor.h"

namespace deltatape::test {

/// A dense row-major array. Bool and integers are kept as doubles too.
struct Array {
  Shape shape;
  std::vector<double> data;

  Array() = default;
  Array(const Shape& sizes, std::vector<double> values);
  /// An array of rank 0.
  explicit Array(double value) : data{value} {}

  [[nodiscard]] int64_t size(int dim) const { return shape[dim < 0 ? dim + shape.rank() : dim]; }
  [[nodiscard]] double at(const Shape& index) const { return data[position(index)]; }
  [[nodiscard]] double& at(const Shape& index) { return data[position(index)]; }

 private:
  [[nodiscard]] size_t position(const Shape& index) const;
};

using Arrays = std::vector<Array>;

/// The elements of a tensor of any dtype, layout and rank.
Array to_array(const Tensor& tensor);
/// A dense tensor with these elements, rounded to `dtype`.
Tensor to_tensor(const Array& array, DType dtype);

/// All indices of `shape` in row-major order.
void for_each_index(const Shape& shape, const std::function<void(const Shape&)>& visit);
/// The array whose element at each index is `element(index)`.
Array build(const Shape& shape, const std::function<double(const Shape&)>& element);
Array filled(const Shape& shape, double value);

/// f of each element.
Array map(const Array& x, const std::function<double(double)>& f);
/// f of each pair of elements; shapes broadcast as in NumPy.
Array zip(const Array& a, const Array& b, const std::function<double(double, double)>& f);
/// NumPy's common shape.
Shape common_shape(const Shape& a, const Shape& b);
/// `x` stretched to `shape`.
Array stretch(const Array& x, const Shape& shape);

/// Applies `f` to each line of elements along `dim` (negative: from the end); all results have one length, which is
/// the size of `dim` in the result.
Array along(const Array& x, int dim, const std::function<std::vector<double>(const std::vector<double>&)>& f);
/// f of all elements that differ only in `dims` (negative: from the end). `keepdim` leaves sizes of 1.
Array fold(const Array& x, const std::vector<int>& dims, bool keepdim,
           const std::function<double(const std::vector<double>&)>& f);
/// f of all elements, rank 0.
Array fold(const Array& x, const std::function<double(const std::vector<double>&)>& f);

/// The same elements with another shape.
Array with_shape(const Array& x, const Shape& shape);
/// Dimension i of the result is dimension dims[i] of x.
Array permuted(const Array& x, const std::vector<int>& dims);
/// [.., M, K] times [.., K, N]; leading dimensions broadcast.
Array product(const Array& a, const Array& b);
/// exp(x - max) / sum over the last dimension.
Array softmax_last(const Array& x);

double total(const std::vector<double>& values);
double average(const std::vector<double>& values);

}  // namespace deltatape::test

#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace deltatape::test {
namespace {

int from_end(int dim, int rank) { return dim < 0 ? dim + rank : dim; }

}  // namespace

Array::Array(const Shape& sizes, std::vector<double> values) : shape(sizes), data(std::move(values)) {
  check(static_cast<int64_t>(data.size()) == shape.numel(), "Array", "{} values for shape {}", data.size(), shape);
}

size_t Array::position(const Shape& index) const {
  check(index.rank() == shape.rank(), "Array::at", "index {} for shape {}", index, shape);
  int64_t position = 0;
  for (int d = 0; d < shape.rank(); ++d) {
    check(0 <= index[d] && index[d] < shape[d], "Array::at", "index {} for shape {}", index, shape);
    position = position * shape[d] + index[d];
  }
  return static_cast<size_t>(position);
}

Array to_array(const Tensor& tensor) { return {tensor.shape(), tensor.to_vector<double>()}; }

Tensor to_tensor(const Array& array, DType dtype) {
  return visit_dtype(dtype, [&](auto tag) {
    using T = decltype(tag);
    std::vector<T> values;
    values.reserve(array.data.size());
    for (const double value : array.data) {
      if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
        values.push_back(T(static_cast<float>(value)));
      } else if constexpr (std::is_same_v<T, bool>) {
        values.push_back(value != 0.0);
      } else {
        values.push_back(static_cast<T>(value));
      }
    }
    return from_vector(values, array.shape);
  });
}

void for_each_index(const Shape& shape, const std::function<void(const Shape&)>& visit) {
  Shape index = Shape::filled(shape.rank(), 0);
  for (int64_t left = shape.numel(); left > 0; --left) {
    visit(index);
    for (int d = shape.rank() - 1; d >= 0 && ++index[d] == shape[d]; --d) {
      index[d] = 0;
    }
  }
}

Array build(const Shape& shape, const std::function<double(const Shape&)>& element) {
  std::vector<double> values;
  values.reserve(static_cast<size_t>(shape.numel()));
  for_each_index(shape, [&](const Shape& index) { values.push_back(element(index)); });
  return {shape, std::move(values)};
}

Array filled(const Shape& shape, double value) {
  return {shape, std::vector<double>(static_cast<size_t>(shape.numel()), value)};
}

Array map(const Array& x, const std::function<double(double)>& f) {
  Array out = x;
  std::transform(x.data.begin(), x.data.end(), out.data.begin(), f);
  return out;
}

Shape common_shape(const Shape& a, const Shape& b) {
  Shape common = Shape::filled(std::max(a.rank(), b.rank()), 1);
  for (const Shape* shape : {&a, &b}) {
    for (int d = 0; d < shape->rank(); ++d) {
      int64_t& size = common[common.rank() - shape->rank() + d];
      size = size == 1 ? (*shape)[d] : size;
      check((*shape)[d] == 1 || (*shape)[d] == size, "common_shape", "{} with {}", a, b);
    }
  }
  return common;
}

Array stretch(const Array& x, const Shape& shape) {
  const int extra = shape.rank() - x.shape.rank();
  return build(shape, [&](const Shape& index) {
    Shape source = Shape::filled(x.shape.rank(), 0);
    for (int d = 0; d < source.rank(); ++d) {
      source[d] = x.shape[d] == 1 ? 0 : index[d + extra];
    }
    return x.at(source);
  });
}

Array zip(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  const Shape shape = common_shape(a.shape, b.shape);
  Array out = stretch(a, shape);
  const Array right = stretch(b, shape);
  std::transform(out.data.begin(), out.data.end(), right.data.begin(), out.data.begin(), f);
  return out;
}

Array along(const Array& x, int dim, const std::function<std::vector<double>(const std::vector<double>&)>& f) {
  dim = from_end(dim, x.shape.rank());
  Shape lines = x.shape;
  lines[dim] = 1;
  Array out;
  bool first = true;
  const auto run = [&](const Shape& start) {
    std::vector<double> line;
    Shape index = start;
    for (index[dim] = 0; index[dim] < x.shape[dim]; ++index[dim]) {
      line.push_back(x.at(index));
    }
    const std::vector<double> result = f(line);
    if (std::exchange(first, false)) {
      Shape shape = x.shape;
      shape[dim] = static_cast<int64_t>(result.size());
      out = filled(shape, 0.0);
    }
    for (index[dim] = 0; index[dim] < out.shape[dim]; ++index[dim]) {
      out.at(index) = result[static_cast<size_t>(index[dim])];
    }
  };
  for_each_index(lines, run);
  if (first) {  // no line at all: only the length that f gives matters
    out.shape = x.shape;
    out.shape[dim] = static_cast<int64_t>(f(std::vector<double>(static_cast<size_t>(x.shape[dim]))).size());
  }
  return out;
}

Array fold(const Array& x, const std::vector<int>& dims, bool keepdim,
           const std::function<double(const std::vector<double>&)>& f) {
  Shape kept = x.shape;
  Shape window = Shape::filled(x.shape.rank(), 1);
  for (const int dim : dims) {
    const int d = from_end(dim, x.shape.rank());
    kept[d] = 1;
    window[d] = x.shape[d];
  }
  Array out = build(kept, [&](const Shape& start) {
    std::vector<double> values;
    for_each_index(window, [&](const Shape& step) {
      Shape index = start;
      for (int d = 0; d < index.rank(); ++d) {
        index[d] += step[d];
      }
      values.push_back(x.at(index));
    });
    return f(values);
  });
  if (!keepdim) {
    Shape shape;
    for (int d = 0; d < kept.rank(); ++d) {
      const auto is_d = [&](int dim) { return from_end(dim, kept.rank()) == d; };
      if (std::none_of(dims.begin(), dims.end(), is_d)) {
        shape.push_back(kept[d]);
      }
    }
    out.shape = shape;
  }
  return out;
}

Array fold(const Array& x, const std::function<double(const std::vector<double>&)>& f) { return Array(f(x.data)); }

Array with_shape(const Array& x, const Shape& shape) { return {shape, x.data}; }

Array permuted(const Array& x, const std::vector<int>& dims) {
  Shape shape;
  for (const int dim : dims) {
    shape.push_back(x.shape[dim]);
  }
  return build(shape, [&](const Shape& index) {
    Shape source = index;
    for (int d = 0; d < index.rank(); ++d) {
      source[dims[static_cast<size_t>(d)]] = index[d];
    }
    return x.at(source);
  });
}

Array product(const Array& a, const Array& b) {
  const auto leading = [](const Shape& shape) {
    return Shape(std::span<const int64_t>(shape.begin(), static_cast<size_t>(shape.rank() - 2)));
  };
  const Shape batch = common_shape(leading(a.shape), leading(b.shape));
  const auto batched = [&](const Array& x) {
    Shape shape = batch;
    shape.push_back(x.size(-2));
    shape.push_back(x.size(-1));
    return stretch(x, shape);
  };
  const Array left = batched(a);
  const Array right = batched(b);
  Shape shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  return build(shape, [&](const Shape& index) {
    long double sum = 0.0L;
    Shape i = index;
    Shape j = index;
    for (int64_t k = 0; k < a.size(-1); ++k) {
      i[shape.rank() - 1] = k;
      j[shape.rank() - 2] = k;
      sum += static_cast<long double>(left.at(i)) * right.at(j);
    }
    return static_cast<double>(sum);
  });
}

Array softmax_last(const Array& x) {
  return along(x, -1, [](std::vector<double> line) {
    double largest = -std::numeric_limits<double>::infinity();
    for (const double value : line) {
      largest = std::max(largest, value);
    }
    double sum = 0.0;
    for (double& value : line) {
      value = std::exp(value - largest);
      sum += value;
    }
    for (double& value : line) {
      value /= sum;
    }
    return line;
  });
}

double total(const std::vector<double>& values) {
  return static_cast<double>(std::accumulate(values.begin(), values.end(), 0.0L));  // rounded once
}

double average(const std::vector<double>& values) { return total(values) / static_cast<double>(values.size()); }

}  // namespace deltatape::test

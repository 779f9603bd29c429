#include "core/shape.h"

#include "core/error.h"

namespace deltatape {

Shape::Shape(std::span<const int64_t> sizes) {
  check(sizes.size() <= kMaxRank, "Shape", "rank is {}, expected at most {}", sizes.size(), kMaxRank);
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  rank_ = static_cast<int>(sizes.size());
}

Shape Shape::filled(int rank, int64_t value) {
  check(rank >= 0 && rank <= kMaxRank, "Shape", "rank is {}, expected 0 to {}", rank, kMaxRank);
  Shape shape;
  shape.rank_ = rank;
  std::fill(shape.begin(), shape.end(), value);
  return shape;
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (const int64_t size : *this) {
    product *= size;
  }
  return product;
}

void Shape::push_back(int64_t size) { insert(rank_, size); }

void Shape::erase(int i) {
  std::copy(begin() + i + 1, end(), begin() + i);
  --rank_;
}

void Shape::insert(int i, int64_t size) {
  check(rank_ < kMaxRank, "Shape", "rank is {}, expected at most {}", rank_ + 1, kMaxRank);
  std::copy_backward(begin() + i, end(), end() + 1);
  sizes_[static_cast<size_t>(i)] = size;
  ++rank_;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Shape::filled(shape.rank(), 1);
  for (int d = shape.rank() - 2; d >= 0; --d) {
    // A size of 0 still gets a usable stride, so that views of empty tensors stay well formed.
    strides[d] = strides[d + 1] * std::max<int64_t>(shape[d + 1], 1);
  }
  return strides;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int d = 0; d < shape.rank(); ++d) {
    text += (d == 0 ? "" : ", ") + std::to_string(shape[d]);
  }
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << to_string(shape); }

Shape broadcast_shapes(std::string_view function, const Shape& a, const Shape& b) {
  if (a == b) {
    return a;
  }
  const int rank = std::max(a.rank(), b.rank());
  Shape out = Shape::filled(rank, 1);
  for (int d = 1; d <= rank; ++d) {
    const int64_t x = d <= a.rank() ? a[a.rank() - d] : 1;
    const int64_t y = d <= b.rank() ? b[b.rank() - d] : 1;
    check(x == y || x == 1 || y == 1, function, "b has shape {}, expected a shape that broadcasts with {}", b, a);
    out[rank - d] = x == 1 ? y : x;
  }
  return out;
}

int normalize_dim(std::string_view function, std::string_view argument, int64_t dim, int rank) {
  check(dim >= -rank && dim < rank, function, "{} is {}, expected -{} to {} for a tensor of rank {}", argument, dim,
        rank, rank - 1, rank);
  return static_cast<int>(dim < 0 ? dim + rank : dim);
}

}  // namespace deltatape

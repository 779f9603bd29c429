// Sizes and strides of a tensor: a short list of int64_t that lives on the stack.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>
#include <vector>

namespace deltatape {

/// The highest rank a tensor may have. A fixed bound keeps shapes off the heap.
inline constexpr int kMaxRank = 8;

/// A list of at most kMaxRank integers: the sizes of a tensor, outermost first. Strides use the same type.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  /// Throws Error when there are more than kMaxRank entries.
  explicit Shape(std::span<const int64_t> sizes);
  explicit Shape(const std::vector<int64_t>& sizes) : Shape(std::span<const int64_t>(sizes)) {}
  /// `rank` entries, all equal to `value`.
  static Shape filled(int rank, int64_t value);

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] bool empty() const { return rank_ == 0; }
  [[nodiscard]] int64_t operator[](int i) const { return sizes_[static_cast<size_t>(i)]; }
  [[nodiscard]] int64_t& operator[](int i) { return sizes_[static_cast<size_t>(i)]; }
  [[nodiscard]] int64_t back() const { return (*this)[rank_ - 1]; }

  [[nodiscard]] const int64_t* begin() const { return sizes_.data(); }
  [[nodiscard]] const int64_t* end() const { return sizes_.data() + rank_; }
  [[nodiscard]] int64_t* begin() { return sizes_.data(); }
  [[nodiscard]] int64_t* end() { return sizes_.data() + rank_; }

  /// Product of the sizes; 1 for rank 0.
  [[nodiscard]] int64_t numel() const;

  /// Appends one entry. Throws Error when the rank would exceed kMaxRank.
  void push_back(int64_t size);
  /// Removes entry `i`.
  void erase(int i);
  /// Puts `size` before entry `i`. Throws Error when the rank would exceed kMaxRank.
  void insert(int i, int64_t size);

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.rank_ == b.rank_ && std::equal(a.begin(), a.end(), b.begin());
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

using Strides = Shape;

/// Row-major strides, in elements, of a dense tensor of this shape.
Strides contiguous_strides(const Shape& shape);

/// `[2, 64, 4]`.
std::string to_string(const Shape& shape);
std::ostream& operator<<(std::ostream& out, const Shape& shape);

/// NumPy's rule: shapes are aligned at the right, and a size of 1 stretches. Throws Error naming `function`.
Shape broadcast_shapes(std::string_view function, const Shape& a, const Shape& b);

/// Maps a possibly negative dimension (-1 is the last) to [0, rank). Throws Error naming `function` and `argument`.
int normalize_dim(std::string_view function, std::string_view argument, int64_t dim, int rank);

}  // namespace deltatape

template <>
struct fmt::formatter<deltatape::Shape> {
  static constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(const deltatape::Shape& shape, Context& context) const {
    const auto text = deltatape::to_string(shape);
    return std::copy(text.begin(), text.end(), context.out());
  }
};

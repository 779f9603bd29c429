// RowLoop: walks several strided tensors of one shape together, row by row, with as few and as long rows as possible.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cpu/thread_split.h"
#include "core/tensor.h"

namespace deltatape::cpu {

/// The common iteration space of N tensors: sizes of 1 are dropped, and neighbouring dimensions that every tensor
/// walks through as if they were one are merged. Strides are in bytes, so that element types may differ.
template <size_t N>
class RowLoop {
 public:
  /// `tensors` all have the same shape. They are written to only where the caller's row function writes.
  explicit RowLoop(const std::array<const Tensor*, N>& tensors) {
    const Shape& shape = tensors[0]->shape();
    std::array<int64_t, N> element{};
    for (size_t k = 0; k < N; ++k) {
      start_[k] = static_cast<char*>(tensors[k]->mutable_raw());
      element[k] = static_cast<int64_t>(size_of(tensors[k]->dtype()));
    }
    for (int dim = shape.rank() - 1; dim >= 0; --dim) {
      if (shape[dim] == 1) {
        continue;
      }
      std::array<int64_t, N> strides{};
      bool merges = rank_ > 0;
      for (size_t k = 0; k < N; ++k) {
        strides[k] = tensors[k]->strides()[dim] * element[k];
        merges = merges && strides[k] == strides_[rank_ - 1][k] * sizes_[rank_ - 1];
      }
      if (merges) {
        sizes_[rank_ - 1] *= shape[dim];
      } else {
        sizes_[rank_] = shape[dim];
        strides_[rank_] = strides;
        ++rank_;
      }
    }
    if (rank_ == 0) {  // one element
      sizes_[0] = 1;
      rank_ = 1;
    }
  }

  /// Bytes from one element of a row to the next.
  [[nodiscard]] const std::array<int64_t, N>& row_strides() const { return strides_[0]; }
  /// Number of merged dimensions, their sizes and byte strides, innermost first.
  [[nodiscard]] size_t rank() const { return rank_; }
  [[nodiscard]] int64_t size(size_t dim) const { return sizes_[dim]; }
  [[nodiscard]] const std::array<int64_t, N>& strides(size_t dim) const { return strides_[dim]; }
  [[nodiscard]] const std::array<char*, N>& start() const { return start_; }

  /// Calls row(pointers, count) for every row, on several threads when there is enough to do: `weight` is the number of
  /// elements that one step along a row stands for. Rows longer than `piece` are cut, so that there is something to
  /// share between threads; where they are cut does not depend on the number of threads.
  template <class Row>
  void run(const Row& row, int64_t weight = 1, int64_t piece = 16384) const {
    const int64_t length = sizes_[0];
    const int64_t pieces = (length + piece - 1) / piece;
    int64_t rows = 1;
    for (size_t dim = 1; dim < rank_; ++dim) {
      rows *= sizes_[dim];
    }
    if (rows * length == 0) {
      return;
    }
    parallel_ranges(rows * pieces, rows * length * weight,
                    [&](int64_t begin, int64_t end) { run_items(begin, end, pieces, piece, row); });
  }

 private:
  template <class Row>
  void run_items(int64_t begin, int64_t end, int64_t pieces, int64_t piece, const Row& row) const {
    std::array<int64_t, kMaxRank> index{};
    std::array<char*, N> at = start_;
    int64_t rest = begin / pieces;
    for (size_t dim = 1; dim < rank_; ++dim) {
      index[dim] = rest % sizes_[dim];
      rest /= sizes_[dim];
      move(at, dim, index[dim]);
    }
    int64_t part = begin % pieces;
    for (int64_t item = begin; item < end; ++item) {
      std::array<char*, N> from = at;
      move(from, 0, part * piece);
      row(from, std::min(piece, sizes_[0] - part * piece));
      if (++part < pieces) {
        continue;
      }
      part = 0;
      for (size_t dim = 1; dim < rank_; ++dim) {
        move(at, dim, 1);
        if (++index[dim] < sizes_[dim]) {
          break;
        }
        move(at, dim, -sizes_[dim]);
        index[dim] = 0;
      }
    }
  }
  void move(std::array<char*, N>& at, size_t dim, int64_t steps) const {
    for (size_t k = 0; k < N; ++k) {
      at[k] += steps * strides_[dim][k];
    }
  }

  size_t rank_ = 0;
  std::array<int64_t, kMaxRank> sizes_{};
  std::array<std::array<int64_t, N>, kMaxRank> strides_{};
  std::array<char*, N> start_{};
};

}  // namespace deltatape::cpu

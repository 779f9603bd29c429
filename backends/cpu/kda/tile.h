// Tiles: 16 consecutive tokens of one head, as rows of whole registers. Rows and columns beyond the data are zero, so
// that no inner loop has a rest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

#include "backends/cpu/ceil_div.h"
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/unrolled.h"
#include "backends/cpu/vec.h"
#include "core/host_memory.h"

namespace deltatape::cpu::kda {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kSquare = kTileRows * kTileRows;

/// Columns of the state that one pass works on: with K = 128 in f32 they fill half of a 32 KiB cache.
template <class T>
inline constexpr int64_t kBlockColumns = 128 / static_cast<int64_t>(sizeof(T));

/// K and V, and what rows of them take in memory.
template <class T>
struct Sizes {
  int64_t K;
  int64_t V;
  int64_t Kp;  // rounded up to whole registers
  int64_t Vp;

  explicit Sizes(const KernelProblem& p) : K(p.K), V(p.V), Kp(padded(p.K)), Vp(padded(p.V)) {}
  static int64_t padded(int64_t n) { return ceil_div(n, Vec<T>::kSize) * Vec<T>::kSize; }
  [[nodiscard]] int64_t state() const { return K * Vp; }
  [[nodiscard]] int64_t column_blocks() const { return ceil_div(Vp, kBlockColumns<T>); }
};

/// Where a tile is: `count` <= 16 tokens of batch row `row` from `first` on.
struct Place {
  int64_t row = 0;
  int64_t first = 0;
  int64_t count = 0;
};

/// The tile with this number in a sequence; behind the last one, one without tokens (count <= 0).
inline Place place_of(const Sequence& sequence, int64_t tile) {
  const int64_t first = sequence.begin + tile * kTileRows;
  return {sequence.row, first, std::min(kTileRows, sequence.end - first)};
}
/// The `part`-th of `parts` equal shares of a tile's rows: the first one and how many.
struct RowShare {
  int64_t first;
  int64_t count;

  RowShare(int64_t part, int64_t parts)
      : first(kTileRows * part / parts), count(kTileRows * (part + 1) / parts - first) {}
};
inline int64_t tile_count(const Sequence& sequence) { return ceil_div(sequence.length(), kTileRows); }

/// Working memory, aligned to 64 bytes and uninitialised. Throws bad_alloc.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : bytes_(static_cast<size_t>(count) * sizeof(T)), data_(static_cast<T*>(allocate_host(bytes_))) {
    if (data_ == nullptr && bytes_ > 0) {
      throw std::bad_alloc();
    }
  }
  Buffer(Buffer&& other) noexcept : bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&&) = delete;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) {
      free_host(data_, bytes_);
    }
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  size_t bytes_;
  T* data_;
};

/// Hands out consecutive pieces of a buffer; every piece begins on a cache line.
template <class T>
class Pieces {
 public:
  explicit Pieces(T* next) : next_(next) {}
  T* take(int64_t count) {
    T* piece = next_;
    next_ += rounded(count);
    return piece;
  }
  static int64_t rounded(int64_t count) {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    return ceil_div(count, kLine) * kLine;
  }

 private:
  T* next_;
};

/// Calls f(i) with i = 0, kSize, 2 kSize, ... below `count`.
template <class T, class F>
[[gnu::always_inline]] inline void for_registers(int64_t count, F f) {
  for (int64_t i = 0; i < count; i += Vec<T>::kSize) {
    f(i);
  }
}

/// All lanes equal to *x.
template <class T>
[[gnu::always_inline]] inline Vec<T> broadcast(const T* x) {
  return Vec<T>(typename Vec<T>::Batch(*x));
}

}  // namespace deltatape::cpu::kda

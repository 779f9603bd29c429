// Where element (row, col) of a tile lies in shared memory.
#pragma once

#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// Rows `stride` elements apart. For f32 tiles that lanes read by rows and columns take a stride of 8 mod 32.
template <int stride>
struct Strided {
  template <class T, int cols>
  static constexpr int elements(int rows) {
    static_assert(stride >= cols, "rows would overlap");
    return rows * stride;
  }
  template <class T, int cols>
  static constexpr int index(int row, int col) {
    return row * stride + col;
  }
};

/// Rows without gaps; the chunks of 16 bytes of a row change places from row to row, so that eight rows of one column
/// of chunks lie in different banks (for ldmatrix). Rows have 32, 64, 128 bytes or a multiple of 128.
struct Swizzled {
  template <class T, int cols>
  static constexpr int elements(int rows) {
    return rows * cols;
  }
  template <class T, int cols>
  static constexpr int index(int row, int col) {
    constexpr int kChunk = 16 / static_cast<int>(sizeof(T));  // elements
    constexpr int kChunks = cols / kChunk;                    // of a row
    static_assert(kChunks * kChunk == cols && (kChunks == 2 || kChunks == 4 || kChunks % 8 == 0),
                  "a swizzled row has 32, 64 or a multiple of 128 bytes");
    constexpr int kMask = kChunks >= 8 ? 7 : kChunks - 1;
    constexpr int kRows = kChunks >= 8 ? 1 : 8 / kChunks;  // that share 128 bytes
    return row * cols + (((col / kChunk) ^ ((row / kRows) & kMask)) * kChunk) + col % kChunk;
  }
};

/// Panels of 64 columns of 16 bits, one behind the other, each of `rows` rows of 128 bytes whose chunks change places
/// as in Swizzled: what wgmma calls the 128-byte swizzle. Tiles begin at multiples of kPanelAlignment bytes. Of 64
/// columns it is the same as Swizzled.
template <int rows>
struct Panels {
  static constexpr int kCols = 64;
  static constexpr int kRowBytes = 128;
  static constexpr int kBytes = rows * kRowBytes;  // of a panel

  template <class T, int cols>
  static constexpr int elements(int count) {
    static_assert(sizeof(T) == 2 && cols % kCols == 0 && rows % 8 == 0, "panels are of 64 columns of 16 bits");
    return count * cols;
  }
  template <class T, int cols>
  static constexpr int index(int row, int col) {
    return col / kCols * rows * kCols + Swizzled::index<T, kCols>(row, col % kCols);
  }
};
inline constexpr int kPanelAlignment = 1024;  // eight rows: which chunk lies where follows from the address

}  // namespace deltatape::cuda::tile

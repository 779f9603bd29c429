// Tiles between global and shared memory.
#pragma once

#include <type_traits>

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/kda/tile/global.h"
#include "backends/cuda/kda/tile/shared.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/copy.h"
#else
#include "backends/cuda/kda/tile/host/copy.h"
#endif

namespace deltatape::cuda::tile {

/// f(row, first column) for all chunks of 16 bytes of a tile, split over the lanes of a team.
template <class Tile, class F>
DT_DEVICE void each_chunk(const Team& team, F&& f) {
  constexpr int kChunk = 16 / static_cast<int>(sizeof(typename Tile::Element));
  static_assert(Tile::kCols % kChunk == 0, "rows are whole chunks of 16 bytes");
  constexpr int kChunks = Tile::kCols / kChunk;
  team.each(Tile::kRows * kChunks, [&](int i) { f(i / kChunks, i % kChunks * kChunk); });
}

/// Copies global rows 0 .. kRows - 1 into a tile, on the side: the contents are there for the lane that copied after
/// commit_copies and wait_copies, and for others after a barrier besides. Rows beyond the last and columns beyond the
/// last become 0. Rows must begin at multiples of 16 bytes.
template <class Tile, class T>
DT_DEVICE void copy_async(const Team& team, const Tile& to, const GTile<T>& from) {
  using Element = typename Tile::Element;
  static_assert(std::is_same_v<Element, std::remove_const_t<T>>, "an asynchronous copy converts nothing");
  constexpr int kChunk = 16 / static_cast<int>(sizeof(Element));
  each_chunk<Tile>(team, [&](int row, int col) {
    const int left = row < from.rows() ? from.cols() - col : 0;
    const int count = left < 0 ? 0 : (left < kChunk ? left : kChunk);
    copy_16_bytes(to.at(row, col), count > 0 ? from.at(row, col, count) : from.begin(),
                  count * static_cast<int>(sizeof(Element)));
  });
}

/// Copies the tile's memory as it is, layout and all, from where store_raw put it.
template <class Tile>
DT_DEVICE void copy_async_raw(const Team& team, const Tile& to, const typename Tile::Element* from) {
  constexpr int kChunk = 16 / static_cast<int>(sizeof(typename Tile::Element));
  static_assert(Tile::kElements % kChunk == 0, "the memory is whole chunks of 16 bytes");
  const auto source = global_row(from, Tile::kElements);
  team.each(Tile::kElements / kChunk,
            [&](int i) { copy_16_bytes(to.begin() + i * kChunk, source.at(0, i * kChunk, kChunk), 16); });
}

/// Stores a tile to global rows, 16 bytes at a time; rows beyond the last are left out.
template <class Tile, class T>
DT_DEVICE void store(const Team& team, const GTile<T>& to, const Tile& from) {
  static_assert(std::is_same_v<typename Tile::Element, T>, "a store of a tile converts nothing");
  constexpr int kChunk = 16 / static_cast<int>(sizeof(T));
  each_chunk<Tile>(team, [&](int row, int col) {
    if (row < to.rows()) {
      Values<T, kChunk> x;
      from.read_raw(row, col, x);
      to.template write_raw<kChunk>(row, col, x);
    }
  });
}

/// Stores the tile's memory as it is, layout and all.
template <class Tile>
DT_DEVICE void store_raw(const Team& team, typename Tile::Element* to, const Tile& from) {
  using T = typename Tile::Element;
  constexpr int kChunk = 16 / static_cast<int>(sizeof(T));
  static_assert(Tile::kElements % kChunk == 0, "the memory is whole chunks of 16 bytes");
  const auto target = global_row(to, Tile::kElements);
  team.each(Tile::kElements / kChunk, [&](int i) {
    Values<T, kChunk> x;
    from.begin().load_many(i * kChunk, x);
    target.template write_raw<kChunk>(0, i * kChunk, x);
  });
}

}  // namespace deltatape::cuda::tile

// Slots of shared memory that one warp fills while others empty them.
//
//   Pipe<3> pipe(block, kPipeOffset, consumer_warps);    // all warps
//   block.sync();
//   producer warp                                        each consumer warp
//     const int slot = pipe.acquire(bytes);                const int slot = pipe.wait();
//     pipe.load_raw(tile of slot, record);                 ... reads the tiles of the slot ...
//     pipe.load_rows(v of slot, rows);                     pipe.release();
//     pipe.commit();
//
// Slots are taken in turn, 0 1 2 0 1 2 .., by everybody; a warp's Pipe object counts its own turns. `bytes` is what
// load_raw brings in all (0 without it). Contiguous records travel as bulk copies on sm_90 and later, otherwise as
// copies of 16 bytes.
#pragma once

#include "backends/cuda/kda/tile/copy.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/pipe.h"
#else
#include "backends/cuda/kda/tile/host/pipe.h"
#endif

namespace deltatape::cuda::tile {

template <int slots>
class Pipe {
 public:
  /// Shared memory that a pipe needs at its offset.
  static constexpr int kBytes = 16 * slots;

  /// `offset` in bytes, a multiple of 16. The block has to meet before the first use.
  DT_DEVICE Pipe(const Block& block, int offset, int consumer_warps) : barriers_(offset, slots) {
    barriers_.start(block.warp() == 0, consumer_warps);
  }

  /// Producer: waits until the next slot is free, and says how many bytes load_raw will bring. Gives the slot.
  DT_DEVICE int acquire(int bytes) {
    barriers_.acquire(slot_, turn_, bytes);
    return slot_;
  }
  /// Producer: a tile's memory as it is, from where store_raw put it. Both in multiples of 16 bytes.
  template <class Tile>
  DT_DEVICE void load_raw(const Tile& to, const typename Tile::Element* from) {
    constexpr int kBytesOfTile = Tile::kElements * static_cast<int>(sizeof(typename Tile::Element));
    static_assert(kBytesOfTile % 16 == 0, "the memory is whole chunks of 16 bytes");
    barriers_.load_bulk(slot_, to.begin(), global_row(from, Tile::kElements).at(0, 0, Tile::kElements), kBytesOfTile);
  }
  /// Producer: global rows, those beyond the last (and columns likewise) as 0.
  template <class Tile, class T>
  DT_DEVICE void load_rows(const Tile& to, const GTile<T>& from) {
    using Element = typename Tile::Element;
    static_assert(std::is_same_v<Element, std::remove_const_t<T>>, "an asynchronous copy converts nothing");
    constexpr int kChunk = 16 / static_cast<int>(sizeof(Element));
    each_chunk<Tile>(Team(warp_of_block(), 1, 0), [&](int row, int col) {
      const int left = row < from.rows() ? from.cols() - col : 0;
      const int count = left < 0 ? 0 : (left < kChunk ? left : kChunk);
      barriers_.load_16_bytes(slot_, to.at(row, col), count > 0 ? from.at(row, col, count) : from.begin(),
                              count * static_cast<int>(sizeof(Element)));
    });
  }
  /// Producer: all loads of the slot are begun; it is full when they have arrived.
  DT_DEVICE void commit() {
    barriers_.commit(slot_);
    next();
  }

  /// Consumer: waits until the next slot is full, and gives it.
  DT_DEVICE int wait() {
    barriers_.wait(slot_, turn_);
    return slot_;
  }
  /// Consumer: the warp has read what it wants of the slot; when all consumers have, it is filled again. `wrote` says
  /// that the warp stored something where load_raw puts data: bulk copies need a fence after that, load_rows does not.
  DT_DEVICE void release(bool wrote = false) {
    barriers_.release(slot_, wrote);
    next();
  }
  /// Consumer: goes on to the next slot and keeps this one for release_kept. A warp that keeps slots releases no other
  /// way.
  DT_DEVICE void keep() { next(); }
  /// Consumer: release of the slot that it has kept longest.
  DT_DEVICE void release_kept(bool wrote = false) {
    barriers_.release(kept_, wrote);
    kept_ = kept_ + 1 == slots ? 0 : kept_ + 1;
  }

 private:
  DT_DEVICE void next() {
    ++slot_;
    if (slot_ == slots) {
      slot_ = 0;
      turn_ ^= 1;
    }
  }

  PipeBarriers barriers_;
  int slot_ = 0;
  int turn_ = 0;
  int kept_ = 0;  // the slot that release_kept is for
};

}  // namespace deltatape::cuda::tile

// Reductions of lines to one number each, for any reducer. Each file that instantiates them says with which.
//
// A Reducer over elements of type T has
//   Total                          what partial results are gathered in, trivially copyable, at most 32 bytes
//   Total none() const             of nothing
//   Total of(Pack<T>, int64_t first, int64_t count) const   of the first `count` elements of a pack; the pack begins
//                                                           at place `first` of its line
//   Total both(Total, Total) const  associative and commutative
//   void store(Total, int64_t line) const                   writes the result
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"
#include "core/tensor.h"

namespace deltatape::cuda {

/// A piece of every line: [piece * length, (piece + 1) * length), cut at the line's end.
struct Pieces {
  int64_t count = 1;   // per line
  int64_t length = 0;  // a multiple of 16 elements
};

namespace detail {

template <class Reducer>
struct Both {
  Reducer reducer;
  template <class Total>
  DT_HD Total operator()(Total a, Total b) const {
    return reducer.both(a, b);
  }
};

/// One thread per piece of a line. Lines are counted fastest, so that lines that lie side by side are read together.
// Bytes: each element read once; one Total written per piece where there are several.
template <class T, class Reducer>
struct ReduceByThread {
  Lines<T> x;
  Pieces pieces;
  Reducer reducer;
  typename Reducer::Total* totals;  // [lines, pieces], or null: one piece, stored at once

  DT_HD void operator()(int64_t i) const {
    const Division place = divide(i, x.layout.count);
    const int64_t line = place.remainder;
    const int64_t first = place.quotient * pieces.length;
    const int64_t last = first + pieces.length < x.layout.length ? first + pieces.length : x.layout.length;
    const T* data = x.data + x.layout.offset(line);
    typename Reducer::Total total = reducer.none();
    for (int64_t at = first; at < last; at += kPack<T>) {
      const int64_t count = last - at < kPack<T> ? last - at : kPack<T>;
      Pack<T> pack;
      for (int j = 0; j < kPack<T>; ++j) {
        pack[j] = widen(data[(j < count ? at + j : at) * x.layout.stride]);
      }
      total = reducer.both(total, reducer.of(pack, at, count));
    }
    if (totals == nullptr) {
      reducer.store(total, line);
    } else {
      totals[line * pieces.count + place.quotient] = total;
    }
  }
};

/// One block per piece of a line.
// Bytes: as above.
template <int kThreads, class T, class Reducer>
struct ReduceByBlock {
  Lines<T> x;
  Pieces pieces;
  Reducer reducer;
  typename Reducer::Total* totals;

  DT_HD void operator()(Block<kThreads>& block) const {
    const Division place = divide(block.index(), pieces.count);
    const int64_t line = place.quotient;
    const int64_t first = place.remainder * pieces.length;
    const int64_t length = x.layout.length;
    const int64_t last = first + pieces.length < length ? first + pieces.length : length;
    const Line<T> from = x.line(line);
    const int64_t first_pack = first / kPack<T>;
    const auto total = block.reduce(packs_of<T>(last - first), reducer.none(), Both<Reducer>{reducer}, [&](int64_t i) {
      const int64_t at = (first_pack + i) * kPack<T>;
      return reducer.of(from.pack(first_pack + i), at, length - at < kPack<T> ? length - at : kPack<T>);
    });
    block.once([&] {
      if (totals == nullptr) {
        reducer.store(total, line);
      } else {
        totals[block.index()] = total;
      }
    });
  }
};

/// The results from the pieces' totals [lines, pieces]: a warp per line.
template <class Reducer>
struct MergeTotals {
  const typename Reducer::Total* totals;
  int64_t pieces;
  Reducer reducer;

  DT_HD void operator()(Block<kWarp>& block) const {
    const auto* from = totals + block.index() * pieces;
    const auto total = block.reduce(pieces, reducer.none(), Both<Reducer>{reducer}, [&](int64_t i) { return from[i]; });
    block.once([&] { reducer.store(total, block.index()); });
  }
};

/// Cuts lines so that `wanted` tasks are there, of at least `least` elements each. Depends on the shape alone.
inline Pieces cut(int64_t lines, int64_t length, int64_t wanted, int64_t least) {
  const int64_t most = std::max<int64_t>(1, length / least);
  const int64_t count = std::clamp<int64_t>((wanted + lines - 1) / lines, 1, most);
  Pieces pieces;
  pieces.length = ((length + count - 1) / count + 15) / 16 * 16;
  pieces.count = (length + pieces.length - 1) / pieces.length;
  return pieces;
}

}  // namespace detail

/// Reduces lines of at least one element: a thread each where they are short or lie side by side, else a warp or a
/// block; long ones in pieces, whose totals are merged by a second kernel.
template <class T, class Reducer>
void reduce_lines(const Stream& stream, const Lines<T>& x, const Reducer& reducer) {
  using Total = typename Reducer::Total;
  const LineLayout& layout = x.layout;
  const bool side_by_side = layout.stride != 1 && layout.inner >= 16 && layout.inner_stride == 1;
  const bool few_behind = layout.stride != 1 && layout.inner == 1 && layout.outer_stride == 1 && layout.count >= 16;
  const bool by_thread = side_by_side || few_behind || layout.length <= 32;
  const Pieces pieces = by_thread ? detail::cut(layout.count, layout.length, 1 << 17, 64)
                                  : detail::cut(layout.count, layout.length, 1 << 10, 1 << 14);
  Tensor memory;
  Total* totals = nullptr;
  if (pieces.count > 1) {
    memory = scratch<Total>(layout.count * pieces.count, stream.device());
    totals = data_of<Total>(memory);
  }
  if (by_thread) {
    launch_elements(stream, layout.count * pieces.count,
                    detail::ReduceByThread<T, Reducer>{x, pieces, reducer, totals});
  } else if (packs_of<T>(layout.length) <= 128) {
    launch_program<kWarp>(stream, layout.count * pieces.count, 0,
                          detail::ReduceByBlock<kWarp, T, Reducer>{x, pieces, reducer, totals});
  } else {
    launch_program<256>(stream, layout.count * pieces.count, 0,
                        detail::ReduceByBlock<256, T, Reducer>{x, pieces, reducer, totals});
  }
  if (pieces.count > 1) {
    launch_program<kWarp>(stream, layout.count, 0, detail::MergeTotals<Reducer>{totals, pieces.count, reducer});
  }
}

}  // namespace deltatape::cuda

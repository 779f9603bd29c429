// Block programs: kernels as uniform code plus collectives, which run on the GPU and, for the tests, on the host.
// backends/cuda/block_launch.h launches them.
//
// A body is a function object `DT_HD void operator()(Block<kThreads>& block) const` with its arguments as members. All
// kThreads threads of a block run it together. What is written between collectives is uniform: every thread computes
// the same values and takes the same branches. Work is shared out by collectives, which take lambdas over an index:
//
//   struct ScaleRows {                        // y = x / sum(x), row by row
//     const float* x; float* y; int64_t length;
//     DT_HD void operator()(Block<256>& block) const {
//       const float* from = x + block.index() * length;
//       const float sum = block.sum<float>(length, [&](int64_t i) { return from[i]; });
//       float* to = y + block.index() * length;
//       block.each(length, [&](int64_t i) { to[i] = from[i] / sum; });
//     }
//   };
//
// Rules:
//  1. Nothing that differs between threads lives in a variable between two collectives, and no collective stands in a
//     branch or loop that not all threads take alike. What a thread must remember goes into a PerThread.
//  2. Lambdas write memory only for their own index; nobody else reads or writes it in the same collective. Every
//     collective ends in a barrier: after it all threads of the block see what was written.
//  3. Uniform code writes no memory, and reads neither shared memory nor memory that this kernel writes: `once` and
//     `uniform` do that.
//  4. Shared memory comes from `shared`, in one order for all threads, and starts with no particular contents. Elements
//     are read as values: `const float a = s[i]`, never `auto a = s[i]`.
//  5. Element i of n belongs to thread i % kThreads.
//
// The host twin (host/block.h) checks 2, 3 and 4 (for shared memory) and 5 (for PerThread), runs indices in several
// orders, and adds up in exactly the device's order.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "backends/cuda/hd.h"

namespace deltatape::cuda {

/// Lanes of a warp.
inline constexpr int kWarp = 32;

/// Bytes that `Block::shared<T>(count)` takes from a block's dynamic shared memory.
template <class T>
constexpr int64_t shared_bytes(int64_t count) {
  return (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
}

/// a + b, as `reduce` and `scan` take it.
struct Add {
  template <class T>
  DT_HD T operator()(T a, T b) const {
    return a + b;
  }
};
/// The larger; a NaN is passed over, as fmax has it.
struct Larger {
  template <class T>
  DT_HD T operator()(T a, T b) const {
    return b > a || a != a ? b : a;
  }
};

}  // namespace deltatape::cuda

#ifndef __CUDACC__
#include "backends/cuda/host/block.h"
#else

namespace deltatape::cuda {
namespace detail {

// The only code that knows threads. On the host nvcc compiles it, and nobody calls it.

DT_HD inline int thread_index() {
#ifdef __CUDA_ARCH__
  return static_cast<int>(threadIdx.x);
#else
  return 0;
#endif
}

/// Barrier of a block, or of a warp when that is the whole block.
template <int kThreads>
DT_HD inline void barrier() {
#ifdef __CUDA_ARCH__
  if constexpr (kThreads == kWarp) {
    __syncwarp();
  } else {
    __syncthreads();
  }
#endif
}

DT_HD inline unsigned exchanged(unsigned word, int lane_mask) {
#ifdef __CUDA_ARCH__
  return __shfl_xor_sync(0xffffffffU, word, lane_mask);
#else
  return word + static_cast<unsigned>(lane_mask);
#endif
}
DT_HD inline unsigned from_below(unsigned word, int distance) {
#ifdef __CUDA_ARCH__
  return __shfl_up_sync(0xffffffffU, word, static_cast<unsigned>(distance));
#else
  return word + static_cast<unsigned>(distance);
#endif
}

DT_HD inline unsigned of_lane(unsigned word, int lane) {
#ifdef __CUDA_ARCH__
  return __shfl_sync(0xffffffffU, word, lane);
#else
  return word + static_cast<unsigned>(lane);
#endif
}

/// Applies `move` to the 32-bit words of a value of any trivially copyable type.
template <class T, class Move>
DT_HD inline T by_words(T value, Move move) {
  static_assert(std::is_trivially_copyable_v<T>);
  constexpr int kWords = static_cast<int>((sizeof(T) + 3) / 4);
  unsigned words[kWords] = {};
  memcpy(words, &value, sizeof(T));
  for (int i = 0; i < kWords; ++i) {
    words[i] = move(words[i]);
  }
  memcpy(&value, words, sizeof(T));
  return value;
}
template <class T>
DT_HD inline T exchange(T value, int lane_mask) {
  return by_words(value, [lane_mask](unsigned word) { return exchanged(word, lane_mask); });
}
template <class T>
DT_HD inline T shift_up(T value, int distance) {
  return by_words(value, [distance](unsigned word) { return from_below(word, distance); });
}
template <class T>
DT_HD inline T value_of_lane(T value, int lane) {
  return by_words(value, [lane](unsigned word) { return of_lane(word, lane); });
}

/// The same tree for every lane, so all get the same bits: lanes 16 apart first.
template <int kLanes, class T, class Op>
DT_HD inline T combine_lanes(T value, Op op) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value = op(value, exchange(value, distance));
  }
  return value;
}

}  // namespace detail

/// An array in shared memory. Elements are values: s[i] reads or is assigned to.
template <class T>
class Shared {
 public:
  DT_HD explicit Shared(T* data) : data_(data) {}
  DT_HD T& operator[](int64_t i) const { return data_[i]; }
  /// The array from element i on.
  DT_HD Shared operator+(int64_t i) const { return Shared(data_ + i); }

 private:
  T* data_;
};

/// One T of each thread, kept from one collective to the next (in registers where indices are constants).
template <class T>
class PerThread {
 public:
  /// That of `thread`, which must be the one that asks.
  DT_HD T& operator()(int64_t /*thread*/) { return value_; }
  DT_HD const T& operator()(int64_t /*thread*/) const { return value_; }

 private:
  T value_;
};

/// kThreads threads that run a body together: a power of two from 32 to 1024. Blocks of 32 are warps, whose collectives
/// need no barriers.
template <int kThreads>
class Block {
  static_assert(kThreads >= kWarp && kThreads <= 1024 && (kThreads & (kThreads - 1)) == 0);
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kLargest = 32;  // bytes of a value that `reduce` and `scan` take

 public:
  static constexpr int kSize = kThreads;
  /// Bytes of shared memory that collectives need themselves.
  static constexpr int kScratch = kWarps > 1 ? kWarps* kLargest : 0;

  /// `memory`, aligned to 16 bytes, has kScratch bytes and then what the body takes from `shared`.
  DT_HD Block(int64_t index, unsigned char* memory)
      : index_(index), thread_(detail::thread_index() % kThreads), scratch_(memory), shared_(memory + kScratch) {}

  /// Which block of the launch this is.
  [[nodiscard]] DT_HD int64_t index() const { return index_; }

  /// An array of this block, uninitialised. Takes shared_bytes<T>(count).
  template <class T>
  [[nodiscard]] DT_HD Shared<T> shared(int64_t count) {
    auto* data = reinterpret_cast<T*>(shared_);
    shared_ += shared_bytes<T>(count);
    return Shared<T>(data);
  }
  /// One T for each thread, uninitialised.
  template <class T>
  [[nodiscard]] DT_HD PerThread<T> per_thread() {
    return PerThread<T>();
  }

  /// f(i) for 0 <= i < n.
  template <class F>
  DT_HD void each(int64_t n, F f) {
    for (int64_t i = thread_; i < n; i += kThreads) {
      f(i);
    }
    detail::barrier<kThreads>();
  }
  /// f(thread), once for every thread.
  template <class F>
  DT_HD void threads(F f) {
    f(thread_);
    detail::barrier<kThreads>();
  }
  /// f(), by one thread.
  template <class F>
  DT_HD void once(F f) {
    if (thread_ == 0) {
      f();
    }
    detail::barrier<kThreads>();
  }
  /// f() for all: how uniform code reads shared memory, or memory that the kernel has written.
  template <class F>
  DT_HD auto uniform(F f) {
    const auto value = f();
    detail::barrier<kThreads>();
    return value;
  }

  /// op over identity and all f(i), 0 <= i < n. op is associative and commutative, with that identity. Each thread
  /// combines its own in order of i; then lanes 16, 8, 4, 2 and 1 apart are, then warps in the same way.
  template <class T, class Op, class F>
  [[nodiscard]] DT_HD T reduce(int64_t n, T identity, Op op, F f) {
    T value = identity;
    for (int64_t i = thread_; i < n; i += kThreads) {
      value = op(value, static_cast<T>(f(i)));
    }
    value = detail::combine_lanes<kWarp>(value, op);
    if constexpr (kWarps > 1) {
      T* totals = scratch<T>();
      if (thread_ % kWarp == 0) {
        totals[thread_ / kWarp] = value;
      }
      detail::barrier<kThreads>();
      value = detail::combine_lanes<kWarps>(totals[thread_ % kWarps], op);
    }
    detail::barrier<kThreads>();
    return value;
  }
  /// Sum of f(i) as T.
  template <class T, class F>
  [[nodiscard]] DT_HD T sum(int64_t n, F f) {
    return reduce(n, T(0), Add{}, f);
  }
  /// Largest f(i) as T, NaN left out; -infinity of nothing.
  template <class T, class F>
  [[nodiscard]] DT_HD T max(int64_t n, F f) {
    return reduce(n, -std::numeric_limits<T>::infinity(), Larger{}, f);
  }

  /// Gives every thread of each group of kLanes neighbours (a power of two to 32) op over the group's values.
  template <int kLanes, class T, class Op>
  DT_HD void combine(PerThread<T>& values, Op op) {
    static_assert(kLanes >= 1 && kLanes <= kWarp && (kLanes & (kLanes - 1)) == 0);
    values(thread_) = detail::combine_lanes<kLanes>(values(thread_), op);
    detail::barrier<kThreads>();
  }

  /// Exclusive scan: store(i, start op f(0) op .. op f(i - 1)) for 0 <= i < n; op is associative, in that order.
  /// Returns start op .. op f(n - 1). store(i, ..) may overwrite what f(i) has read.
  template <class T, class Op, class F, class Store>
  DT_HD T scan(int64_t n, T start, Op op, F f, Store store) {
    const int lane = thread_ % kWarp;
    for (int64_t first = 0; first < n; first += kThreads) {  // in rounds of one element per thread
      const int64_t i = first + thread_;
      const int last = static_cast<int>(n - first < kThreads ? n - first : kThreads) - 1;
      T value = i < n ? static_cast<T>(f(i)) : start;  // behind the last one: goes nowhere
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const T below = detail::shift_up(value, distance);
        value = lane >= distance ? op(below, value) : value;
      }
      const T below = detail::shift_up(value, 1);
      T before = start;
      if constexpr (kWarps > 1) {
        T* totals = scratch<T>();
        if (lane == kWarp - 1 || thread_ == last) {
          totals[thread_ / kWarp] = value;
        }
        detail::barrier<kThreads>();
        for (int warp = 0; warp <= last / kWarp; ++warp) {
          before = warp == thread_ / kWarp ? start : before;
          start = op(start, totals[warp]);
        }
      } else {
        start = op(start, detail::value_of_lane(value, last));
      }
      if (i < n) {
        store(i, lane == 0 ? before : op(before, below));
      }
      detail::barrier<kThreads>();
    }
    return start;
  }

 private:
  template <class T>
  DT_HD T* scratch() const {
    static_assert(sizeof(T) <= kLargest);
    return reinterpret_cast<T*>(scratch_);
  }

  int64_t index_;
  int thread_;
  unsigned char* scratch_;
  unsigned char* shared_;
};

}  // namespace deltatape::cuda

#endif

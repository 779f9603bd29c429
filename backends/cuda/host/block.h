// Block programs on the host (block.h): one thread plays all threads of a block, and checks what they may do.
//
// Sums run in the device's order, so results have the device's bits, apart from those of library functions and of
// products that only one of the two compilers fuses with a sum. Indices of a collective run in the order of the
// host::Schedule in force; shared and per-thread memory starts as NaN bytes. A breach of the rules throws Error:
//   - an element of shared memory that one thread writes and another reads or writes in the same collective;
//   - shared memory read or written outside a collective, or outside the array;
//   - a PerThread that another thread asks for;
//   - more shared memory taken than the launch provides;
//   - a collective inside another.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "backends/cuda/host/submit.h"
#include "core/error.h"

namespace deltatape::cuda {
namespace host {

/// Where a block is: which collective (counted from 1; 0 between two), and which thread is being played.
struct Moment {
  static constexpr int kEverybody = -1;  // all threads at a time, in `uniform`
  int64_t collective = 0;
  bool inside = false;
  int thread = kEverybody;
};

/// What has happened to one element of shared memory in the current collective.
struct Trace {
  static constexpr int kSeveral = -2;
  int64_t written = 0;  // the last collective that wrote it
  int64_t read = 0;
  int writer = 0;
  int reader = 0;
};

}  // namespace host

/// An array in shared memory whose elements know who touches them.
template <class T>
class Shared {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  class Element {
   public:
    Element(const Shared& array, int64_t i) : array_(array), i_(i) {}
    Element(const Element&) = default;
    operator T() const { return array_.read(i_); }  // NOLINT(google-explicit-constructor): reads like the device's T&
    const Element& operator=(const T& value) const {
      array_.write(i_, value);
      return *this;
    }
    const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
    const Element& operator+=(const T& value) const { return *this = static_cast<T>(array_.read(i_) + value); }
    const Element& operator-=(const T& value) const { return *this = static_cast<T>(array_.read(i_) - value); }
    const Element& operator*=(const T& value) const { return *this = static_cast<T>(array_.read(i_) * value); }

   private:
    const Shared& array_;
    int64_t i_;
  };

  Shared(char* data, int64_t count, host::Trace* traces, const host::Moment* now)
      : data_(data), count_(count), traces_(traces), now_(now) {}
  Element operator[](int64_t i) const { return Element(*this, i); }
  Shared operator+(int64_t i) const {
    check(i >= 0 && i <= count_, "Shared", "an array of {} elements is entered at {}", count_, i);
    return Shared(data_ + i * static_cast<int64_t>(sizeof(T)), count_ - i, traces_ + i, now_);
  }

 private:
  [[nodiscard]] host::Trace& trace_of(int64_t i) const {
    check(i >= 0 && i < count_, "Shared", "element {} of {} is touched", i, count_);
    check(now_->inside, "Shared", "element {} is touched between two collectives", i);
    return traces_[i];
  }
  [[nodiscard]] T read(int64_t i) const {
    host::Trace& trace = trace_of(i);
    check(trace.written != now_->collective || trace.writer == now_->thread, "Shared",
          "thread {} reads element {}, which thread {} has written in the same collective", now_->thread, i,
          trace.writer);
    const bool again = trace.read == now_->collective;
    trace.reader = again && trace.reader != now_->thread ? host::Trace::kSeveral : now_->thread;
    trace.read = now_->collective;
    T value;
    std::memcpy(&value, data_ + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  void write(int64_t i, const T& value) const {
    host::Trace& trace = trace_of(i);
    check(now_->thread != host::Moment::kEverybody, "Shared", "uniform code writes element {}", i);
    check(trace.written != now_->collective || trace.writer == now_->thread, "Shared",
          "threads {} and {} write element {} in the same collective", trace.writer, now_->thread, i);
    check(trace.read != now_->collective || trace.reader == now_->thread, "Shared",
          "thread {} writes element {}, which another has read in the same collective", now_->thread, i);
    trace.written = now_->collective;
    trace.writer = now_->thread;
    std::memcpy(data_ + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }

  char* data_;
  int64_t count_;
  host::Trace* traces_;
  const host::Moment* now_;
};

template <class T>
class PerThread {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  PerThread(int threads, const host::Moment* now) : values_(static_cast<size_t>(threads)), now_(now) {
    // NOLINTNEXTLINE(bugprone-undefined-memory-manipulation): T is trivially copyable; NaN bytes for floats
    std::memset(static_cast<void*>(values_.data()), 0xff, values_.size() * sizeof(T));
  }
  T& operator()(int64_t thread) {
    check_owner(thread);
    return values_[static_cast<size_t>(thread)];
  }
  const T& operator()(int64_t thread) const {
    check_owner(thread);
    return values_[static_cast<size_t>(thread)];
  }

 private:
  void check_owner(int64_t thread) const {
    check(now_->inside && thread == now_->thread, "PerThread", "thread {} asks for what belongs to thread {}",
          now_->thread, thread);
  }

  std::vector<T> values_;
  const host::Moment* now_;
};

template <int kThreads>
class Block {
  static_assert(kThreads >= kWarp && kThreads <= 1024 && (kThreads & (kThreads - 1)) == 0);
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kLargest = 32;

 public:
  static constexpr int kSize = kThreads;

  /// Bytes of shared memory that collectives need themselves.
  static constexpr int kScratch = kWarps > 1 ? kWarps* kLargest : 0;

  /// `memory` counts the bytes: kScratch, and those that the body takes from `shared`.
  Block(int64_t index, int64_t memory) : index_(index), bytes_left_(memory - kScratch) {}
  Block(const Block&) = delete;  // arrays point to its state
  Block& operator=(const Block&) = delete;

  [[nodiscard]] int64_t index() const { return index_; }

  template <class T>
  [[nodiscard]] Shared<T> shared(int64_t count) {
    check(!now_.inside, "Block::shared", "is called inside a collective");
    const int64_t bytes = shared_bytes<T>(count);
    check(bytes <= bytes_left_, "Block::shared", "{} bytes of shared memory are asked for, but {} are left", bytes,
          bytes_left_);
    bytes_left_ -= bytes;
    arrays_.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(bytes)));
    std::memset(arrays_.back().get(), 0xff, static_cast<size_t>(bytes));
    traces_.push_back(std::make_unique<host::Trace[]>(static_cast<size_t>(count)));
    return Shared<T>(reinterpret_cast<char*>(arrays_.back().get()), count, traces_.back().get(), &now_);
  }
  template <class T>
  [[nodiscard]] PerThread<T> per_thread() {
    return PerThread<T>(kThreads, &now_);
  }

  template <class F>
  void each(int64_t n, F f) {
    const Collective collective(now_);
    host::for_each_in_order(n, [&](int64_t i) {
      now_.thread = static_cast<int>(i % kThreads);
      f(i);
    });
  }
  template <class F>
  void threads(F f) {
    each(kThreads, [&](int64_t i) { f(static_cast<int>(i)); });
  }
  template <class F>
  void once(F f) {
    each(1, [&](int64_t /*i*/) { f(); });
  }
  template <class F>
  auto uniform(F f) {
    const Collective collective(now_);
    return f();
  }

  template <class T, class Op, class F>
  [[nodiscard]] T reduce(int64_t n, T identity, Op op, F f) {
    static_assert(sizeof(T) <= kLargest);
    const Collective collective(now_);
    std::array<T, kThreads> values;
    host::for_each_in_order(kThreads, [&](int64_t thread) {
      now_.thread = static_cast<int>(thread);
      T value = identity;
      for (int64_t i = thread; i < n; i += kThreads) {
        value = op(value, static_cast<T>(f(i)));
      }
      values[static_cast<size_t>(thread)] = value;
    });
    std::array<T, kWarps> totals;
    for (int warp = 0; warp < kWarps; ++warp) {
      combine_lanes<kWarp>(values.data() + warp * kWarp, op);
      totals[static_cast<size_t>(warp)] = values[static_cast<size_t>(warp * kWarp)];
    }
    combine_lanes<kWarps>(totals.data(), op);
    return totals[0];
  }
  template <class T, class F>
  [[nodiscard]] T sum(int64_t n, F f) {
    return reduce(n, T(0), Add{}, f);
  }
  template <class T, class F>
  [[nodiscard]] T max(int64_t n, F f) {
    return reduce(n, -std::numeric_limits<T>::infinity(), Larger{}, f);
  }

  template <int kLanes, class T, class Op>
  void combine(PerThread<T>& values, Op op) {
    static_assert(kLanes >= 1 && kLanes <= kWarp && (kLanes & (kLanes - 1)) == 0);
    const Collective collective(now_);
    for (int first = 0; first < kThreads; first += kLanes) {
      std::array<T, kLanes> lanes;
      for (int lane = 0; lane < kLanes; ++lane) {
        now_.thread = first + lane;
        lanes[static_cast<size_t>(lane)] = values(first + lane);
      }
      combine_lanes<kLanes>(lanes.data(), op);
      for (int lane = 0; lane < kLanes; ++lane) {
        now_.thread = first + lane;
        values(first + lane) = lanes[static_cast<size_t>(lane)];
      }
    }
  }

  template <class T, class Op, class F, class Store>
  T scan(int64_t n, T start, Op op, F f, Store store) {
    static_assert(sizeof(T) <= kLargest);
    for (int64_t first = 0; first < n; first += kThreads) {
      const Collective collective(now_);
      const auto count = static_cast<int>(n - first < kThreads ? n - first : kThreads);
      std::array<T, kThreads> values;
      for (int thread = 0; thread < kThreads; ++thread) {
        now_.thread = thread;
        values[static_cast<size_t>(thread)] = thread < count ? static_cast<T>(f(first + thread)) : start;
      }
      for (int distance = 1; distance < kWarp; distance *= 2) {
        for (int thread = kThreads - 1; thread >= 0; --thread) {  // downwards: those below still have their old values
          if (thread % kWarp >= distance) {
            const auto at = static_cast<size_t>(thread);
            values[at] = op(values[at - static_cast<size_t>(distance)], values[at]);
          }
        }
      }
      std::array<T, kThreads> before;
      for (int thread = 0; thread < count; ++thread) {
        const auto at = static_cast<size_t>(thread);
        before[at] = thread % kWarp == 0 ? start : op(start, values[at - 1]);
        if (thread % kWarp == kWarp - 1 || thread == count - 1) {
          start = op(start, values[at]);
        }
      }
      host::for_each_in_order(count, [&](int64_t thread) {
        now_.thread = static_cast<int>(thread);
        store(first + thread, before[static_cast<size_t>(thread)]);
      });
    }
    return start;
  }

 private:
  /// A collective in progress.
  class Collective {
   public:
    explicit Collective(host::Moment& now) : now_(now) {
      check(!now.inside, "Block", "a collective stands inside another");
      now_.inside = true;
      ++now_.collective;
    }
    ~Collective() {
      now_.inside = false;
      now_.thread = host::Moment::kEverybody;
    }
    Collective(const Collective&) = delete;
    Collective& operator=(const Collective&) = delete;

   private:
    host::Moment& now_;
  };

  /// lanes[0] = op over all, as the device's shuffles give it to every lane.
  template <int kLanes, class T, class Op>
  static void combine_lanes(T* lanes, Op op) {
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      std::array<T, kLanes> next;
      for (int lane = 0; lane < kLanes; ++lane) {
        next[static_cast<size_t>(lane)] = op(lanes[lane], lanes[lane ^ distance]);
      }
      std::copy(next.begin(), next.end(), lanes);
    }
  }

  int64_t index_;
  int64_t bytes_left_;
  host::Moment now_;
  std::vector<std::unique_ptr<std::byte[]>> arrays_;
  std::vector<std::unique_ptr<host::Trace[]>> traces_;
};
}  // namespace deltatape::cuda

// How the work of a call is shared among threads, and where each sequence's states stand in lists over all sequences.
#pragma once

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "backends/cpu/kda/tile.h"
#include "backends/cpu/stream_store.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu::kda {

/// The pairs (sequence, head) of a call, longest sequences first.
class Tasks {
 public:
  Tasks(const KernelProblem& p, int64_t heads) : heads_(heads), order_(p.sequences.size()) {
    lengths_.reserve(order_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&p](size_t a, size_t b) { return p.sequences[a].length() > p.sequences[b].length(); });
    for (const size_t n : order_) {
      lengths_.push_back(p.sequences[n].length());
      tokens_ += lengths_.back();
    }
  }
  /// The share of the time that threads are busy when each takes the next task as soon as it is done with one.
  [[nodiscard]] double busy_share(int64_t threads) const {
    std::vector<int64_t> loads(static_cast<size_t>(threads), 0);
    for (int64_t task = 0; task < count(); ++task) {
      *std::min_element(loads.begin(), loads.end()) += lengths_[static_cast<size_t>(task / heads_)];
    }
    const int64_t longest = *std::max_element(loads.begin(), loads.end());
    return longest == 0 ? 1.0 : static_cast<double>(tokens()) / static_cast<double>(threads * longest);
  }
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(order_.size()) * heads_; }
  [[nodiscard]] int64_t tokens() const { return tokens_ * heads_; }
  [[nodiscard]] int64_t sequence(int64_t task) const {
    return static_cast<int64_t>(order_[static_cast<size_t>(task / heads_)]);
  }
  [[nodiscard]] int64_t head(int64_t task) const { return task % heads_; }

 private:
  int64_t heads_;
  int64_t tokens_ = 0;
  std::vector<size_t> order_;
  std::vector<int64_t> lengths_;  // in this order
};

/// Whether the tasks alone keep all threads busy. If not, they run one after another and share their parts.
inline bool side_by_side(const Tasks& tasks) {
  const int64_t threads = omp_get_max_threads();
  return omp_in_parallel() != 0 || tasks.count() >= 2 * threads || tasks.busy_share(threads) > 0.9;
}

/// The blocks of columns of the state that threads work on side by side.
template <class T>
class ColumnBlocks {
 public:
  /// Half as wide where that spreads them more evenly over the threads.
  ColumnBlocks(const Sizes<T>& size, bool shared) : columns_(size.Vp), width_(kBlockColumns<T>) {
    const int64_t threads = omp_get_max_threads();
    const auto columns_of_a_thread = [&](int64_t width) {
      return ceil_div(ceil_div(columns_, width), threads) * width;
    };
    const int64_t half = width_ / 2;
    const int64_t rest = columns_ % half;
    const bool wide_enough = rest == 0 || rest > 3;  // products of fewer columns sum in another order
    if (shared && half >= Vec<T>::kSize && wide_enough && columns_of_a_thread(half) < columns_of_a_thread(width_)) {
      width_ = half;
    }
  }
  [[nodiscard]] int64_t count() const { return ceil_div(columns_, width_); }
  [[nodiscard]] int64_t width() const { return width_; }
  [[nodiscard]] int64_t first(int64_t block) const { return block * width_; }
  [[nodiscard]] int64_t columns(int64_t block) const { return std::min(width_, columns_ - first(block)); }

 private:
  int64_t columns_;
  int64_t width_;
};

/// How many tasks run at a time when they do.
inline int64_t worker_count(const Tasks& tasks, double nanoseconds_per_token) {
  const auto nanoseconds = static_cast<int64_t>(static_cast<double>(tasks.tokens()) * nanoseconds_per_token);
  return std::clamp<int64_t>(tasks.count(), 1, thread_count(nanoseconds));
}

/// Calls f(task, worker) for every task, `workers` of them at a time: a worker takes the next task when it is done with
/// one. What a task computes must not depend on its worker. Streamed stores (RowWriter) are visible to all afterwards.
template <class F>
void run_tasks(const Tasks& tasks, int64_t workers, const F& f) {
  const int64_t count = tasks.count();
  if (workers <= 1) {
    for (int64_t task = 0; task < count; ++task) {
      f(task, int64_t{0});
    }
    end_of_stream();
    return;
  }
  std::atomic<int64_t> next{0};
#pragma omp parallel for schedule(static, 1)
  for (int64_t worker = 0; worker < workers; ++worker) {
    for (int64_t task = next++; task < count; task = next++) {
      f(task, worker);
    }
    end_of_stream();
  }
}

/// Working memory of every worker, made before the threads start.
template <class T>
class WorkerMemory {
 public:
  WorkerMemory(int64_t workers, int64_t elements) {
    for (int64_t worker = 0; worker < workers; ++worker) {
      pieces_.emplace_back(elements);
    }
  }
  [[nodiscard]] T* of(int64_t worker) const { return pieces_[static_cast<size_t>(worker)].data(); }

 private:
  std::vector<Buffer<T>> pieces_;
};

/// Working memory of every thread, for parts of a task that threads may share.
template <class T>
class ThreadMemory {
 public:
  explicit ThreadMemory(int64_t elements)
      : nested_(omp_in_parallel() != 0), pieces_(nested_ ? 1 : omp_get_max_threads(), elements) {}
  /// The calling thread's piece. A call from inside a parallel region of the user's runs on one thread only.
  [[nodiscard]] T* mine() const { return pieces_.of(nested_ ? 0 : omp_get_thread_num()); }

 private:
  bool nested_;
  WorkerMemory<T> pieces_;
};

/// Tiles of the longest sequence.
inline int64_t longest_in_tiles(const KernelProblem& p) {
  int64_t longest = 0;
  for (const Sequence& sequence : p.sequences) {
    longest = std::max(longest, tile_count(sequence));
  }
  return longest;
}

/// Where each sequence's states begin in a list of the states of all sequences, of which it has count(length).
template <class Count>
std::vector<int64_t> first_numbers(const KernelProblem& p, Count count) {
  std::vector<int64_t> first;
  int64_t number = 0;
  for (const Sequence& sequence : p.sequences) {
    first.push_back(number);
    number += count(sequence.length());
  }
  return first;
}
inline std::vector<int64_t> first_checkpoints(const KernelProblem& p) { return first_numbers(p, checkpoint_count); }

}  // namespace deltatape::cpu::kda

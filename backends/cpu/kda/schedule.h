// How the work of a call is shared among threads, and where each sequence's states stand in lists over all sequences.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "backends/cpu/kda/tile.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu::kda {

/// The pairs (sequence, head) of a call, longest sequences first.
class Tasks {
 public:
  Tasks(const KernelProblem& p, int64_t heads) : heads_(heads), order_(p.sequences.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&p](size_t a, size_t b) { return p.sequences[a].length() > p.sequences[b].length(); });
    for (const Sequence& sequence : p.sequences) {
      tokens_ += sequence.length();
    }
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
};

/// Whether the tasks alone keep all threads busy. If not, they run one after another and share their parts.
inline bool side_by_side(const Tasks& tasks) {
  return omp_in_parallel() != 0 || tasks.count() >= 2 * int64_t{omp_get_max_threads()};
}

/// How many tasks run at a time.
inline int64_t worker_count(const Tasks& tasks, double nanoseconds_per_token) {
  const auto nanoseconds = static_cast<int64_t>(static_cast<double>(tasks.tokens()) * nanoseconds_per_token);
  return side_by_side(tasks) && worth_threads(nanoseconds) ? omp_get_max_threads() : 1;
}

/// Calls f(task) for every task, `workers` of them at a time.
template <class F>
void run_tasks(const Tasks& tasks, int64_t workers, const F& f) {
  const int64_t count = tasks.count();
  if (workers == 1) {
    for (int64_t task = 0; task < count; ++task) {
      f(task);
    }
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(workers))
  for (int64_t task = 0; task < count; ++task) {
    f(task);
  }
}

/// Working memory of which every thread of a call has its own piece, made before the threads start.
template <class T>
class ThreadMemory {
 public:
  explicit ThreadMemory(int64_t elements) : nested_(omp_in_parallel() != 0) {
    const int threads = nested_ ? 1 : omp_get_max_threads();
    for (int thread = 0; thread < threads; ++thread) {
      pieces_.emplace_back(elements);
    }
  }
  /// The calling thread's piece. A call from inside a parallel region of the user's runs on one thread only.
  [[nodiscard]] T* mine() const { return pieces_[nested_ ? 0 : static_cast<size_t>(omp_get_thread_num())].data(); }

 private:
  bool nested_;
  std::vector<Buffer<T>> pieces_;
};

/// The number of the first block of every sequence when all blocks of `steps` tokens are counted through.
inline std::vector<int64_t> first_blocks(const KernelProblem& p, int64_t steps) {
  std::vector<int64_t> first;
  int64_t count = 0;
  for (const Sequence& sequence : p.sequences) {
    first.push_back(count);
    count += ceil_div(sequence.length(), steps);
  }
  return first;
}

}  // namespace deltatape::cpu::kda

// How kernels share work among OpenMP threads.
#pragma once

#include <omp.h>

#include <cstdint>

#include "backends/cpu/ceil_div.h"

namespace deltatape::cpu {

/// Whether `nanoseconds` of work, roughly estimated, are worth waking the other threads for. Never inside a parallel
/// region. All threads or one: libgomp ends and restarts threads when the team's size changes.
inline bool worth_threads(int64_t nanoseconds) {
  constexpr int64_t kWorthwhile = 40'000;  // a few times what a parallel region costs
  return nanoseconds > kWorthwhile && omp_get_max_threads() > 1 && omp_in_parallel() == 0;
}

/// Threads that worth_threads' answer gives to a kernel.
inline int64_t thread_count(int64_t nanoseconds) { return worth_threads(nanoseconds) ? omp_get_max_threads() : 1; }

/// Calls f(i) for i in [0, count), in parallel when count * nanoseconds_each is worth it. `f` must not throw.
template <class F>
void parallel_for(int64_t count, double nanoseconds_each, F&& f) {
  if (count < 2 || !worth_threads(static_cast<int64_t>(static_cast<double>(count) * nanoseconds_each))) {
    for (int64_t i = 0; i < count; ++i) {
      f(i);
    }
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    f(i);
  }
}

/// Below this many elements of simple work starting threads costs more than it saves.
inline constexpr int64_t kParallelElements = 32768;

/// Calls f(begin, end) so that the calls cover [0, count): once for everything when `elements` of simple work are few
/// or the caller is itself one of several threads, else once per thread with equal shares. `f` must not throw, and what
/// it computes for an index must not depend on the share the index falls into.
template <class F>
void parallel_ranges(int64_t count, int64_t elements, const F& f) {
  if (count < 2 || elements < kParallelElements || omp_in_parallel() != 0 || omp_get_max_threads() == 1) {
    f(int64_t{0}, count);
    return;
  }
#pragma omp parallel
  {
    const auto threads = static_cast<int64_t>(omp_get_num_threads());
    const auto thread = static_cast<int64_t>(omp_get_thread_num());
    const int64_t begin = count * thread / threads;
    const int64_t end = count * (thread + 1) / threads;
    if (begin < end) {
      f(begin, end);
    }
  }
}

}  // namespace deltatape::cpu

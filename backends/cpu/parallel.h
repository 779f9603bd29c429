// When and how a kernel uses several threads.
#pragma once

#include <omp.h>

#include <cstdint>

namespace deltatape::cpu {

/// Below this many elements starting threads costs more than it saves.
inline constexpr int64_t kParallelElements = 32768;

/// Calls f(begin, end) so that the calls cover [0, count): once for everything when `elements` of work are few or the
/// caller is itself one of several threads, else once per thread with equal shares. `f` must not throw, and what it
/// computes for an index must not depend on the share the index falls into.
template <class F>
void parallel_ranges(int64_t count, int64_t elements, const F& f) {
  if (elements < kParallelElements || count < 2 || omp_in_parallel() != 0 || omp_get_max_threads() == 1) {
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

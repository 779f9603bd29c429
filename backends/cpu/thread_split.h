// How kernels share work among OpenMP threads.
#pragma once

#include <omp.h>

#include <cstdint>

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

/// Ceiling of a / b for b > 0.
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace deltatape::cpu

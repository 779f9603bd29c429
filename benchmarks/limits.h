// What the machine can do at best, measured in the same program as what is held against it.
#pragma once

#include <xflens/cxxblas/drivers/cblas.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>
#include <xsimd/xsimd.hpp>

#include "backends/cpu/stream_store.h"
#include "backends/cpu/vec.h"
#include "core/host_memory.h"

extern "C" void openblas_set_num_threads(int count);

namespace deltatape::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The shortest of the runs that fit into `budget` seconds (at least three).
inline double best_seconds(const std::function<void()>& run, double budget = 0.3) {
  const Clock::time_point start = Clock::now();
  double best = 1e30;
  for (int runs = 0; runs < 3 || seconds_since(start) < budget; ++runs) {
    const Clock::time_point before = Clock::now();
    run();
    best = std::min(best, seconds_since(before));
  }
  return best;
}

/// As many threads as the ops use: OMP_NUM_THREADS, or one per core.
inline int thread_count() {
  const char* wanted = std::getenv("OMP_NUM_THREADS");
  const int count = wanted != nullptr ? std::atoi(wanted) : static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, count);
}

/// Calls work(part, parts) on all threads at once, again and again. Returns the shortest time from the start of the
/// first to the end of the last; starting threads is not counted.
inline double best_seconds_on_all_cores(const std::function<void(int, int)>& work, int rounds) {
  const int parts = thread_count();
  std::atomic<int> arrived{0};
  const auto wait_for_all = [&](int goal) {
    arrived.fetch_add(1);
    while (arrived.load() < goal) {
    }
  };
  std::vector<Clock::time_point> starts(static_cast<size_t>(parts));
  std::vector<Clock::time_point> ends(static_cast<size_t>(parts));
  double best = 1e30;
  const auto run = [&](int part) {
    int goal = 0;
    for (int round = 0; round < rounds; ++round) {
      wait_for_all(goal += parts);
      starts[static_cast<size_t>(part)] = Clock::now();
      work(part, parts);
      ends[static_cast<size_t>(part)] = Clock::now();
      wait_for_all(goal += parts);
      if (part == 0) {
        const auto first = *std::min_element(starts.begin(), starts.end());
        const auto last = *std::max_element(ends.begin(), ends.end());
        best = std::min(best, std::chrono::duration<double>(last - first).count());
      }
    }
  };
  std::vector<std::thread> threads;
  for (int part = 1; part < parts; ++part) {
    threads.emplace_back(run, part);
  }
  run(0);
  for (std::thread& thread : threads) {
    thread.join();
  }
  return best;
}

/// Bytes per second, reading and writing together, at which all cores copy a block of `bytes`: the best of memcpy and
/// of stores past the caches.
inline double copy_bandwidth(int64_t bytes, int rounds) {
  auto* from = static_cast<char*>(allocate_host(static_cast<size_t>(bytes)));
  auto* to = static_cast<char*>(allocate_host(static_cast<size_t>(bytes)));
  std::memset(from, 1, static_cast<size_t>(bytes));
  std::memset(to, 2, static_cast<size_t>(bytes));
  const auto share = [bytes](int part, int parts) { return bytes / 64 * part / parts * 64; };
  const double copied = best_seconds_on_all_cores(
      [=](int part, int parts) {
        const int64_t begin = share(part, parts);
        std::memcpy(to + begin, from + begin, static_cast<size_t>(share(part + 1, parts) - begin));
      },
      rounds);
  const double streamed = best_seconds_on_all_cores(
      [=](int part, int parts) {
        const int64_t begin = share(part, parts);
        cpu::stream_store(to + begin, from + begin, share(part + 1, parts) - begin);
        cpu::end_of_stream();
      },
      rounds);
  free_host(from, static_cast<size_t>(bytes));
  free_host(to, static_cast<size_t>(bytes));
  return 2.0 * static_cast<double>(bytes) / std::min(copied, streamed);
}

/// Exponentials of f32 per second: `exp_of` maps a SIMD register, on all cores, over numbers in the first-level cache.
template <class Exp>
double exp_rate_of(const Exp& exp_of, int rounds) {
  constexpr int64_t kNumbers = 2048;
  constexpr int64_t kRepeats = 200;
  const double seconds = best_seconds_on_all_cores(
      [&exp_of](int /*part*/, int /*parts*/) {
        using Vec = cpu::Vec<float>;
        alignas(64) float numbers[kNumbers];
        alignas(64) float results[kNumbers];
        for (int64_t i = 0; i < kNumbers; ++i) {
          numbers[i] = static_cast<float>(i % 61) * 0.1F - 3.0F;
        }
        for (int64_t repeat = 0; repeat < kRepeats; ++repeat) {
          for (int64_t i = 0; i < kNumbers; i += Vec::kSize) {
            exp_of(Vec::load(numbers + i)).store(results + i);
          }
          asm volatile("" : : "r"(results) : "memory");  // every repeat counts
        }
      },
      rounds);
  return static_cast<double>(kNumbers * kRepeats) * static_cast<double>(thread_count()) / seconds;
}

/// The better of xsimd's exp and the library's own.
inline double exp_rate(int rounds) {
  using Vec = cpu::Vec<float>;
  return std::max(exp_rate_of([](Vec x) { return Vec(xsimd::exp(x.batch)); }, rounds),
                  exp_rate_of([](Vec x) { return cpu::exp(x); }, rounds));
}

/// Seconds of OpenBLAS' own sgemm for [n, n] times [n, n], with all its threads.
inline double sgemm_seconds(int64_t n, double budget) {
  std::vector<float> a(static_cast<size_t>(n * n), 0.5F);
  std::vector<float> b(static_cast<size_t>(n * n), 0.25F);
  std::vector<float> c(static_cast<size_t>(n * n));
  const auto size = static_cast<int>(n);
  openblas_set_num_threads(thread_count());
  const double seconds = best_seconds(
      [&] {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, size, size, size, 1.0F, a.data(), size, b.data(), size,
                    0.0F, c.data(), size);
      },
      budget);
  openblas_set_num_threads(1);  // as the library has it
  return seconds;
}

}  // namespace deltatape::bench

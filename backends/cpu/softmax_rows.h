// Exponentials of dense rows, taken relative to the largest element.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "backends/cpu/vec.h"

namespace deltatape::cpu {

/// Largest element, NaN left out (exp(x - max) brings it back).
template <class T>
T max_of_row(const T* x, int64_t count) {
  using V = Vec<T>;
  constexpr int64_t kStep = 4 * V::kSize;
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  const auto larger = [](V best, V value) { return select(value > best, value, best); };
  V best[4] = {V(double{kLowest}), V(double{kLowest}), V(double{kLowest}), V(double{kLowest})};
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (int64_t k = 0; k < 4; ++k) {
      best[k] = larger(best[k], V::load(x + i + k * V::kSize));
    }
  }
  for (; i + V::kSize <= count; i += V::kSize) {
    best[0] = larger(best[0], V::load(x + i));
  }
  alignas(64) T lanes[static_cast<size_t>(V::kSize)];
  larger(larger(best[0], best[1]), larger(best[2], best[3])).store(lanes);
  T largest = kLowest;
  for (const T lane : lanes) {
    largest = lane > largest ? lane : largest;
  }
  for (; i < count; ++i) {
    largest = x[i] > largest ? x[i] : largest;
  }
  return largest;
}

/// y = exp(x - largest); returns the sum, added up as sum_row does. The row `ahead`, which comes next, is fetched
/// meanwhile, so that memory works while this computes.
template <class T>
double exp_row(const T* x, Vec<T> largest, T* y, int64_t count, const T* ahead) {
  using V = Vec<T>;
  constexpr int64_t kBlock = 512;
  double total = 0.0;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t last = std::min(count, first + kBlock);
    V sums(0.0);
    int64_t i = first;
    for (; i + V::kSize <= last; i += V::kSize) {
      __builtin_prefetch(ahead + i);
      const V value = exp(V::load(x + i) - largest);
      value.store(y + i);
      sums = sums + value;
    }
    if (i < last) {
      exp(V::load_part(x + i, last - i) - largest).store_part(y + i, last - i);
      sums = sums + V::load_part(y + i, last - i);  // the missing lanes count as 0
    }
    total += sum_of_lanes(sums);
  }
  return total;
}

/// Sum of exp(x - largest).
template <class T>
double sum_of_exponentials(const T* x, Vec<T> largest, int64_t count) {
  using V = Vec<T>;
  V sums[2] = {V(0.0), V(0.0)};
  int64_t i = 0;
  for (; i + 2 * V::kSize <= count; i += 2 * V::kSize) {
    sums[0] = sums[0] + exp(V::load(x + i) - largest);
    sums[1] = sums[1] + exp(V::load(x + i + V::kSize) - largest);
  }
  double total = 0.0;
  for (; i < count; i += V::kSize) {
    const int64_t rest = std::min(V::kSize, count - i);
    alignas(64) T lanes[static_cast<size_t>(V::kSize)];
    exp((rest < V::kSize ? V::load_part(x + i, rest) : V::load(x + i)) - largest).store(lanes);
    for (int64_t lane = 0; lane < rest; ++lane) {
      total += static_cast<double>(lanes[lane]);
    }
  }
  return total + sum_of_lanes(sums[0] + sums[1]);
}

/// The largest element of a row, and the sum of exp(x - largest).
template <class T>
struct RowExponentials {
  T largest;
  double sum;
};

/// In one pass over memory: blocks that fit the first-level cache are taken relative to the largest element so far.
template <class T>
RowExponentials<T> exponentials_of_row(const T* x, int64_t count) {
  using V = Vec<T>;
  constexpr int64_t kBlock = 1024;
  RowExponentials<T> all{-std::numeric_limits<T>::infinity(), 0.0};
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t length = std::min(kBlock, count - first);
    const T top = std::max(all.largest, max_of_row(x + first, length));
    if (all.largest < top) {
      all.sum *= std::exp(static_cast<double>(all.largest) - static_cast<double>(top));
      all.largest = top;
    }
    // Nothing but -inf so far counts 0 (and NaN itself), where -inf - -inf would be NaN.
    const T reference = top == -std::numeric_limits<T>::infinity() ? T(0) : top;
    all.sum += sum_of_exponentials(x + first, V(static_cast<double>(reference)), length);
  }
  return all;
}

}  // namespace deltatape::cpu

// Loops over rows in SIMD registers, the rest of a row included.
#pragma once

#include <cstdint>

#include "backends/cpu/vec.h"

namespace deltatape::cpu {

/// All lanes of a register, or the first `count`: what a row kernel loads and stores at a time.
template <class T>
struct WholeVector {
  static Vec<T> load(const T* from) { return Vec<T>::load(from); }
  static void store(Vec<T> value, T* to) { value.store(to); }
};
template <class T>
struct PartOfVector {
  int64_t count;
  [[nodiscard]] Vec<T> load(const T* from) const { return Vec<T>::load_part(from, count); }
  void store(Vec<T> value, T* to) const { value.store_part(to, count); }
};

/// Calls f(i, lanes) for i = 0, kSize, ... below `count`; lanes.load(p + i) and lanes.store(value, p + i) move what
/// belongs to the row. Lanes beyond it are loaded as 0.
template <class T, class F>
void for_each_vector(int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + Vec<T>::kSize <= count; i += Vec<T>::kSize) {
    f(i, WholeVector<T>{});
  }
  if (i < count) {
    f(i, PartOfVector<T>{count - i});
  }
}

/// Asks for `bytes` of memory that are read soon. Kernels that read many rows side by side outrun the processor's own
/// guesses.
inline void prefetch(const char* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) {
    __builtin_prefetch(from + i);
  }
}

}  // namespace deltatape::cpu

// Global memory is a pointer.
#pragma once

#include <type_traits>

#include "backends/cuda/kda/tile/device/words.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <class T>
class GlobalPointer {
 public:
  using Plain = std::remove_const_t<T>;
  DT_DEVICE GlobalPointer(T* data) : data_(data) {}  // NOLINT: a view of a plain pointer
  DT_DEVICE GlobalPointer operator+(int64_t i) const { return GlobalPointer(data_ + i); }
  DT_DEVICE Plain load(int64_t i) const { return data_[i]; }
  DT_DEVICE void store(int64_t i, Plain x) const { data_[i] = x; }
  template <int n>
  DT_DEVICE void load_many(int64_t i, Values<Plain, n>& to) const {
    load_words(static_cast<const Plain*>(data_ + i), to);
  }
  template <int n>
  DT_DEVICE void store_many(int64_t i, const Values<Plain, n>& from) const {
    store_words(data_ + i, from);
  }
  DT_DEVICE T* data() const { return data_; }

 private:
  T* data_;
};

DT_DEVICE void check_global_index(int /*row*/, int /*col*/, int /*count*/, int /*rows*/, int /*cols*/) {}

}  // namespace deltatape::cuda::tile

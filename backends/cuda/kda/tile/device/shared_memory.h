// Shared memory is a pointer.
#pragma once

#include "backends/cuda/kda/tile/device/words.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <class T>
class SharedPointer {
 public:
  DT_DEVICE explicit SharedPointer(T* data) : data_(data) {}
  DT_DEVICE SharedPointer operator+(int i) const { return SharedPointer(data_ + i); }
  DT_DEVICE T load(int i) const { return data_[i]; }
  DT_DEVICE void store(int i, T x) const { data_[i] = x; }
  template <int n>
  DT_DEVICE void load_many(int i, Values<T, n>& to) const {
    load_words(data_ + i, to);
  }
  template <int n>
  DT_DEVICE void store_many(int i, const Values<T, n>& from) const {
    store_words(data_ + i, from);
  }
  /// The address that PTX takes.
  DT_DEVICE uint32_t address() const { return static_cast<uint32_t>(__cvta_generic_to_shared(data_)); }

 private:
  T* data_;
};

DT_DEVICE void check_index(int /*row*/, int /*col*/, int /*rows*/, int /*cols*/) {}

}  // namespace deltatape::cuda::tile

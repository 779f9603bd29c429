// Memory that two processes see: an anonymous file, known by its descriptor.
#pragma once

#include <cstddef>

#include "harness/plugin/descriptor.h"

namespace deltatape::harness::plugin {

/// A view of a whole anonymous file, for reading and writing. The creator makes and grows it, the other process maps
/// it.
class SharedMemory {
 public:
  SharedMemory() = default;
  ~SharedMemory() { unmap(); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// A fresh file of at least `bytes` bytes that nobody can make smaller: who reads it never meets a missing page.
  /// Throws Error when there is no memory left.
  static Descriptor create(size_t bytes);
  /// Makes the file larger. Throws Error when there is no memory left.
  static void grow(const Descriptor& file, size_t bytes);

  /// Maps the first `bytes` bytes, in place of what was mapped before. False when that is not possible.
  bool map(int descriptor, size_t bytes);

  [[nodiscard]] char* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  void unmap();

  char* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace deltatape::harness::plugin

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

  /// Maps the first `bytes` bytes, in place of what was mapped before, between two fences: addresses that crash who
  /// touches them. False when that is not possible.
  bool map(int descriptor, size_t bytes);
  /// From now on the pages behind the first `bytes` bytes are a fence, too, and those before are none. False when they
  /// are not mapped any more.
  bool fence_behind(size_t bytes);

  [[nodiscard]] char* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  /// `bytes`, up to the end of its last page.
  static size_t whole_pages(size_t bytes);

 private:
  static constexpr size_t kFenceBytes = size_t{1} << 26;

  void unmap();

  char* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace deltatape::harness::plugin

// What launch.h is made of on the host: work that streams do by plain loops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "backends/cuda/runtime/place.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::host {

/// Puts `work` on the stream: done at once, or when the stream is waited for (backends/cuda/host/schedule.h). Only
/// while it runs may device memory be touched.
void submit(const Stream& stream, Place where, std::function<void()> work);
/// Does everything that is on streams.
void finish_all();
/// Does what is on streams, in order, until `reached`.
void finish_until(const std::function<bool()>& reached);
/// While it lives, what this thread submits is put here instead.
class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  std::vector<std::function<void()>> work;
};

/// A permutation of [0, n), according to the schedule in force.
class Order {
 public:
  explicit Order(int64_t n);
  [[nodiscard]] int64_t operator[](int64_t i) const { return step_ == 1 ? i : (i * step_ + first_) % n_; }

 private:
  int64_t n_;
  int64_t first_ = 0;
  int64_t step_ = 1;
};

/// body(i) for every i in [0, n), in the order of the schedule in force.
template <class Body>
void for_each_in_order(int64_t n, const Body& body) {
  const Order order(n);
  for (int64_t i = 0; i < n; ++i) {
    body(order[i]);
  }
}

/// A block's dynamic shared memory.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : storage_(bytes + 2 * kAlignment, kBehind), bytes_(bytes) {}
  /// Its first byte, all of it NaN again. Throws Error when the block before wrote behind its end.
  [[nodiscard]] unsigned char* poisoned() const;
  /// Throws Error when a block wrote behind the end.
  void check_end() const;

 private:
  [[nodiscard]] unsigned char* first() const;
  static constexpr size_t kAlignment = 1024;
  static constexpr unsigned char kFresh = 0xFF;
  static constexpr unsigned char kBehind = 0xC5;
  mutable std::vector<unsigned char> storage_;
  size_t bytes_;
};

/// Throws Error for a launch that a GPU would refuse.
void check_block_launch(int threads, int max_threads, size_t shared_bytes, Place where);

}  // namespace deltatape::cuda::host

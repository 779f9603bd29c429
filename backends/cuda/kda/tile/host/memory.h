// Global memory as tests hand it to a kernel: every buffer with its bounds, its purpose, and who wrote it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/kda/tile/host/clock.h"
#include "core/error.h"

namespace deltatape::cuda::tile::host {

/// What kernels may do with a buffer.
enum class Purpose : uint8_t {
  input,   // is only read
  output,  // every element is written exactly once
  inout,   // anything, within its bounds and without races
};

/// Who acts, as far as other blocks are concerned.
struct GlobalActor {
  uint32_t launch = 0;
  int block = 0;
  int warp = 0;
  const Clock* clock = nullptr;
};

/// One allocation. Bytes beside it are not touched unnoticed: every access is checked against its bounds.
class Buffer {
 public:
  Buffer(std::string name, size_t bytes, Purpose purpose)
      : name_(std::move(name)), purpose_(purpose), bytes_(bytes), data_(new std::byte[bytes + kAlignment]) {
    const auto address = reinterpret_cast<uintptr_t>(data_.get());
    begin_ = data_.get() + (kAlignment - address % kAlignment) % kAlignment;
    std::memset(begin_, 0xff, bytes);  // NaN in every floating type
    if (purpose != Purpose::input) {
      units_.resize((bytes + 1) / 2);
    }
  }

  [[nodiscard]] std::byte* begin() const { return begin_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] const std::string& name() const { return name_; }

  void check_read(const GlobalActor& who, const void* from, size_t bytes) {
    const size_t offset = checked_offset("read", from, bytes);
    for (size_t at = offset / 2; at < (offset + bytes + 1) / 2 && purpose_ != Purpose::input; ++at) {
      Unit& unit = units_[at];
      check(purpose_ != Purpose::output || unit.writes > 0, "tile",
            "block {} reads byte {} of {}, which is not written", who.block, 2 * at, name_);
      check_order(who, unit.write, "reads", "wrote", at);
      unit.read = mark(who);
    }
  }
  void check_write(const GlobalActor& who, const void* to, size_t bytes) {
    const size_t offset = checked_offset("written", to, bytes);
    check(purpose_ != Purpose::input, "tile", "block {} writes byte {} of {}, expected only reads of an input",
          who.block, offset, name_);
    for (size_t at = offset / 2; at < (offset + bytes + 1) / 2; ++at) {
      Unit& unit = units_[at];
      check(purpose_ != Purpose::output || unit.writes == 0, "tile", "block {} writes byte {} of {} a second time",
            who.block, 2 * at, name_);
      check_order(who, unit.write, "writes", "wrote", at);
      check_order(who, unit.read, "writes", "read", at);
      unit.write = mark(who);
      ++unit.writes;
    }
  }
  /// Throws unless an output has been written everywhere.
  void check_complete() const {
    if (purpose_ != Purpose::output) {
      return;
    }
    size_t missing = 0;
    size_t first = 0;
    for (size_t at = units_.size(); at-- > 0;) {
      if (units_[at].writes == 0) {
        ++missing;
        first = 2 * at;
      }
    }
    check(missing == 0, "tile", "{} of {} bytes of {} were not written, the first is byte {}", 2 * missing, bytes_,
          name_, first);
  }

 private:
  struct Mark {
    uint32_t launch = 0;
    int block = 0;
    int warp = 0;
    uint32_t age = 0;
  };
  struct Unit {
    Mark write;
    Mark read;
    uint32_t writes = 0;
  };
  static constexpr size_t kAlignment = 256;

  static Mark mark(const GlobalActor& who) {
    return {who.launch, who.block, who.warp, who.clock->age[static_cast<size_t>(who.warp)]};
  }

  size_t checked_offset(std::string_view does, const void* at, size_t bytes) const {
    const std::ptrdiff_t offset = static_cast<const std::byte*>(at) - begin_;
    check(offset >= 0 && static_cast<size_t>(offset) + bytes <= bytes_, "tile",
          "byte {} to {} of {} is {}, expected at most {}", offset, offset + static_cast<std::ptrdiff_t>(bytes), name_,
          does, bytes_);
    return static_cast<size_t>(offset);
  }

  /// What blocks of one launch do to each other has no order; what warps of a block do has one through barriers only.
  void check_order(const GlobalActor& who, const Mark& other, std::string_view does, std::string_view did,
                   size_t at) const {
    if (other.launch != who.launch || other.launch == 0) {
      return;
    }
    check(other.block == who.block, "tile", "block {} {} byte {} of {}, which block {} of the same launch {}",
          who.block, does, 2 * at, name_, other.block, did);
    check(other.warp == who.warp || other.age <= who.clock->age[static_cast<size_t>(other.warp)], "tile",
          "block {}: warp {} {} byte {} of {}, which warp {} {} since their last common barrier", who.block, who.warp,
          does, 2 * at, name_, other.warp, did);
  }

  std::string name_;
  Purpose purpose_;
  size_t bytes_;
  std::unique_ptr<std::byte[]> data_;
  std::byte* begin_ = nullptr;
  std::vector<Unit> units_;
};

/// The buffers of a test. While a `Run` (launch.h) names it, kernels may touch nothing else.
class Memory {
 public:
  template <class T>
  const T* input(std::string name, const std::vector<T>& values) {
    T* const to = add<T>(std::move(name), values.size(), Purpose::input);
    std::copy(values.begin(), values.end(), to);
    return to;
  }
  /// `count` elements, each of which has to be written exactly once.
  template <class T>
  T* output(std::string name, size_t count) {
    return add<T>(std::move(name), count, Purpose::output);
  }
  template <class T>
  T* inout(std::string name, const std::vector<T>& values) {
    T* const to = add<T>(std::move(name), values.size(), Purpose::inout);
    std::copy(values.begin(), values.end(), to);
    return to;
  }

  /// The contents of a buffer, from its first element on.
  template <class T>
  std::vector<T> read(const T* begin) const {
    const Buffer* const buffer = find(begin);
    check(buffer != nullptr, "tile::host::Memory::read", "the pointer is no buffer of this memory");
    return std::vector<T>(begin, begin + buffer->bytes() / sizeof(T));
  }

  [[nodiscard]] Buffer* find(const void* at) const {
    auto after = buffers_.upper_bound(reinterpret_cast<uintptr_t>(at));
    if (after == buffers_.begin()) {
      return nullptr;
    }
    Buffer* const buffer = std::prev(after)->second.get();
    return static_cast<const std::byte*>(at) <= buffer->begin() + buffer->bytes() ? buffer : nullptr;
  }

  /// Throws unless every output is complete.
  void check_complete() const {
    for (const auto& [address, buffer] : buffers_) {
      buffer->check_complete();
    }
  }

 private:
  template <class T>
  T* add(std::string name, size_t count, Purpose purpose) {
    auto buffer = std::make_unique<Buffer>(std::move(name), count * sizeof(T), purpose);
    std::byte* const begin = buffer->begin();
    buffers_.emplace(reinterpret_cast<uintptr_t>(begin), std::move(buffer));
    return reinterpret_cast<T*>(begin);
  }

  std::map<uintptr_t, std::unique_ptr<Buffer>> buffers_;
};

}  // namespace deltatape::cuda::tile::host

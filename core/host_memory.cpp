#include "core/host_memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace deltatape {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSmallest = size_t{1} << 16;    // below this malloc is quick enough
constexpr size_t kCacheLimit = size_t{1} << 30;  // bytes kept at most for reuse
constexpr size_t kHugePage = size_t{1} << 21;    // from here on the system is asked for pages of this size

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCacheBlocks = false;  // let the sanitizer see every allocation
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kCacheBlocks = false;
#else
constexpr bool kCacheBlocks = true;
#endif
#else
constexpr bool kCacheBlocks = true;
#endif

// Four size classes to a power of two: at most a quarter of a block is unused.
struct SizeClass {
  size_t index;
  size_t bytes;
};
SizeClass size_class(size_t bytes) {
  const auto power = static_cast<size_t>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power+1)
  const size_t step = size_t{1} << (power - 2);
  const size_t quarters = (bytes - (size_t{1} << power) + step - 1) / step;
  return {power * 4 + quarters, (size_t{1} << power) + quarters * step};
}

class BlockCache {
 public:
  void* take(SizeClass size) {
    const std::scoped_lock lock(mutex_);
    auto& blocks = blocks_[size.index];
    if (blocks.empty()) {
      return nullptr;
    }
    void* block = blocks.back();
    blocks.pop_back();
    cached_bytes_ -= size.bytes;
    return block;
  }
  bool put(SizeClass size, void* block) noexcept {
    const std::scoped_lock lock(mutex_);
    if (cached_bytes_ + size.bytes > kCacheLimit) {
      return false;
    }
    try {
      blocks_[size.index].push_back(block);
    } catch (const std::bad_alloc&) {
      return false;
    }
    cached_bytes_ += size.bytes;
    return true;
  }

  void clear() noexcept {
    const std::scoped_lock lock(mutex_);
    for (auto& blocks : blocks_) {
      for (void* block : blocks) {
        std::free(block);
      }
      blocks.clear();
    }
    cached_bytes_ = 0;
  }

 private:
  std::mutex mutex_;
  std::array<std::vector<void*>, 64 * 4 + 8> blocks_;
  size_t cached_bytes_ = 0;
};

// Never destroyed: tensors with static storage duration may be freed after every other static object.
BlockCache& cache() {
  static auto* instance = new BlockCache;
  return *instance;
}

}  // namespace

void* allocate_host(size_t bytes) noexcept {
  if (bytes < kSmallest) {
    // Aligning by hand keeps malloc's fast path, which aligned_alloc leaves.
    void* raw = std::malloc(bytes + kAlignment + sizeof(void*));
    if (raw == nullptr) {
      return nullptr;
    }
    const auto address = std::bit_cast<uintptr_t>(raw) + sizeof(void*);
    auto* block = std::bit_cast<void**>((address + kAlignment - 1) / kAlignment * kAlignment);
    block[-1] = raw;
    return block;
  }
  const SizeClass size = size_class(bytes);
  if (kCacheBlocks) {
    if (void* block = cache().take(size)) {
      return block;
    }
  }
  const size_t alignment = size.bytes < kHugePage ? kAlignment : kHugePage;
  const size_t whole_lines = (size.bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* block = nullptr;
  if (posix_memalign(&block, alignment, whole_lines) != 0) {
    return nullptr;
  }
#ifdef MADV_HUGEPAGE
  if (size.bytes >= kHugePage) {
    madvise(block, whole_lines, MADV_HUGEPAGE);  // fewer faults and misses of the TLB; a hint, so its result is ignored
  }
#endif
  return block;
}

void free_host(void* block, size_t bytes) noexcept {
  if (bytes < kSmallest) {
    std::free(static_cast<void**>(block)[-1]);
    return;
  }
  if (!kCacheBlocks || !cache().put(size_class(bytes), block)) {
    std::free(block);
  }
}

void release_cached_host_memory() noexcept {
  cache().clear();
#ifdef __GLIBC__
  malloc_trim(0);  // freed blocks of up to 32 MiB may still be malloc's
#endif
}

}  // namespace deltatape

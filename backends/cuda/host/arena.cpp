#include "backends/cuda/host/arena.h"

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "backends/cuda/host/schedule.h"

namespace deltatape::cuda::host {
namespace {

constexpr size_t kRange = size_t{1} << 36;  // addresses only: pages come when they are written
constexpr size_t kPage = size_t{2} << 20;   // large pages: opening and closing costs a step for each
constexpr size_t kAlignment = 256;

class Arena {
 public:
  Arena() {
    void* range = mmap(nullptr, kRange, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
      std::perror("deltatape: mmap of the host twin's memory");
      std::abort();
    }
    first_ = static_cast<char*>(range);
    first_ += (kPage - reinterpret_cast<uintptr_t>(first_) % kPage) % kPage;
    madvise(first_, kRange - kPage, MADV_HUGEPAGE);
  }

  void* take(size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const size_t whole = rounded(bytes);
    std::vector<void*>& blocks = free_[whole];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      if (const auto kept = kept_.find(block); kept != kept_.end()) {
        kept_bytes_ -= kept->second;
        kept_.erase(kept);
      }
      return block;
    }
    if (used_ + whole > kRange - kPage) {
      return nullptr;
    }
    void* block = first_ + used_;
    used_ += whole;
    if (open_ > 0) {
      protect(PROT_READ | PROT_WRITE);
    }
    return block;
  }

  void put(void* block, size_t bytes) {
    const std::scoped_lock lock(mutex_);
    free_[rounded(bytes)].push_back(block);
  }

  // Whether a freed block may keep its pages.
  bool keep(void* block, size_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (kept_.count(block) > 0) {
      return true;
    }
    if (bytes > kKeptFree - kept_bytes_) {
      return false;
    }
    kept_bytes_ += bytes;
    kept_[block] = bytes;
    return true;
  }

  void open() {
    const std::scoped_lock lock(mutex_);
    if (open_++ == 0) {
      protect(PROT_READ | PROT_WRITE);
    }
  }

  void close() {
    const std::scoped_lock lock(mutex_);
    if (--open_ == 0) {
      protect(PROT_NONE);
    }
  }

 private:
  // Four sizes to a power of two, so that blocks find another use.
  static size_t rounded(size_t bytes) {
    const size_t step = std::max(kAlignment, std::bit_floor(bytes) / 4);
    return (bytes + step - 1) / step * step;
  }

  void protect(int access) {
    const size_t bytes = (used_ + kPage - 1) / kPage * kPage;
    if (bytes > 0 && mprotect(first_, bytes, access) != 0) {
      std::perror("deltatape: mprotect of the host twin's memory");
      std::abort();
    }
  }

  std::mutex mutex_;
  char* first_ = nullptr;
  size_t used_ = 0;
  int open_ = 0;
  std::map<size_t, std::vector<void*>> free_;
  std::map<void*, size_t> kept_;  // large blocks that were freed with their pages
  size_t kept_bytes_ = 0;
};

Arena& arena() {
  static auto* instance = new Arena;  // tensors with static storage duration are freed last
  return *instance;
}

}  // namespace

void* take_block(size_t bytes) { return arena().take(bytes); }
void put_block(void* block, size_t bytes) noexcept { arena().put(block, bytes); }

void give_back_pages(void* block, size_t bytes) noexcept {
  constexpr uintptr_t kSmallPage = 4096;
  if (bytes >= 64 * kSmallPage && !arena().keep(block, bytes)) {
    const uintptr_t first = (reinterpret_cast<uintptr_t>(block) + kSmallPage - 1) / kSmallPage * kSmallPage;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(block) + bytes) / kSmallPage * kSmallPage;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): a page's address
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
}

OpenArena::OpenArena() { arena().open(); }
OpenArena::~OpenArena() { arena().close(); }

}  // namespace deltatape::cuda::host

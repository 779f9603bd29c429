#include "core/storage.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "core/device_memory.h"
#include "core/error.h"
#include "core/host_memory.h"

namespace deltatape {
namespace {

constexpr size_t kHeader = 64;  // a Storage stands before its data, in one block
constexpr size_t kGuard = 64;
constexpr unsigned char kGuardByte = 0xC5;
constexpr unsigned char kFreshByte = 0xFF;  // NaN in every floating-point type
static_assert(sizeof(Storage) <= kHeader);

size_t guard_bytes() { return memory_checks_enabled() ? kGuard : 0; }
size_t block_bytes(size_t bytes) { return kHeader + bytes + 2 * guard_bytes(); }

bool all_guard_bytes(const unsigned char* bytes) {
  return std::all_of(bytes, bytes + kGuard, [](unsigned char byte) { return byte == kGuardByte; });
}

struct Counters {
  std::atomic<int64_t> live{0};
  std::atomic<int64_t> peak{0};
  std::atomic<int64_t> allocations{0};
};

// Statistics only: nothing the library computes depends on them.
Counters& counters(DeviceType type) {
  static Counters cpu;
  static Counters cuda;
  return type == DeviceType::cpu ? cpu : cuda;
}

void count_allocation(DeviceType type, size_t bytes) {
  Counters& count = counters(type);
  const int64_t live =
      count.live.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed) + static_cast<int64_t>(bytes);
  count.allocations.fetch_add(1, std::memory_order_relaxed);
  int64_t peak = count.peak.load(std::memory_order_relaxed);
  while (live > peak && !count.peak.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

}  // namespace

bool memory_checks_enabled() {
  static const bool enabled = [] {
    const char* value = std::getenv("DELTATAPE_CHECK_MEMORY");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return enabled;
}

Ref<Storage> Storage::allocate(size_t bytes, Device device) {
  if (!device.is_cpu()) {
    void* data = allocate_on_device(bytes, device);
    void* header = allocate_host(kHeader);
    if (header == nullptr) {
      free_on_device(data, bytes, device);
      fail("Storage::allocate", "out of memory");
    }
    count_allocation(device.type(), bytes);
    return Ref<Storage>::adopt(new (header) Storage(data, bytes, device));
  }
  void* block = allocate_host(block_bytes(bytes));
  check(block != nullptr, "Storage::allocate", "out of memory: {} bytes were asked for, {} are in use", bytes,
        memory_stats(device.type()).live_bytes);
  auto* data = static_cast<unsigned char*>(block) + kHeader + guard_bytes();
  if (memory_checks_enabled()) {
    std::memset(data - kGuard, kGuardByte, kGuard);
    std::memset(data, kFreshByte, bytes);
    std::memset(data + bytes, kGuardByte, kGuard);
  }
  count_allocation(device.type(), bytes);
  return Ref<Storage>::adopt(new (block) Storage(data, bytes, device));
}

Ref<Storage> Storage::wrap(void* data, size_t bytes, Device device, std::function<void()> release) {
  auto keeper = std::make_unique<std::function<void()>>(std::move(release));
  void* block = allocate_host(kHeader);
  check(block != nullptr, "Storage::wrap", "out of memory");
  auto storage = Ref<Storage>::adopt(new (block) Storage(data, bytes, device));
  storage->foreign_release_ = std::move(keeper);
  return storage;
}

bool Storage::guards_intact() const {
  if (!memory_checks_enabled() || foreign_release_ != nullptr || !device_.is_cpu()) {
    return true;
  }
  const auto* data = static_cast<const unsigned char*>(data_);
  return all_guard_bytes(data - kGuard) && all_guard_bytes(data + bytes_);
}

void destroy(Storage* storage) noexcept {
  const size_t bytes = storage->bytes_;
  const Device device = storage->device_;
  if (storage->foreign_release_ != nullptr) {
    if (*storage->foreign_release_) {
      (*storage->foreign_release_)();
    }
    storage->~Storage();
    free_host(storage, kHeader);
    return;
  }
  counters(device.type()).live.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  if (!device.is_cpu()) {
    free_on_device(storage->data_, bytes, device);
    storage->~Storage();
    free_host(storage, kHeader);
    return;
  }
  if (!storage->guards_intact()) {
    std::fprintf(stderr, "deltatape: memory outside a tensor's storage of %zu bytes was written to\n", bytes);
    std::abort();
  }
  storage->~Storage();
  free_host(storage, block_bytes(bytes));
}

MemoryStats memory_stats(DeviceType type) {
  const Counters& count = counters(type);
  return {count.live.load(), count.peak.load(), count.allocations.load()};
}

void reset_peak_memory(DeviceType type) { counters(type).peak.store(counters(type).live.load()); }

}  // namespace deltatape

#include "harness/plugin/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace deltatape::harness::plugin {

Descriptor SharedMemory::create(size_t bytes) {
  Descriptor file(::memfd_create("deltatape plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  check(file.get() >= 0, "plugin", "no shared memory: {}", std::strerror(errno));
  grow(file, bytes);
  const int sealed = ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
  check(sealed == 0, "plugin", "shared memory cannot be sealed: {}", std::strerror(errno));
  return file;
}

void SharedMemory::grow(const Descriptor& file, size_t bytes) {
  // Allocated now: a page that is missing later would end the process that touches it.
  const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
  check(error == 0, "plugin", "no {} bytes of shared memory: {}", bytes, std::strerror(error));
}

bool SharedMemory::map(int descriptor, size_t bytes) {
  unmap();
  const size_t whole = 2 * kFenceBytes + whole_pages(bytes);
  void* reserved = ::mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return false;
  }
  data_ = static_cast<char*>(reserved) + kFenceBytes;
  bytes_ = bytes;
  if (::mmap(data_, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
    unmap();
    return false;
  }
  return true;
}

bool SharedMemory::fence_behind(size_t bytes) {
  const size_t open = std::min(whole_pages(bytes), whole_pages(bytes_));
  return ::mprotect(data_, open, PROT_READ | PROT_WRITE) == 0 &&
         ::mprotect(data_ + open, whole_pages(bytes_) - open, PROT_NONE) == 0;
}

size_t SharedMemory::whole_pages(size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

void SharedMemory::unmap() {
  if (data_ != nullptr) {
    ::munmap(data_ - kFenceBytes, 2 * kFenceBytes + whole_pages(bytes_));
    data_ = nullptr;
    bytes_ = 0;
  }
}

}  // namespace deltatape::harness::plugin

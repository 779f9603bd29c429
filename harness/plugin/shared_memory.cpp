#include "harness/plugin/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

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
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    return false;
  }
  data_ = static_cast<char*>(data);
  bytes_ = bytes;
  return true;
}

void SharedMemory::unmap() {
  if (data_ != nullptr) {
    ::munmap(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
  }
}

}  // namespace deltatape::harness::plugin

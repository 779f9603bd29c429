// Stands in for the CUDA backend in a build without it. Nobody gets a Device on which to call more than the first two.
#include "backends/backend.h"
#include "core/device.h"
#include "core/device_memory.h"
#include "core/error.h"

namespace deltatape {

std::string cuda_unavailable_reason() { return "this build has no CUDA backend"; }

int cuda_device_count() { return 0; }

void synchronize(Device /*device*/) {}

bool is_recording(Device /*device*/) { return false; }

void* allocate_on_device(size_t /*bytes*/, Device device) {
  fail("Storage::allocate", "device is {}: {}", device, cuda_unavailable_reason());
}

void free_on_device(void* /*data*/, size_t /*bytes*/, Device /*device*/) noexcept {}

void copy_to_host(void* /*to*/, const void* /*from*/, size_t /*bytes*/, Device device) {
  fail("copy_to_host", "device is {}: {}", device, cuda_unavailable_reason());
}

const Backend& cuda_backend() { fail("backend_of", "device is cuda: {}", cuda_unavailable_reason()); }

}  // namespace deltatape

// Stands in for the CUDA backend in a build without it. Nobody gets a Device on which to call most of this.
#include "backends/backend.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/graph.h"
#include "backends/cuda/runtime/memory.h"
#include "core/device.h"
#include "core/device_memory.h"
#include "core/error.h"

namespace deltatape {

namespace {

constexpr const char* kReason = "this build has no CUDA backend";

}  // namespace

std::string cuda_unavailable_reason() { return kReason; }

int cuda_device_count() { return 0; }

void synchronize(Device /*device*/) {}

bool is_recording(Device /*device*/) { return false; }

void* allocate_on_device(size_t /*bytes*/, Device device) {
  fail("Storage::allocate", "device is {}: {}", device, kReason);
}

void free_on_device(void* /*data*/, size_t /*bytes*/, Device /*device*/) noexcept {}

void copy_to_host(void* /*to*/, const void* /*from*/, size_t /*bytes*/, Device device) {
  fail("copy_to_host", "device is {}: {}", device, kReason);
}

const Backend& cuda_backend() { fail("backend_of", "device is cuda: {}", kReason); }

namespace cuda {

const DeviceProperties& device_properties(Device device) {
  fail("device_properties", "device is {}: {}", device, kReason);
}

DeviceMemory device_memory(Device /*device*/) { return {}; }

std::string driver_version() { return ""; }
std::string runtime_version() { return ""; }
std::string compiled_architectures() { return ""; }

Graph Graph::record(Device device, const std::function<void()>& /*work*/) {
  fail("Graph::record", "device is {}: {}", device, kReason);
}

void Graph::replay() const {}

}  // namespace cuda
}  // namespace deltatape

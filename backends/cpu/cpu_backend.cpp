#include "backends/cpu/cpu_backend.h"

#include "core/error.h"

namespace deltatape {

const Backend& backend_of(Device device) {
  static const cpu::CpuBackend cpu_backend;
  check(device.is_cpu(), "backend_of", "device is {}: {}", device, cuda_unavailable_reason());
  return cpu_backend;
}

}  // namespace deltatape

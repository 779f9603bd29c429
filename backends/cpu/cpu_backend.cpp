#include "backends/cpu/cpu_backend.h"

namespace deltatape {

const Backend& backend_of(Device device) {
  static const cpu::CpuBackend cpu_backend;
  return device.is_cpu() ? cpu_backend : cuda_backend();
}

}  // namespace deltatape

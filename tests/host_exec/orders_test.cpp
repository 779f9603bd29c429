// Kernels on the host twin give the same bits in whatever order blocks, elements and the indices of collectives run,
// and whether streams work at once or later: no block or thread depends on another's.
#include <doctest/doctest.h>

#include <cstring>

#include "backends/cuda/host/schedule.h"
#include "tests/gpu/kernel_cases.h"
#include "tests/gpu/moved.h"

namespace deltatape::test {
namespace {

TEST_CASE("kernels: the same bits in every order") {
  using cuda::host::Schedule;
  using cuda::host::ScheduleGuard;
  const Device device = Device::cuda();
  for (const KernelCase& kernel : kernel_cases()) {
    CAPTURE(kernel.name);
    const DType dtype = kernel.dtypes.back();
    const Tensors inputs = moved(kernel.inputs(dtype), device);
    const Tensors expected = moved(kernel.call(backend_of(device), inputs), Device::cpu());
    for (const Schedule schedule :
         {Schedule{Schedule::Blocks::backward, 1, false}, Schedule{Schedule::Blocks::shuffled, 3, true}}) {
      const ScheduleGuard guard(schedule);
      const Tensors got = moved(kernel.call(backend_of(device), inputs), Device::cpu());
      for (size_t i = 0; i < expected.size(); ++i) {
        const size_t bytes = static_cast<size_t>(expected[i].numel()) * size_of(expected[i].dtype());
        const bool same = bytes == 0 || std::memcmp(expected[i].raw(), got[i].raw(), bytes) == 0;
        CHECK_MESSAGE(same, "result " << i << (schedule.deferred ? " shuffled, later" : " backward"));
      }
    }
  }
}

}  // namespace
}  // namespace deltatape::test

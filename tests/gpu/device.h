// For test cases that need a CUDA device: their names end in [gpu]. In host_exec_tests they run on the host twin.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "core/device.h"

namespace deltatape::test {

/// Whether there is a device. Where there is none the test's output says why, and ctest counts it as skipped.
inline bool have_device() {
  const std::string reason = cuda_unavailable_reason();
  if (!reason.empty()) {
    MESSAGE("skipped: " << reason);
  }
  return reason.empty();
}

}  // namespace deltatape::test

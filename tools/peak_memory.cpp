#include "tools/peak_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "core/host_memory.h"

namespace deltatape::tools {
namespace {

/// A line such as `VmHWM:  1234 kB` of the process's own status, in bytes; 0 when there is none.
int64_t status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == name) {
      int64_t kibibytes = 0;
      status >> kibibytes;
      return kibibytes * 1024;
    }
  }
  return 0;
}

}  // namespace

PeakMemory::PeakMemory() {
  release_cached_host_memory();
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark falls to what is in use now
  at_start_ = status_bytes("VmRSS:");
}

int64_t PeakMemory::bytes() const { return std::max<int64_t>(0, status_bytes("VmHWM:") - at_start_); }

}  // namespace deltatape::tools

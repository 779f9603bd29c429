// A stand-in for the CUDA run-time library: "device" memory is ordinary memory, whose addresses it knows, so that
// copies in the wrong direction or of foreign memory fail. FAKE_CUDA=no_device and FAKE_CUDA=broken_kernel fail as a
// driver does.
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

namespace {

constexpr int kInvalidValue = 1;
constexpr int kNoDevice = 100;
constexpr int kIllegalAddress = 700;

std::map<char*, size_t>& blocks() {
  static std::map<char*, size_t> all;
  return all;
}

bool fails_with(std::string_view word) {
  const char* value = std::getenv("FAKE_CUDA");
  return value != nullptr && value == word;
}

}  // namespace

extern "C" {

/// Whether a block on the device has all of this.
bool fake_cuda_has(const void* pointer, size_t bytes) {
  const auto* at = static_cast<const char*>(pointer);
  for (const auto& [start, size] : blocks()) {
    if (at >= start && at + bytes <= start + size) {
      return true;
    }
  }
  return false;
}

int cudaMalloc(void** pointer, size_t bytes) {
  if (fails_with("no_device")) {
    return kNoDevice;
  }
  auto* block = static_cast<char*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  blocks()[block] = bytes;
  *pointer = block;
  return 0;
}

int cudaFree(void* pointer) {
  if (blocks().erase(static_cast<char*>(pointer)) == 0) {
    return kInvalidValue;
  }
  std::free(pointer);
  return 0;
}

int cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  const bool right = kind == 1 ? fake_cuda_has(to, bytes) && !fake_cuda_has(from, 1)
                               : kind == 2 && fake_cuda_has(from, bytes) && !fake_cuda_has(to, 1);
  if (!right) {
    return kInvalidValue;
  }
  std::memcpy(to, from, bytes);
  return 0;
}

int cudaDeviceSynchronize() { return fails_with("broken_kernel") ? kIllegalAddress : 0; }

const char* cudaGetErrorString(int error) {
  return error == kNoDevice         ? "no CUDA-capable device is detected"
         : error == kIllegalAddress ? "an illegal memory access was encountered"
                                    : "invalid argument";
}

}  // extern "C"

#include "core/device.h"

#include <charconv>

#include "core/error.h"

namespace deltatape {

Device Device::cuda(int index) {
  const std::string reason = cuda_unavailable_reason();
  check(reason.empty(), "Device::cuda", "no CUDA device: {}", reason);
  check(index >= 0 && index < cuda_device_count(), "Device::cuda",
        "index is {}, expected one of the {} devices there are", index, cuda_device_count());
  Device device;
  device.type_ = DeviceType::cuda;
  device.index_ = index;
  return device;
}

Device Device::parse(std::string_view function, std::string_view name) {
  if (name == "cpu") {
    return Device::cpu();
  }
  if (name == "cuda") {
    return Device::cuda();
  }
  if (name.starts_with("cuda:")) {
    const std::string_view digits = name.substr(5);
    int index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc() && end == digits.data() + digits.size() && index >= 0) {
      return Device::cuda(index);
    }
  }
  fail(function, "device is '{}', expected cpu, cuda or cuda:N", name);
}

std::string to_string(Device device) { return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index()); }

std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

}  // namespace deltatape

// Where a tensor's memory is.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace deltatape {

enum class DeviceType : uint8_t { cpu, cuda };

/// A device: the host, or one CUDA GPU by index.
class Device {
 public:
  Device() = default;
  static Device cpu() { return {}; }
  /// The GPU with this index. Throws Error that says why there is none (no CUDA in the build, no driver, no device), or
  /// how many there are when `index` is too large.
  static Device cuda(int index = 0);
  /// `cpu`, `cuda` or `cuda:1`. Throws Error naming `function`.
  static Device parse(std::string_view function, std::string_view name);

  [[nodiscard]] DeviceType type() const { return type_; }
  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] bool is_cpu() const { return type_ == DeviceType::cpu; }
  friend bool operator==(Device a, Device b) { return a.type_ == b.type_ && a.index_ == b.index_; }

 private:
  DeviceType type_ = DeviceType::cpu;
  int index_ = 0;
};

/// `cpu` or `cuda:0`.
std::string to_string(Device device);
std::ostream& operator<<(std::ostream& out, Device device);

/// One sentence on why CUDA cannot be used here; empty when it can.
std::string cuda_unavailable_reason();
/// How many GPUs there are; 0 where CUDA cannot be used.
int cuda_device_count();
/// Waits until all work on the device is done; on the host it always is. Throws Error when a kernel failed.
void synchronize(Device device);

}  // namespace deltatape

template <>
struct fmt::formatter<deltatape::Device> {
  static constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(deltatape::Device device, Context& context) const {
    const auto text = deltatape::to_string(device);
    return std::copy(text.begin(), text.end(), context.out());
  }
};

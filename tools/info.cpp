// deltatape info: what this build and this machine have.
#include <fmt/format.h>
#include <omp.h>

#include <memory>
#include <thread>

#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/memory.h"
#include "core/device.h"
#include "core/instruction_set.h"
#include "core/version.h"
#include "tools/command.h"
#include "tools/table.h"

// Declared here: OpenBLAS' own header clashes with the one that xtensor-blas ships.
extern "C" char* openblas_get_config();

namespace deltatape::tools {
namespace {

const char* compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

// How it came that the library is for this instruction set.
const char* chosen() {
#ifdef DELTATAPE_PORTABLE
  return "at load time";
#else
  return "at compile time";
#endif
}

// What the kernels are compiled for, and the GPUs. Nothing in a build without CUDA.
void add_cuda(nlohmann::ordered_json& info) {
  if (cuda::compiled_architectures().empty()) {
    return;
  }
  info["cuda_runtime"] = cuda::runtime_version();
  info["cuda_kernels"] = "sm " + cuda::compiled_architectures();
  if (cuda_device_count() > 0) {
    info["cuda_driver"] = cuda::driver_version();
  }
  for (int i = 0; i < cuda_device_count(); ++i) {
    const Device device = Device::cuda(i);
    const cuda::DeviceProperties& gpu = cuda::device_properties(device);
    constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
    info[to_string(device)] =
        fmt::format("{}, sm {}{}, {} multiprocessors, {:.1f} GiB ({:.1f} free)", gpu.name, gpu.major, gpu.minor,
                    gpu.multiprocessors, static_cast<double>(gpu.total_memory) / kGiB,
                    static_cast<double>(cuda::device_memory(device).free) / kGiB);
  }
}

int run_info(const std::string& json) {
  if (!json.empty()) {
    check_writable("--json", json);
  }
  const std::string no_cuda = cuda_unavailable_reason();
  auto devices = nlohmann::ordered_json::array({"cpu"});
  for (int i = 0; i < cuda_device_count(); ++i) {
    devices.push_back(to_string(Device::cuda(i)));
  }
  nlohmann::ordered_json info = {{"version", version()},
                                 {"compiler", compiler()},
                                 {"blas", openblas_get_config()},
                                 {"instruction_set", instruction_set()},
                                 {"chosen", chosen()},
                                 {"vector_bits", vector_bits()},
                                 {"threads", omp_get_max_threads()},
                                 {"processors", std::thread::hardware_concurrency()},
                                 {"cuda", no_cuda.empty() ? "yes" : "no: " + no_cuda},
                                 {"devices", devices}};
  add_cuda(info);
  for (const auto& [key, value] : info.items()) {
    fmt::print("{:<15} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  if (!json.empty()) {
    write_json(json, info);
  }
  return kFine;
}

}  // namespace

void add_info(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("info", "What this build and this machine have");
  auto json = std::make_shared<std::string>();
  app.add_option("--json", *json, "Write the same as JSON")->type_name("FILE");
  app.footer("Example:\n  deltatape info --json info.json");
  app.callback([&action, json] { action = [json] { return run_info(*json); }; });
}

}  // namespace deltatape::tools

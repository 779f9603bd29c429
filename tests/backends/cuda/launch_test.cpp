// Launches that no GPU takes are refused, and which GPUs the kernels run on.
#include "backends/cuda/launch.h"

#include <doctest/doctest.h>

#include "backends/cuda/architectures.h"
#include "tests/support/errors.h"

namespace deltatape::cuda {
namespace {

TEST_CASE("launch: more blocks than a launch may have are refused") {
  const Stream stream = current_stream(Device::cuda());
  const auto nothing = [](const auto& /*which*/) {};
  const Place where{"a/b.cu", 3};
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  const auto refused = [](const std::string& function, const std::string& grid) {
    return function + ": b.cu:3: the grid is " + grid + ", more than a launch may have";
  };
  CHECK_ERROR(launch_elements(stream, kMost * 256 + 1, nothing, where),
              refused("launch_elements", "2147483648 x 1 x 1"));
  CHECK_ERROR(launch_blocks(stream, {kMost + 1}, 32, 0, nothing, where),
              refused("launch_blocks", "2147483648 x 1 x 1"));
  CHECK_ERROR(launch_blocks(stream, {1, 65536}, 32, 0, nothing, where), refused("launch_blocks", "1 x 65536 x 1"));
  CHECK_ERROR(launch_blocks(stream, {1, 1, 65536}, 32, 0, nothing, where), refused("launch_blocks", "1 x 1 x 65536"));
  CHECK_NOTHROW(launch_blocks(stream, {1, 65535, 1}, 32, 0, nothing, where));
}

TEST_CASE("architectures: a GPU is one that the kernels were compiled for, or a later one of its kind") {
  CHECK(runs_on("80", 8, 0));
  CHECK(runs_on("80", 8, 9));
  CHECK_FALSE(runs_on("86", 8, 0));
  CHECK_FALSE(runs_on("80", 9, 0));
  CHECK_FALSE(runs_on("80", 7, 5));
  CHECK(runs_on("80 90a 100a", 9, 0));
  CHECK(runs_on("80 90a 100a", 10, 0));
  CHECK_FALSE(runs_on("80 90a 100a", 10, 3));
  CHECK_FALSE(runs_on("80 90a 100a", 12, 0));
  CHECK(runs_on("100f", 10, 3));
  CHECK_FALSE(runs_on("", 9, 0));
}

TEST_CASE("architectures: one is among others or is not") {
  CHECK(names_architecture("80 90a 100a", "90a"));
  CHECK(names_architecture("90a", "90a"));
  CHECK_FALSE(names_architecture("80 90", "90a"));
  CHECK_FALSE(names_architecture("90a", "90"));
  CHECK_FALSE(names_architecture("", "90a"));
}

}  // namespace
}  // namespace deltatape::cuda

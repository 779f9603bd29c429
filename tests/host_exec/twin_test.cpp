// The host twin itself: what it is there to find, it finds.
#include <doctest/doctest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): SIGSEGV's default is POSIX
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/host/schedule.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/runtime/blas.h"
#include "backends/cuda/runtime/memory.h"
#include "core/storage.h"
#include "ops/ops.h"
#include "tests/support/errors.h"

namespace deltatape::test {
namespace {

using cuda::current_stream;
using cuda::launch_elements;
using cuda::host::MemoryLimit;
using cuda::host::Schedule;
using cuda::host::ScheduleGuard;

const TensorOptions kThere{DType::f32, Device::cuda()};

// Whether `work` ends a process that does it.
template <class Work>
bool is_fatal(const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGABRT}) {
      signal(number, SIG_DFL);  // without the test program's reports
    }
    close(STDERR_FILENO);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

struct Write {
  float* out;
  int64_t shift;
  void operator()(int64_t i) const { out[i + shift] = static_cast<float>(i); }
};

// Notes the order in which elements come.
struct Note {
  std::vector<int64_t>* order;
  void operator()(int64_t i) const { order->push_back(i); }
};

TEST_SUITE("twin") {
  TEST_CASE("host code that follows a device pointer faults; a launch may") {
    const Tensor x = ones({16}, kThere);
    CHECK(is_fatal([&] { [[maybe_unused]] volatile float seen = static_cast<const float*>(x.raw())[0]; }));
    CHECK(is_fatal([&] { static_cast<volatile float*>(x.mutable_raw())[0] = 1.0F; }));
    CHECK_FALSE(is_fatal([&] { std::ignore = sum(x).item(); }));
  }

  TEST_CASE("fresh memory is NaN, and writing beside it is fatal") {
    const Tensor x = empty({16}, kThere);
    for (const double value : x.to_vector<double>()) {
      CHECK(std::isnan(value));
    }
    for (const int64_t shift : {int64_t{-1}, int64_t{1}}) {
      CHECK(is_fatal([&] {
        const Tensor y = empty({16}, kThere);
        launch_elements(current_stream(Device::cuda()), 16, Write{static_cast<float*>(y.mutable_raw()), shift});
      }));
    }
  }

  TEST_CASE("memory that was freed is NaN") {
    for (const int64_t count : {1 << 12, 1 << 21}) {
      CAPTURE(count);
      const void* place = nullptr;
      {
        const Tensor x = ones({count}, kThere);
        place = x.raw();
      }
      std::vector<float> found(static_cast<size_t>(count));
      cuda::copy_bytes(found.data(), Device::cpu(), place, Device::cuda(), found.size() * sizeof(float),
                       current_stream(Device::cuda()));
      CHECK(std::all_of(found.begin(), found.end(), [](float value) { return std::isnan(value); }));
    }
  }

  TEST_CASE("out of memory says how much was asked for, used and free") {
    const Tensor x = empty({256}, kThere);
    const int64_t used = memory_stats(DeviceType::cuda).live_bytes;
    const MemoryLimit limit(static_cast<size_t>(used) + 1000);
    CHECK_ERROR(empty({251}, kThere),
                fmt::format("Storage::allocate: out of memory on cuda:0: 1004 bytes were asked for, {} are in use by "
                            "tensors, 1000 of {} are free",
                            used, used + 1000));
    CHECK(empty({250}, kThere).numel() == 250);
  }

  TEST_CASE("elements in three orders, at once or when the stream is waited for") {
    const cuda::Stream stream = current_stream(Device::cuda());
    std::vector<int64_t> order;
    launch_elements(stream, 5, Note{&order});
    CHECK(order == std::vector<int64_t>{0, 1, 2, 3, 4});
    order.clear();
    {
      const ScheduleGuard guard({Schedule::Blocks::backward, 1, true});
      launch_elements(stream, 5, Note{&order});
      CHECK(order.empty());
      cuda::synchronize(stream);
      CHECK(order == std::vector<int64_t>{4, 3, 2, 1, 0});
    }
    order.clear();
    const ScheduleGuard guard({Schedule::Blocks::shuffled, 11, false});
    launch_elements(stream, 1000, Note{&order});
    CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    CHECK((order.size() == 1000 && order.front() == 0 && order.back() == 999));
    CHECK(std::unique(order.begin(), order.end()) == order.end());
  }

  TEST_CASE("products that cuBLAS would refuse") {
    const Tensor a = ones({4, 4}, kThere);
    const Tensor c = empty({4, 4}, kThere);
    const cuda::BlasMatrix good{a.raw(), 4, 0, false};
    const cuda::BlasMatrix short_columns{a.raw(), 3, 0, false};
    const auto product = [&](const cuda::BlasMatrix& left, int64_t ldc) {
      cuda::multiply({DType::f32, 4, 4, 4, 1, left, good, c.mutable_raw(), ldc, 0}, current_stream(Device::cuda()));
    };
    const std::string refused =
        "cublasGemmStridedBatchedEx: an unsupported value or parameter was passed to the function";
    CHECK_ERROR(product(short_columns, 4), refused);
    CHECK_ERROR(product(good, 3), refused);
    product(good, 4);
    CHECK(sum(c).item() == 64.0);
  }
}

}  // namespace
}  // namespace deltatape::test

// When the host waits for copies: seen on the twin, whose streams can be made to work only when they are waited for.
#include "backends/cuda/staging.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/launch.h"
#include "ops/ops.h"

namespace deltatape::test {
namespace {

using cuda::host::Schedule;
using cuda::host::ScheduleGuard;

constexpr auto kPiece = static_cast<int64_t>(cuda::kStagingPiece);

struct Count {
  int* done;
  void operator()(int64_t /*i*/) const { ++*done; }
};

TEST_SUITE("twin") {
  TEST_CASE("an event is waited for no further than to its mark") {
    int before = 0;
    int behind = 0;
    const ScheduleGuard guard({Schedule::Blocks::forward, 1, true});
    const cuda::Stream stream = cuda::current_stream(Device::cuda());
    cuda::Event event(Device::cuda());
    event.synchronize();  // no mark yet
    cuda::launch_elements(stream, 1, Count{&before});
    event.record(stream);
    cuda::launch_elements(stream, 1, Count{&behind});
    CHECK(before == 0);
    event.synchronize();
    CHECK(before == 1);
    CHECK(behind == 0);
    cuda::synchronize(stream);
    CHECK(behind == 1);
  }

  TEST_CASE("to(device): the host does not wait for the device's work while the staging memory lasts") {
    for (const int64_t bytes : {kPiece, int64_t{100} << 10}) {  // a small copy takes a whole piece too
      std::vector<int> steps(20, 0);                            // outlives the guard, whose end does what is waiting
      const ScheduleGuard guard({Schedule::Blocks::forward, 1, true});
      const cuda::Stream stream = cuda::current_stream(Device::cuda());
      const Tensor batch = full({bytes}, 1.0, {DType::boolean});
      for (size_t step = 0; step < steps.size(); ++step) {
        const Tensor there = to(batch, Device::cuda());
        cuda::launch_elements(stream, 1, Count{&steps[step]});
        // A step is waited for when the memory of its copy is needed again, and no other is.
        for (size_t other = 0; other <= step; ++other) {
          CAPTURE(bytes);
          CAPTURE(step);
          CAPTURE(other);
          CHECK(steps[other] == (other + cuda::kStagingPieces < step ? 1 : 0));
        }
      }
    }
  }

  TEST_CASE("to(device): copies that come late bring what was there when they were asked for") {
    const ScheduleGuard guard({Schedule::Blocks::shuffled, 3, true});
    Tensor batch = zeros({kPiece / 4 + 10});  // two pieces
    std::vector<Tensor> there;
    for (int step = 0; step < 15; ++step) {
      fill_(batch, step);
      there.push_back(to(batch, Device::cuda()));
    }
    for (int step = 0; step < 15; ++step) {
      CAPTURE(step);
      const Tensor& seen = there[static_cast<size_t>(step)];
      CHECK(max(seen).item() == step);
      CHECK(min(seen).item() == step);
    }
  }

  TEST_CASE("to(cpu): the copy is complete though streams work late, and what came before is seen") {
    const ScheduleGuard guard({Schedule::Blocks::backward, 1, true});
    for (const int64_t count : {kPiece - 3, 9 * kPiece + 11}) {
      Tensor x = zeros({count}, {DType::boolean, Device::cuda()});
      fill_(x, 1.0);
      const Tensor here = to(x, Device::cpu());
      fill_(x, 0.0);
      CHECK(std::count(here.data<bool>(), here.data<bool>() + count, true) == count);
    }
  }
}

}  // namespace
}  // namespace deltatape::test

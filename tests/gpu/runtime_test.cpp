// Devices, memory, streams and recorded graphs.
#include <doctest/doctest.h>

#include <sstream>

#include "backends/backend.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/graph.h"
#include "backends/cuda/runtime/memory.h"
#include "backends/cuda/runtime/stream.h"
#include "core/device_memory.h"
#include "core/storage.h"
#include "ops/ops.h"
#include "tests/gpu/device.h"
#include "tests/support/errors.h"

namespace deltatape::test {
namespace {

using cuda::Graph;
using cuda::Stream;
using cuda::StreamGuard;

std::vector<double> numbers(const Tensor& x) { return x.to_vector<double>(); }

TEST_SUITE("cuda") {
  TEST_CASE("device: the index must be one there is [gpu]") {
    if (!have_device()) {
      return;
    }
    const int count = cuda_device_count();
    CHECK(Device::cuda(count - 1).index() == count - 1);
    CHECK_ERROR(Device::cuda(count),
                fmt::format("Device::cuda: index is {}, expected one of the {} devices there are", count, count));
    CHECK_FALSE(cuda::device_properties(Device::cuda()).name.empty());
    CHECK(cuda::device_properties(Device::cuda()).multiprocessors > 0);
  }

  TEST_CASE("tensor: reading, printing and copying from a device [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor x = arange(0.0, 6.0, 1.0, {DType::f32, Device::cuda()});
    const Tensor matrix = reshape(x, {2, 3});
    CHECK(numbers(transpose(matrix, 0, 1)) == std::vector<double>{0, 3, 1, 4, 2, 5});
    CHECK(matrix[1][2].item() == 5.0);
    CHECK_ERROR(std::ignore = x.data<float>(), "Tensor::data: the tensor is on cuda:0, expected cpu");
    std::ostringstream text;
    text << slice(matrix, 1, Slice{1, 3});
    CHECK(text.str() == "[[1., 2.],\n [4., 5.]]\nf32[2, 2] cuda:0");
    CHECK(describe(x) == "f32[6] cuda:0");
    CHECK(numbers(empty({0, 3}, DType::f64, Device::cuda())).empty());
  }

  TEST_CASE("to(device) has a gradient [gpu]") {
    if (!have_device()) {
      return;
    }
    Tensor x = from_vector<float>({1, 2, 3}, {3}).set_requires_grad();
    const Tensor there = to(x, Device::cuda());
    sum(mul(there, there)).backward();
    CHECK(x.grad().device().is_cpu());
    CHECK(numbers(x.grad()) == std::vector<double>{2, 4, 6});
    Tensor y = to(x.detach(), Device::cuda()).set_requires_grad();
    sum(mul(to(y, Device::cpu()), 3.0)).backward();
    CHECK(y.grad().device() == Device::cuda());
    CHECK(numbers(y.grad()) == std::vector<double>{3, 3, 3});
  }

  TEST_CASE("memory: statistics, and an error that says how much there is [gpu]") {
    if (!have_device()) {
      return;
    }
    const int64_t before = memory_stats(DeviceType::cuda).live_bytes;
    {
      const Tensor x = empty({1000}, DType::f64, Device::cuda());
      CHECK(memory_stats(DeviceType::cuda).live_bytes == before + 8000);
      CHECK(cuda::device_memory(Device::cuda()).used >= 8000);
    }
    CHECK(memory_stats(DeviceType::cuda).live_bytes == before);
    const size_t total = cuda::device_memory(Device::cuda()).total;
    const auto too_many = static_cast<int64_t>(2 * total);
    const std::string message = error_of([&] { empty({too_many}, DType::boolean, Device::cuda()); });
    CAPTURE(message);
    CHECK(message.find(
              fmt::format("Storage::allocate: out of memory on cuda:0: {} bytes were asked for, ", too_many)) == 0);
    CHECK(message.find("are in use by tensors") != std::string::npos);
    CHECK(message.find(fmt::format("of {} are free", total)) != std::string::npos);
    // The device goes on working.
    CHECK(sum(ones({10}, {DType::f32, Device::cuda()})).item() == 10.0);
  }

  TEST_CASE("streams: work on another stream joins at both ends [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor x = ones({1 << 16}, {DType::f32, Device::cuda()});
    Tensor y;
    {
      const Stream side = Stream::create(Device::cuda());
      const StreamGuard guard(side);
      CHECK(cuda::current_stream(Device::cuda()) == side);
      y = mul(add(x, 1.0), 3.0);
    }
    CHECK(sum(y).item() == 6.0 * (1 << 16));
    cuda::Event start(Device::cuda());
    cuda::Event end(Device::cuda());
    start.record(cuda::current_stream(Device::cuda()));
    end.record(cuda::current_stream(Device::cuda()));
    end.synchronize();
    CHECK(end.milliseconds_since(start) >= 0.0);
    synchronize(Device::cuda());
  }

  TEST_CASE("pinned memory: copies in both directions [gpu]") {
    if (!have_device()) {
      return;
    }
    const cuda::PinnedMemory from(400);
    const cuda::PinnedMemory to(400);
    auto* first = static_cast<float*>(from.data());
    for (int i = 0; i < 100; ++i) {
      first[i] = static_cast<float>(i);
    }
    const Tensor x = empty({100}, DType::f32, Device::cuda());
    const Stream stream = cuda::current_stream(Device::cuda());
    cuda::copy_bytes(x.mutable_raw(), Device::cuda(), from.data(), Device::cpu(), 400, stream);
    cuda::copy_bytes(to.data(), Device::cpu(), x.raw(), Device::cuda(), 400, stream);
    cuda::synchronize(stream);
    CHECK(static_cast<const float*>(to.data())[99] == 99.0F);
  }

  TEST_CASE("graph: replays read what is there now and write to the same place [gpu]") {
    if (!have_device()) {
      return;
    }
    const auto weight = [] { return full({4, 4}, 0.5, {DType::f32, Device::cuda()}); };
    Tensor x = ones({4, 4}, {DType::f32, Device::cuda()});
    const Tensor w = weight();
    const auto work = [&] { return sum(mul(matmul(x, w), add(x, from_vector<float>({1.0F}, {1}).item()))); };
    const double expected = work().item();
    Tensor result;
    const Graph graph = Graph::record(Device::cuda(), [&] { result = work(); });
    graph.replay();
    CHECK(result.item() == expected);
    fill_(x, 2.0);
    const double doubled = work().item();
    CHECK(doubled != expected);
    const Tensor between = ones({4, 4}, {DType::f32, Device::cuda()});  // takes none of the graph's memory
    graph.replay();
    CHECK(result.item() == doubled);
    CHECK(sum(between).item() == 16.0);
    graph.replay();
    CHECK(result.item() == doubled);
  }

  TEST_CASE("graph: nothing can be read back while recording, and an error ends it [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor x = ones({4}, {DType::f32, Device::cuda()});
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { std::ignore = sum(x).item(); }),
                "copy: cuda:0 is recording a graph, and nothing can be waited for or read back");
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { synchronize(Device::cuda()); }),
                "synchronize: cuda:0 is recording a graph, and nothing can be waited for or read back");
    CHECK_FALSE(is_recording(Device::cuda()));
    CHECK(sum(x).item() == 4.0);
    const auto nothing = [] {};
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { Graph::record(Device::cuda(), nothing); }),
                "Graph::record: this thread is recording another graph, expected one at a time");
    // Memory that is let go by a recording that fails is freed all the same, the graph's own too.
    const auto used = [] {
      synchronize(Device::cuda());
      return cuda::device_memory(Device::cuda()).used;
    };
    const size_t before = used();
    Tensor y = ones({1000}, {DType::f32, Device::cuda()});
    CHECK_THROWS_AS(Graph::record(Device::cuda(),
                                  [&] {
                                    const Tensor z = add(y, 1.0);
                                    y = Tensor();
                                    std::ignore = z.item();
                                  }),
                    Error);
    CHECK(used() == before);
  }

  TEST_CASE("graph: random numbers cannot be recorded [gpu]") {
    if (!have_device()) {
      return;
    }
    const TensorOptions there{DType::f32, Device::cuda()};
    Generator generator(1);
    const std::string reason = ": cuda:0 is recording a graph, whose replays would draw the same numbers each time";
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { rand({4}, generator, there); }), "uniform" + reason);
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { randn({4}, generator, there); }), "normal" + reason);
    CHECK_ERROR(Graph::record(Device::cuda(),
                              [&] {
                                randint(0, 9, {4}, generator, {DType::i64, Device::cuda()});
                              }),
                "random_integers" + reason);
  }

  TEST_CASE("graph: copies from the host keep their numbers [gpu]") {
    if (!have_device()) {
      return;
    }
    Tensor x = ones({4}, {DType::f32, Device::cuda()});
    Tensor result;
    Tensor scratch = ones({4}, {DType::f32, Device::cuda()});
    const Graph graph = Graph::record(Device::cuda(), [&] {
      std::vector<float> offsets{1, 2, 3, 4};
      result = add(x, to(from_vector(offsets), Device::cuda()));
      offsets.assign(4, -1.0F);
      scratch = Tensor();  // memory that is not the graph's is freed when the recording is over
    });
    graph.replay();
    CHECK(numbers(result) == std::vector<double>{2, 3, 4, 5});
    fill_(x, 10.0);
    graph.replay();
    CHECK(numbers(result) == std::vector<double>{11, 12, 13, 14});
  }

  TEST_CASE("graph: indices out of range are found in replays, and nothing outside is read or written [gpu]") {
    if (!have_device()) {
      return;
    }
    const auto device = [](const Tensor& x) { return to(x, Device::cuda()); };
    const Tensor table = reshape(arange(0.0, 20.0, 1.0, {DType::f32, Device::cuda()}), {5, 4});
    const auto replayed = [&](const std::vector<int64_t>& good, int64_t position, int64_t bad,
                              const std::string& message, const auto& op) {
      const auto count = static_cast<int64_t>(good.size());
      Tensor index = device(from_vector(good, {count}));
      const std::vector<double> expected = numbers(op(index));
      Tensor result;
      const Graph graph = Graph::record(Device::cuda(), [&] { result = op(index); });
      graph.replay();
      CHECK(numbers(result) == expected);
      std::vector<int64_t> wrong = good;
      wrong[static_cast<size_t>(position)] = bad;
      wrong.back() = -3;  // only the first is reported
      std::vector<int64_t> zeroed = wrong;
      zeroed[static_cast<size_t>(position)] = zeroed.back() = 0;
      copy_(index, device(from_vector(wrong, {count})));
      graph.replay();
      CAPTURE(message);
      CHECK_ERROR(std::ignore = numbers(result), message);
      CHECK(numbers(result) == numbers(op(device(from_vector(zeroed, {count})))));  // reported once
      graph.replay();
      copy_(index, device(from_vector(good, {count})));
      graph.replay();  // what the replay before has noted is not lost
      CHECK_ERROR(synchronize(Device::cuda()), message);
      graph.replay();
      synchronize(Device::cuda());
      CHECK(numbers(result) == expected);
    };
    replayed({1, 4, 0, 3}, 1, 1000000, "index_select: index is 1000000 at position 1, expected 0 to 4",
             [&](const Tensor& index) { return embedding(table, index); });
    replayed({1, 4, 0, 3}, 2, -1, "gather: index is -1 at position 2, expected 0 to 4", [&](const Tensor& index) {
      return gather(table, 0, reshape(index, {1, 4}));
    });
    replayed({2, 2, 0, 2}, 0, 5, "index_add: index is 5 at position 0, expected 0 to 4", [&](const Tensor& index) {
      return index_add(table, 0, index, ones({4, 4}, table.options()));
    });
    replayed(
        {2, 2, 0, 2}, 0, 1 << 20, "scatter_add: index is 1048576 at position 0, expected 0 to 4",
        [&](const Tensor& index) {
          return scatter_add(slice(table, 1, Slice{0, 1}), 0, reshape(index, {4, 1}), ones({4, 1}, table.options()));
        });
    replayed({2, 1, 0, 2}, 1, 7, "scatter_add: index is 7 at position 1, expected 0 to 2",
             [&](const Tensor& index) { return one_hot(index, 3, DType::f32); });
    replayed({3, 1, 0, 2, 1}, 3, 4, "cross_entropy: target is 4 at position 3, expected 0 to 3",
             [&](const Tensor& target) { return cross_entropy(table, target); });
  }

  TEST_CASE("graph: whoever waits behind a replay learns of its indices, on whatever stream it was [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor table = reshape(arange(0.0, 20.0, 1.0, {DType::f32, Device::cuda()}), {5, 4});
    Tensor index = to(from_vector<int64_t>({1, 4, 0}, {3}), Device::cuda());
    Tensor result;
    const Graph graph = Graph::record(Device::cuda(), [&] { result = embedding(table, index); });
    graph.replay();
    const std::vector<double> expected = numbers(result);
    const std::string message = "index_select: index is 7 at position 2, expected 0 to 4";
    const auto replay_elsewhere = [&] {
      const StreamGuard guard(Stream::create(Device::cuda()));
      graph.replay();
    };
    copy_(index, from_vector<int64_t>({1, 4, 7}, {3}));
    replay_elsewhere();
    CHECK_ERROR(std::ignore = to(result, Device::cpu()), message);
    replay_elsewhere();
    CHECK_ERROR(cuda::synchronize(cuda::current_stream(Device::cuda())), message);
    copy_(index, from_vector<int64_t>({1, 4, 0}, {3}));
    replay_elsewhere();
    CHECK(numbers(result) == expected);
    CHECK_ERROR(Graph::record(Device::cuda(), [&] { graph.replay(); }),
                "Graph::replay: cuda:0 is recording a graph, expected replays after it");
  }

  TEST_CASE("graph: one wait settles the replays of several graphs, and nothing of them comes back later [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor table = reshape(arange(0.0, 20.0, 1.0, {DType::f32, Device::cuda()}), {5, 4});
    Tensor index = to(from_vector<int64_t>({0}, {1}), Device::cuda());
    const auto recorded = [&](Tensor& result) {
      return Graph::record(Device::cuda(), [&] { result = embedding(table, index); });
    };
    Tensor result_of_a;
    Tensor result_of_b;
    const Graph a = recorded(result_of_a);
    const Graph b = recorded(result_of_b);
    const auto replay_both = [&](int64_t place) {
      fill_(index, static_cast<double>(place));
      a.replay();
      b.replay();
    };
    for (int k = 0; k < 2; ++k) {
      replay_both(9);
      CHECK_ERROR(synchronize(Device::cuda()), "index_select: index is 9 at position 0, expected 0 to 4");
      synchronize(Device::cuda());
      replay_both(4);
      CHECK(numbers(result_of_a) == std::vector<double>{16, 17, 18, 19});
      CHECK(numbers(result_of_b) == std::vector<double>{16, 17, 18, 19});
    }
    // Memory is made room for without a word of it.
    replay_both(5);
    cuda::release_cached_device_memory(Device::cuda());
    Tensor result_of_c;
    const Graph c = recorded(result_of_c);
    CHECK_ERROR(std::ignore = numbers(result_of_b), "index_select: index is 5 at position 0, expected 0 to 4");
    fill_(index, 0.0);
    c.replay();
    CHECK(numbers(result_of_c) == std::vector<double>{0, 1, 2, 3});
  }

  TEST_CASE("graph: what a replay found goes with its graph [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor table = reshape(arange(0.0, 20.0, 1.0, {DType::f32, Device::cuda()}), {5, 4});
    Tensor index = to(from_vector<int64_t>({0}, {1}), Device::cuda());
    const auto replay_short_lived = [&](int64_t place) {
      Tensor result;
      const Graph graph = Graph::record(Device::cuda(), [&] { result = embedding(table, index); });
      fill_(index, static_cast<double>(place));
      graph.replay();
    };
    for (int k = 0; k < 3; ++k) {
      replay_short_lived(9);
    }
    synchronize(Device::cuda());
    Tensor result;
    const Graph graph = Graph::record(Device::cuda(), [&] { result = embedding(table, index); });
    replay_short_lived(9);
    graph.replay();
    CHECK_ERROR(synchronize(Device::cuda()), "index_select: index is 9 at position 0, expected 0 to 4");
    synchronize(Device::cuda());
  }

  TEST_CASE("graph: a target out of range counts as 0 in the gradient of cross_entropy too [gpu]") {
    if (!have_device()) {
      return;
    }
    Generator generator(3);
    Tensor logits = randn({4, 5}, generator, {DType::f32, Device::cuda()}).set_requires_grad();
    Tensor target = to(from_vector<int64_t>({3, 1, 0, 2}, {4}), Device::cuda());
    const auto step = [&] { cross_entropy(logits, target).backward(); };
    step();
    logits.zero_grad();
    const Graph graph = Graph::record(Device::cuda(), step);
    const Tensor gradient = logits.grad();
    logits.zero_grad();
    copy_(target, from_vector<int64_t>({3, 0, 0, 2}, {4}));
    step();
    const std::vector<double> expected = numbers(logits.grad());
    copy_(target, from_vector<int64_t>({3, 6, 0, 2}, {4}));
    graph.replay();
    CHECK_ERROR(synchronize(Device::cuda()), "cross_entropy: target is 6 at position 1, expected 0 to 4");
    CHECK(numbers(gradient) == expected);
  }

  TEST_CASE("graph: gradients of a small network are those of ordinary steps, bit for bit [gpu]") {
    if (!have_device()) {
      return;
    }
    Generator generator(7);
    const TensorOptions there{DType::f32, Device::cuda()};
    Tensor w1 = randn({8, 16}, generator, there).set_requires_grad();
    Tensor w2 = randn({16, 5}, generator, there).set_requires_grad();
    Tensor x = randn({32, 8}, generator, there);
    Tensor targets = randint(0, 5, {32}, generator, {DType::i64, Device::cuda()});
    const auto step = [&] {
      const Tensor loss = cross_entropy(matmul(silu(matmul(x, w1)), w2), targets);
      loss.backward();
      return loss.detach();
    };
    const auto cleared = [&] {
      w1.zero_grad();
      w2.zero_grad();
    };
    step();
    cleared();
    Tensor loss;
    const Graph graph = Graph::record(Device::cuda(), [&] { loss = step(); });
    const Tensor g1 = w1.grad();
    const Tensor g2 = w2.grad();
    for (int k = 0; k < 3; ++k) {
      graph.replay();
      const double replayed_loss = loss.item();
      const std::vector<double> replayed1 = numbers(g1);
      const std::vector<double> replayed2 = numbers(g2);
      cleared();
      CHECK(step().item() == replayed_loss);
      CHECK(numbers(w1.grad()) == replayed1);
      CHECK(numbers(w2.grad()) == replayed2);
      copy_(x, randn({32, 8}, generator, there));
      copy_(targets, randint(0, 5, {32}, generator, {DType::i64, Device::cuda()}));
    }
  }
}

}  // namespace
}  // namespace deltatape::test

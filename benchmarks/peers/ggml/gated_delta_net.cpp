// ggml's gated delta net with a gate per channel (which is KDA) beside deltatape's forward: the same numbers go in, the
// results are compared, then both run in turns. ggml takes log decays and does not norm, so neither does deltatape
// here; both take a zero initial state and give the final one.
//
// Exit code 0, or 1 when the results differ.
#include <deltatape.h>
#include <fmt/core.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace {

using namespace deltatape;

constexpr double kTolerance = 1e-4;  // both in f32, over the largest element; a wrong formula is off by far more

struct Sizes {
  int64_t T, H, K;  // one sequence; K = V, which ggml demands
};

double milliseconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// A ggml graph of one operation, with its inputs.
class Graph {
 public:
  explicit Graph(size_t bytes) : context_(ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = false})) {}

  [[nodiscard]] ggml_context* context() const { return context_.get(); }

  /// A tensor with the shape (in ggml's order, the fastest dimension first) and the values of `x`.
  [[nodiscard]] ggml_tensor* input(const Tensor& x, int64_t n0, int64_t n1, int64_t n2 = 1, int64_t n3 = 1) const {
    ggml_tensor* tensor = ggml_new_tensor_4d(context(), GGML_TYPE_F32, n0, n1, n2, n3);
    const std::vector<float> values = x.to_vector<float>();
    std::memcpy(tensor->data, values.data(), values.size() * sizeof(float));
    return tensor;
  }

  /// Everything that is needed once is done here, so that `compute` is the operation alone.
  void prepare(ggml_tensor* result, int threads) {
    graph_ = ggml_new_graph(context());
    ggml_build_forward_expand(graph_, result);
    plan_ = ggml_graph_plan(graph_, threads, nullptr);
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }

  void compute() { check(ggml_graph_compute(graph_, &plan_) == GGML_STATUS_SUCCESS, "ggml", "the graph failed"); }

 private:
  struct Free {
    void operator()(ggml_context* context) const { ggml_free(context); }
  };
  std::unique_ptr<ggml_context, Free> context_;
  ggml_cgraph* graph_ = nullptr;
  ggml_cplan plan_{};
  std::vector<uint8_t> work_;
};

/// As `deltatape bench kda` draws them, after norm, lower-bound gate and sigmoid.
kda::Inputs make_inputs(const Sizes& s) {
  Generator generator(1);
  const auto unit = [](const Tensor& x) { return x * rsqrt(sum(square(x), {-1}, true) + 1e-6); };
  kda::Inputs in;
  in.q = unit(randn({1, s.T, s.H, s.K}, generator));
  in.k = unit(randn({1, s.T, s.H, s.K}, generator));
  in.v = randn({1, s.T, s.H, s.K}, generator);
  in.g = sigmoid(randn({1, s.T, s.H, s.K}, generator)) * -5.0;
  in.beta = sigmoid(randn({1, s.T, s.H}, generator));
  in.initial_state = zeros({1, s.H, s.K, s.K});
  return in;
}

/// The largest difference over the largest element.
double difference(const Tensor& x, std::span<const float> expected) {
  const std::vector<float> values = x.to_vector<float>();
  check(values.size() == expected.size(), "difference", "{} and {} elements", values.size(), expected.size());
  double largest = 0.0;
  double error = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    const double here = std::abs(static_cast<double>(values[i]) - static_cast<double>(expected[i]));
    error = here <= error ? error : here;  // keeps a NaN
  }
  return error / largest;
}

struct Times {
  std::vector<double> ours;
  std::vector<double> peer;
};

constexpr int kRuns = 3;  // per turn: the first finds the other side's data in the caches

/// In turns, after a first run of each that does not count.
Times in_turns(const std::function<void()>& ours, const std::function<void()>& peer, int rounds) {
  Times times;
  ours();
  peer();
  const auto turn = [](const std::function<void()>& run, std::vector<double>& ms) {
    for (int i = 0; i < kRuns; ++i) {
      ms.push_back(milliseconds(run));
    }
  };
  for (int round = 0; round < rounds; ++round) {
    turn(ours, times.ours);
    turn(peer, times.peer);
  }
  return times;
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return 0.5 * (x[(x.size() - 1) / 2] + x[x.size() / 2]);
}

void print_row(std::string_view shape, const Times& times, double error) {
  const double ours = *std::min_element(times.ours.begin(), times.ours.end());
  const double peer = *std::min_element(times.peer.begin(), times.peer.end());
  fmt::print("| {} | forward | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.0e} |\n", shape, ours,
             median(times.ours), peer, median(times.peer), peer / ours, error);
}

void compare_products(int threads, int rounds) {
  constexpr int64_t kSize = 1024;
  Generator generator(1);
  const Tensor a = randn({kSize, kSize}, generator);
  const Tensor b = randn({kSize, kSize}, generator);
  Graph graph(size_t{3} * kSize * kSize * sizeof(float) + (size_t{1} << 20));
  graph.prepare(ggml_mul_mat(graph.context(), graph.input(a, kSize, kSize), graph.input(b, kSize, kSize)), threads);
  const Times times = in_turns([&] { static_cast<void>(matmul(a, b)); }, [&] { graph.compute(); }, rounds);
  const auto gflops = [](const std::vector<double>& ms) {
    return 2.0 * kSize * kSize * kSize / *std::min_element(ms.begin(), ms.end()) / 1e6;
  };
  fmt::print("product of two 1024 x 1024 f32 matrices: deltatape {:.0f} GFLOP/s, ggml {:.0f} GFLOP/s\n\n",
             gflops(times.ours), gflops(times.peer));
}

/// Whether the results agree.
bool compare_forward(const Sizes& s, int threads, int rounds) {
  const kda::Inputs in = make_inputs(s);
  kda::Options options;
  options.output_final_state = true;
  options.state_v_first = true;  // ggml's order of the state
  kda::Output out;
  const auto ours = [&] { out = kda::run(kda::Implementation::automatic, in, options); };

  const auto tokens = static_cast<size_t>(s.T * s.H);
  const auto states = static_cast<size_t>(s.H * s.K * s.K);
  const auto outputs = tokens * static_cast<size_t>(s.K);
  Graph graph((6 * outputs + tokens + 3 * states) * sizeof(float) + (size_t{1} << 20));
  ggml_tensor* result =
      ggml_gated_delta_net(graph.context(), graph.input(in.q, s.K, s.H, s.T), graph.input(in.k, s.K, s.H, s.T),
                           graph.input(in.v, s.K, s.H, s.T), graph.input(in.g, s.K, s.H, s.T),
                           graph.input(in.beta, 1, s.H, s.T), graph.input(in.initial_state, s.K, s.K, s.H), 1);
  graph.prepare(result, threads);

  const Times times = in_turns(
      ours, [&] { graph.compute(); }, rounds);
  const std::span<const float> packed(static_cast<const float*>(result->data), outputs + states);
  const double o = difference(out.o, packed.first(outputs));
  const double ht = difference(out.final_state, packed.last(states));
  print_row(fmt::format("T={}, H={}, K=V={}", s.T, s.H, s.K), times, std::max(o, ht));
  return o <= kTolerance && ht <= kTolerance;
}

}  // namespace

int main(int count, char** arguments) {
  const bool quick = count > 1 && std::string_view(arguments[1]) == "--quick";
  const int rounds = quick ? 1 : 5;
  const int threads = omp_get_max_threads();
  fmt::print("deltatape {} beside ggml {}, f32, {} threads, smallest of {} turns of {} runs\n", version(),
             ggml_version(), threads, rounds, kRuns);
  compare_products(threads, rounds);
  fmt::print("| B=1 | pass | ours ms (min) | (median) | ggml ms (min) | (median) | ratio of minima | difference |\n");
  fmt::print("|---|---|---|---|---|---|---|---|\n");
  bool agree = true;
  const std::vector<Sizes> shapes =
      quick ? std::vector<Sizes>{{256, 2, 64}} : std::vector<Sizes>{{1024, 4, 128}, {4096, 8, 128}};
  for (const Sizes& shape : shapes) {
    agree = compare_forward(shape, threads, rounds) && agree;
  }
  if (!agree) {
    fmt::print(stderr, "peer_ggml: the results differ by more than {:.0e} of the largest element\n", kTolerance);
  }
  return agree ? 0 : 1;
}

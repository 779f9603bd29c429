// The kernels of KDA on CUDA against those of the CPU on random draws over the option space, in every dtype; and what
// may not change a bit: a second run, working memory, which gradients are wanted.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "ops/convert.h"
#include "ops/creation.h"
#include "tests/gpu/device.h"
#include "tests/gpu/kda/kernel_call.h"
#include "tests/ops/kda/random_case.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::KDAShape;
using test::NamedResults;

/// How many random cases.
uint64_t draws(uint64_t usually) {
  const char* text = std::getenv("DELTATAPE_PROPERTY_CASES");
  return text == nullptr ? usually : std::strtoull(text, nullptr, 10);
}

bool is_gate_gradient(const std::string& name) { return name == "dg" || name == "dA_log" || name == "ddt_bias"; }

/// How far a result may be from the expected one: relative to the largest element, or at most `floor`.
struct Limits {
  double relative;
  double gates;  // relative, for gradients of the gate
  double floor;
};

void compare(const NamedResults& actual, const NamedResults& expected, const Limits& limits) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const std::string& name = expected[i].first;
    CAPTURE(name);
    CHECK(actual[i].first == name);
    CHECK(actual[i].second.dtype() == expected[i].second.dtype());
    const double error = test::max_error(actual[i].second, expected[i].second);
    const double difference = test::largest_difference(actual[i].second, expected[i].second);
    CAPTURE(error);
    CAPTURE(difference);
    CHECK((error <= (is_gate_gradient(name) ? limits.gates : limits.relative) || difference <= limits.floor));
  }
}

void check_same_bits(const NamedResults& actual, const NamedResults& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(test::same_bits(actual[i].second, expected[i].second));
  }
}

/// With K = 1 whole gradients are nothing but rounding (tests/ops/kda/property_test.cpp).
bool is_all_cancellation(const KDACase& c) { return c.inputs.q.size(3) == 1; }

TEST_CASE("kda on cuda: as on the CPU on random draws in f64 [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (uint64_t seed = 0; seed < draws(120); ++seed) {
    const test::RandomCase r = test::random_case(seed);
    CAPTURE(r.text);
    const test::KernelCall call = kernel_call(r.c, seed % 2 == 0 ? kda::Form::chunk : kda::Form::recurrent);
    // A floor for what is left of numbers of order one after they have been almost forgotten.
    const double floor = is_all_cancellation(r.c) ? 1e-13 : 0x1p-52;
    compare(run_kernels(call, Device::cuda()), run_kernels(call, Device::cpu()), {1e-12, 1e-12, floor});
  }
}

TEST_CASE("kda on cuda: f32 against f64 on random draws [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (uint64_t seed = 1000; seed < 1000 + draws(120); ++seed) {
    const test::RandomCase r = test::random_case(seed);
    if (is_all_cancellation(r.c)) {
      continue;
    }
    CAPTURE(r.text);
    const KDACase narrow = in_dtype(r.c, DType::f32);
    NamedResults expected = run_kernels(kernel_call(in_dtype(narrow, DType::f64)), Device::cpu());
    NamedResults actual = run_kernels(kernel_call(narrow), Device::cuda());
    for (auto& result : actual) {
      result.second = to(result.second, DType::f64);
    }
    compare(actual, expected, {1e-5, 1e-4, 2e-6});
  }
}

TEST_CASE("kda on cuda: 16-bit tensors, parameters and states in f32 or 16 bits, as on the CPU [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (uint64_t seed = 2000; seed < 2000 + draws(30); ++seed) {
      const test::RandomCase r = test::random_case(seed);
      if (is_all_cancellation(r.c)) {
        continue;
      }
      CAPTURE(r.text);
      KDACase c = in_dtype(r.c, dtype);
      if (seed % 2 == 0) {
        for (Tensor* const x : {&c.inputs.A_log, &c.inputs.dt_bias, &c.inputs.initial_state}) {
          *x = x->defined() ? to(*x, DType::f32) : *x;
        }
        c.d_ht = c.d_ht.defined() && c.inputs.initial_state.defined() ? to(c.d_ht, DType::f32) : c.d_ht;
      }
      // Results are rounded to 16 bits on both sides and may fall on neighbours.
      const double step = dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
      const test::KernelCall call = kernel_call(c);
      compare(run_kernels(call, Device::cuda()), run_kernels(call, Device::cpu()), {step, step, 1e-5});
    }
  }
}

TEST_CASE("kda on cuda: every option at sizes with several slices of columns and windows of tokens [gpu]") {
  if (!test::have_device()) {
    return;
  }
  const std::vector<KDAShape> shapes{{1, 130, 2, 4, 64, 70, {}}, {1, 150, 1, 2, 40, 33, {65, 0, 1, 64, 20}},
                                     {2, 66, 1, 1, 256, 3, {}},  {1, 5, 1, 2, 17, 256, {2, 3}},
                                     {3, 64, 1, 3, 1, 1, {}},    {1, 193, 1, 1, 33, 32, {}}};
  for (const KDAShape& shape : shapes) {
    for (const auto gate : {kda::Gate::none, kda::Gate::standard, kda::Gate::lower_bound}) {
      kda::Options options;
      options.gate = gate;
      options.use_qk_l2norm = gate != kda::Gate::none;
      options.use_beta_sigmoid = gate == kda::Gate::lower_bound;
      options.allow_neg_eigval = options.use_beta_sigmoid;
      options.output_final_state = true;
      options.output_h = gate == kda::Gate::standard;
      options.chunk_size = 32;
      options.state_v_first = gate == kda::Gate::lower_bound;
      options.save_intermediates = gate == kda::Gate::none;
      CAPTURE(shape.K);
      CAPTURE(shape.V);
      CAPTURE(shape.T);
      CAPTURE(static_cast<int>(gate));
      const KDACase c = make_case(shape, options, 7);
      const double floor = is_all_cancellation(c) ? 1e-13 : 0x1p-52;
      compare(run_kernels(kernel_call(c), Device::cuda()), run_kernels(kernel_call(c), Device::cpu()),
              {1e-12, 1e-12, floor});
    }
  }
}

TEST_CASE("kda on cuda: no bit depends on a second run, the working memory or which gradients are wanted [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.gate = kda::Gate::lower_bound;
  options.use_qk_l2norm = options.use_beta_sigmoid = options.output_final_state = options.output_h = true;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const KDACase c = in_dtype(test::make_case({1, 140, 3, 6, 20, 40, {66, 0, 74}}, options, 11), dtype);
    test::KernelCall call = kernel_call(c);
    const NamedResults once = run_kernels(call, Device::cuda());
    check_same_bits(run_kernels(call, Device::cuda()), once);
    const int64_t whole = backend_of(Device::cuda()).kda_plan(call.problem, dtype, Device::cuda()).backward_bytes;
    for (const int64_t limit : {whole - 1, whole / 2, int64_t{1}}) {
      call.problem.workspace_limit = limit;
      const kda::KernelPlan plan = backend_of(Device::cuda()).kda_plan(call.problem, dtype, Device::cuda());
      CHECK(plan.backward_bytes < whole);
      CHECK((limit == 1 || plan.backward_bytes <= limit));
      check_same_bits(run_kernels(call, Device::cuda()), once);
    }
    call.problem.workspace_limit = kda::kWorkspaceLimit;
    for (size_t i = 0; i < 8 && dtype == DType::f32; ++i) {
      for (const unsigned gradients : {1U << i, test::kAllGradients & ~(1U << i)}) {
        const NamedResults some = run_kernels(call, Device::cuda(), gradients);
        CHECK(some.size() < once.size());
        for (const auto& result : some) {
          CAPTURE(result.first);
          CHECK(test::same_bits(result.second, test::find(once, result.first)));
        }
      }
    }
  }
}

/// Both halves of a call in chunks on tensor cores.
bool runs_v1(const kda::KernelPlan& plan) {
  return plan.text.rfind("forward v1, ", 0) == 0 && plan.text.find("; backward v1, ") != std::string::npos;
}

TEST_CASE("kda on cuda: no bit of v1 depends on a second run, the working memory or which gradients are wanted [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.gate = kda::Gate::lower_bound;
  options.use_qk_l2norm = options.use_beta_sigmoid = options.output_final_state = options.output_h = true;
  const KDACase c = in_dtype(test::make_case({1, 140, 2, 4, 128, 128, {66, 0, 74}}, options, 11), DType::bf16);
  test::KernelCall call = kernel_call(c);
  const auto plan_of = [&call] {
    return backend_of(Device::cuda()).kda_plan(call.problem, DType::bf16, Device::cuda());
  };
  REQUIRE(runs_v1(plan_of()));
  const NamedResults once = run_kernels(call, Device::cuda());
  check_same_bits(run_kernels(call, Device::cuda()), once);
  const int64_t whole = plan_of().backward_bytes;
  call.problem.workspace_limit = 1;
  REQUIRE(runs_v1(plan_of()));
  CHECK(plan_of().backward_bytes < whole);
  check_same_bits(run_kernels(call, Device::cuda()), once);
  call.problem.workspace_limit = kda::kWorkspaceLimit;
  for (size_t i = 0; i < 8; ++i) {
    for (const unsigned gradients : {1U << i, test::kAllGradients & ~(1U << i)}) {
      const NamedResults some = run_kernels(call, Device::cuda(), gradients);
      CHECK(some.size() < once.size());
      for (const auto& result : some) {
        CAPTURE(result.first);
        CHECK(test::same_bits(result.second, test::find(once, result.first)));
      }
    }
  }
}

TEST_CASE("kda on cuda: kept states and states computed again give the same bits [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.output_final_state = true;
  const KDACase c = test::make_case({1, 200, 1, 2, 20, 40, {129, 71}}, options, 12);
  test::KernelCall call = kernel_call(c);
  const NamedResults computed = run_kernels(call, Device::cuda());
  call.problem.save_intermediates = true;
  check_same_bits(run_kernels(call, Device::cuda()), computed);
}

TEST_CASE("kda on cuda: upstream gradients that nobody gave are zeros [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.output_final_state = true;
  const KDACase c = test::make_case({1, 70, 1, 2, 8, 12, {}}, options, 13);
  const test::KernelCall given = kernel_call(c);
  for (const bool without_o : {true, false}) {
    test::KernelCall left_out = given;
    test::KernelCall zero = given;
    (without_o ? left_out.d_o : left_out.d_final_state) = Tensor();
    Tensor& zeroed = without_o ? zero.d_o : zero.d_final_state;
    zeroed = zeros(zeroed.shape(), zeroed.options());
    check_same_bits(run_kernels(left_out, Device::cuda()), run_kernels(zero, Device::cuda()));
  }
}

TEST_CASE("kda on cuda: a head that no block can hold is refused [gpu]") {
  if (!test::have_device()) {
    return;
  }
  const KDACase c = test::make_case({1, 2, 1, 1, 5000, 2, {}}, {}, 14);
  try {
    run_kernels(kernel_call(c), Device::cuda());
    FAIL("no Error was thrown");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).rfind("kda::fused_chunk: K is 5000, expected ", 0) == 0);
  }
}

}  // namespace
}  // namespace deltatape

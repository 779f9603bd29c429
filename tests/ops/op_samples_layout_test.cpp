// Inputs and upstream gradients in every memory layout give what dense ones give; the same call twice gives the same
// bits.
#include <doctest/doctest.h>

#include "tests/support/layouts.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

bool has_inputs(const OpSample& sample) { return !sample.inputs.empty(); }

void check_run(const std::string& what, const OpSample& sample, const Tensors& inputs, const Tensors& upstream,
               const Run& expected, DType dtype) {
  check_same_run(what, sample, run_with_gradients(sample, inputs, upstream), expected, forward_tolerance(sample, dtype),
                 gradient_tolerance(sample, dtype));
}

// All inputs together in each layout, and each alone.
void check_strided_inputs(const OpSample& sample, const Tensors& dense, DType dtype) {
  const Tensors upstream = draw_upstream(sample, sample.call(dense));
  const Run expected = run_with_gradients(sample, dense, upstream);
  for (const Layout layout : kLayouts) {
    Tensors all;
    for (size_t i = 0; i < dense.size(); ++i) {
      all.push_back(with_layout(dense[i], layout));
      Tensors one = dense;
      one[i] = all[i];
      check_run(fmt::format("{} input {}", to_string(layout), i), sample, one, upstream, expected, dtype);
    }
    check_run(fmt::format("{} inputs", to_string(layout)), sample, all, upstream, expected, dtype);
  }
}

void check_repeated_inputs(const OpSample& sample, const Tensors& dense, DType dtype) {
  for (size_t i = 0; i < dense.size(); ++i) {
    for (int d = 0; d < dense[i].rank() && sample.inputs[i].values.empty(); ++d) {
      Tensors repeated = dense;
      repeated[i] = repeated_along(dense[i], d);
      Tensors copied = dense;
      copied[i] = dense_copy(repeated[i]);
      const Tensors upstream = draw_upstream(sample, sample.call(copied));
      const Run expected = run_with_gradients(sample, copied, upstream);
      check_run(fmt::format("input {} with stride 0 along {}", i, d), sample, repeated, upstream, expected, dtype);
    }
  }
}

void check_strided_upstream(const OpSample& sample, const Tensors& inputs, DType dtype) {
  const Tensors upstream = draw_upstream(sample, sample.call(inputs));
  const Run expected = run_with_gradients(sample, inputs, upstream);
  for (const Layout layout : kLayouts) {
    Tensors strided;
    for (const Tensor& gradient : upstream) {
      strided.push_back(gradient.defined() ? with_layout(gradient, layout) : gradient);
    }
    check_run(fmt::format("{} upstream gradient", to_string(layout)), sample, inputs, strided, expected, dtype);
  }
  // What backward of sum() hands on: one number with stride 0 everywhere.
  Tensors repeated;
  Tensors copied;
  for (Tensor gradient : upstream) {
    for (int d = 0; gradient.defined() && d < gradient.rank(); ++d) {
      gradient = repeated_along(gradient, d);
    }
    repeated.push_back(gradient);
    copied.push_back(gradient.defined() ? dense_copy(gradient) : gradient);
  }
  check_run("upstream gradient with stride 0", sample, inputs, repeated, run_with_gradients(sample, inputs, copied),
            dtype);
}

TEST_CASE("op samples: layouts") {
  for_each_sample("layouts", has_inputs, [](const OpSample& sample) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      if (sample.dtype_fixed && dtype != DType::f64) {
        continue;
      }
      CAPTURE(std::string(to_string(dtype)));
      const Tensors inputs = draw_inputs(sample, dtype);
      check_strided_inputs(sample, inputs, dtype);
      check_repeated_inputs(sample, inputs, dtype);
      if (sample.differentiable) {
        check_strided_upstream(sample, inputs, dtype);
      }
    }
  });
}

TEST_CASE("op samples: determinism") {
  for_each_sample(
      "determinism", [](const OpSample&) { return true; },
      [](const OpSample& sample) {
        const Tensors inputs = draw_inputs(sample, sample.dtype_fixed ? DType::f64 : DType::f32);
        Tolerance same_bits = exactly();
        same_bits.nan_allowed = sample.nan_allowed;
        check_same_run("second run", sample, run_with_gradients(sample, inputs), run_with_gradients(sample, inputs),
                       same_bits, same_bits);
      });
}

}  // namespace
}  // namespace deltatape::test

// f32, bf16 and f16: values against plain loops in double, and gradients against those in f64, from the same rounded
// inputs. Mixed dtypes promote, and gradients come back in the dtype of their input.
#include <doctest/doctest.h>

#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

// The gradients from the same inputs and upstream gradients in f64, rounded to the dtypes of `inputs`.
Tensors wide_gradients(const OpSample& sample, const Tensors& inputs, const Tensors& upstream) {
  const auto widened = [](const Tensors& tensors) {
    Tensors wide;
    for (const Tensor& x : tensors) {
      wide.push_back(x.defined() && is_floating(x.dtype()) ? to_tensor(to_array(x), DType::f64) : x);
    }
    return wide;
  };
  return run_with_gradients(sample, widened(inputs), widened(upstream)).gradients;
}

void check_in_dtypes(const OpSample& sample, const Tensors& inputs, DType narrowest) {
  check_against_reference(sample, inputs);
  if (!sample.differentiable) {
    return;
  }
  const Tensors upstream = draw_upstream(sample, sample.call(inputs));
  const Run run = run_with_gradients(sample, inputs, upstream);
  const Tensors expected = wide_gradients(sample, inputs, upstream);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (is_floating(inputs[i].dtype())) {
      check_close({fmt::format("{}, gradient of input {}", sample.name(), i), seed_of(sample)}, run.gradients[i],
                  to_array(expected[i]), inputs[i].dtype(), gradient_tolerance(sample, narrowest));
    }
  }
}

bool has_dtypes(const OpSample& sample) {
  if (sample.dtype_fixed) {
    return false;
  }
  for (const InputSpec& spec : sample.inputs) {
    if (spec.domain.element == Domain::Element::floating && !spec.dtype) {
      return true;
    }
  }
  return false;
}

TEST_CASE("op samples: low precision") {
  for_each_sample("low precision", has_dtypes, [](const OpSample& sample) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(std::string(to_string(dtype)));
      check_in_dtypes(sample, draw_inputs(sample, dtype), dtype);
    }
  });
}

TEST_CASE("op samples: promotion") {
  const auto wanted = [](const OpSample& sample) { return sample.elementwise && sample.inputs.size() > 1; };
  const std::vector<std::vector<DType>> pairs{
      {DType::f32, DType::f64}, {DType::bf16, DType::f32}, {DType::f32, DType::f16}, {DType::bf16, DType::f16},
      {DType::f16, DType::f64}, {DType::f32, DType::i64},  {DType::i32, DType::bf16}};
  for_each_sample("promotion", wanted, [&](const OpSample& sample) {
    for (const std::vector<DType>& pair : pairs) {
      CAPTURE(std::string(to_string(pair[0])));
      CAPTURE(std::string(to_string(pair[1])));
      std::vector<DType> dtypes;
      DType narrowest = DType::f64;
      for (size_t i = 0; i < sample.inputs.size(); ++i) {
        dtypes.push_back(pair[(i + sample.inputs.size()) % 2]);
        // bf16 is the coarser of the 16-bit types.
        if (is_floating(dtypes[i]) && rounding(dtypes[i], 1).relative > rounding(narrowest, 1).relative) {
          narrowest = dtypes[i];
        }
      }
      check_in_dtypes(sample, draw_inputs(sample, dtypes), narrowest);
    }
  });
}

}  // namespace
}  // namespace deltatape::test

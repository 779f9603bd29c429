// Every op with its tensors on a CUDA device, against the same references as on the host: in every dtype and memory
// layout, with broadcasting, on integers, on empty tensors. Tensors on two devices are refused.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/gpu/device.h"
#include "tests/gpu/moved.h"
#include "tests/support/layouts.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

bool has_inputs(const OpSample& sample) { return !sample.inputs.empty(); }

// Rows whose results are the host's wherever the inputs are.
bool answers_on_host(const OpSample& sample) { return sample.op == "to" || sample.op == "any" || sample.op == "all"; }

// Inputs that may lie on another device than the others: copy_ copies between devices, and lengths are read on the
// host.
bool may_be_elsewhere(const OpSample& sample, size_t input) {
  return sample.op == "copy_" || (sample.name() == "causal_conv1d/packed sequences" && input == 3);
}

// As for_each_sample, but what is thrown fails one row and not all that come after it.
void for_each_row(std::string_view kind, const std::function<bool(const OpSample&)>& wanted,
                  const std::function<void(const OpSample&)>& check) {
  for_each_sample(kind, wanted, [&](const OpSample& sample) {
    try {
      check(sample);
    } catch (const Error& error) {
      FAIL_CHECK(sample.name() << " throws: " << error.what());
    }
  });
}

// Random gradients, on the device of the output each belongs to.
Tensors upstream_of(const OpSample& sample, const Tensors& outputs) {
  Tensors upstream = draw_upstream(sample, outputs);
  for (size_t i = 0; i < upstream.size(); ++i) {
    upstream[i] = moved(upstream[i], outputs[i].device());
  }
  return upstream;
}

// Values against the row's reference; gradients against those on the host, in f64, from the same rounded numbers.
// `there`: the same inputs on the device, in whatever layout.
void check_on_device(const OpSample& sample, const Tensors& inputs, const Tensors& there, DType narrowest) {
  check_against_reference(sample, there);
  const Tensors upstream = upstream_of(sample, sample.call(there));
  const Run run = run_with_gradients(sample, there, upstream);
  if (!answers_on_host(sample)) {
    for (const Tensor& output : run.outputs) {
      CHECK(output.device() == there[0].device());
    }
  }
  if (!sample.differentiable) {
    return;
  }
  const auto widened = [&](const Tensors& tensors) {
    Tensors wide;
    for (const Tensor& x : tensors) {
      const bool widens = x.defined() && is_floating(x.dtype()) && !sample.dtype_fixed;
      wide.push_back(widens ? to_tensor(to_array(x), DType::f64) : x.defined() ? on_host(x) : x);
    }
    return wide;
  };
  const Tensors expected = run_with_gradients(sample, widened(inputs), widened(upstream)).gradients;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (is_floating(inputs[i].dtype())) {
      CHECK(run.gradients[i].device() == there[i].device());
      check_close({fmt::format("{}, gradient of input {}", sample.name(), i), seed_of(sample)}, run.gradients[i],
                  to_array(expected[i]), inputs[i].dtype(), gradient_tolerance(sample, narrowest));
    }
  }
}

bool takes(const OpSample& sample, DType dtype) { return !sample.dtype_fixed || dtype == DType::f64; }

TEST_CASE("op samples: dtypes [gpu]") {
  if (!have_device()) {
    return;
  }
  for_each_row("dtypes", has_inputs, [](const OpSample& sample) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      if (takes(sample, dtype)) {
        CAPTURE(std::string(to_string(dtype)));
        const Tensors inputs = draw_inputs(sample, dtype);
        check_on_device(sample, inputs, moved(inputs, Device::cuda()), dtype);
      }
    }
    for (const DType dtype : {DType::i64, DType::i32}) {
      if (sample.integers) {
        CAPTURE(std::string(to_string(dtype)));
        check_against_reference(sample, moved(draw_inputs(sample, dtype), Device::cuda()));
      }
    }
  });
}

TEST_CASE("op samples: creation [gpu]") {
  if (!have_device()) {
    return;
  }
  for_each_row(
      "creation", [](const OpSample& sample) { return !has_inputs(sample); },
      [](const OpSample& sample) {
        for (const Tensor& output : sample.call({})) {
          const Tensor there = to(output, Device::cuda());
          CHECK_FALSE(there.device().is_cpu());
          check_close({sample.name(), seed_of(sample)}, to(there, Device::cpu()), output, exactly());
        }
      });
}

TEST_CASE("op samples: layouts [gpu]") {
  if (!have_device()) {
    return;
  }
  for_each_row("layouts", has_inputs, [](const OpSample& sample) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      if (!takes(sample, dtype)) {
        continue;
      }
      CAPTURE(std::string(to_string(dtype)));
      const Tensors inputs = draw_inputs(sample, dtype);
      for (const Layout layout : kLayouts) {
        CAPTURE(std::string(to_string(layout)));
        Tensors there;
        for (const Tensor& input : inputs) {
          there.push_back(moved(with_layout(input, layout), Device::cuda()));
        }
        check_on_device(sample, inputs, there, dtype);
      }
      for (size_t i = 0; i < inputs.size(); ++i) {
        for (int d = 0; d < inputs[i].rank() && sample.inputs[i].values.empty(); ++d) {
          CAPTURE(i);
          CAPTURE(d);
          // Against dense copies on the device: where equal inputs cancel, nothing but rounding is left.
          Tensors there = moved(inputs, Device::cuda());
          Tensors copied = there;
          copied[i] = moved(dense_copy(repeated_along(inputs[i], d)), Device::cuda());
          there[i] = repeated_along(there[i], d);
          const Tensors upstream = upstream_of(sample, sample.call(there));
          check_same_run("stride 0", sample, run_with_gradients(sample, there, upstream),
                         run_with_gradients(sample, copied, upstream), forward_tolerance(sample, dtype),
                         gradient_tolerance(sample, dtype));
        }
      }
    }
  });
}

TEST_CASE("op samples: upstream layouts [gpu]") {
  if (!have_device()) {
    return;
  }
  const auto wanted = [](const OpSample& sample) { return has_inputs(sample) && sample.differentiable; };
  for_each_row("upstream layouts", wanted, [](const OpSample& sample) {
    const DType dtype = sample.dtype_fixed ? DType::f64 : DType::f32;
    const Tensors there = moved(draw_inputs(sample, dtype), Device::cuda());
    const Tensors outputs = sample.call(there);
    const Tensors upstream = draw_upstream(sample, outputs);
    const Run expected = run_with_gradients(sample, there, upstream_of(sample, outputs));
    const auto check_run = [&](std::string_view what, const Tensors& gradients, const Run& dense) {
      check_same_run(what, sample, run_with_gradients(sample, there, gradients), dense,
                     forward_tolerance(sample, dtype), gradient_tolerance(sample, dtype));
    };
    for (const Layout layout : kLayouts) {
      Tensors strided;
      for (size_t i = 0; i < upstream.size(); ++i) {
        strided.push_back(upstream[i].defined() ? moved(with_layout(upstream[i], layout), outputs[i].device())
                                                : upstream[i]);
      }
      check_run(to_string(layout), strided, expected);
    }
    // What backward of sum() hands on: one number with stride 0 everywhere.
    Tensors repeated;
    Tensors copied;
    for (size_t i = 0; i < upstream.size(); ++i) {
      Tensor gradient = upstream[i];
      for (int d = 0; gradient.defined() && d < gradient.rank(); ++d) {
        gradient = repeated_along(gradient, d);
      }
      repeated.push_back(moved(gradient, outputs[i].device()));
      copied.push_back(gradient.defined() ? moved(dense_copy(gradient), outputs[i].device()) : gradient);
    }
    check_run("stride 0", repeated, run_with_gradients(sample, there, copied));
  });
}

// Shapes in which an elementwise op meets every kernel: a scalar, odd sizes, rows shorter than 16 bytes, empty tensors.
TEST_CASE("op samples: shapes [gpu]") {
  if (!have_device()) {
    return;
  }
  for_each_row("shapes", has_inputs, [](const OpSample& sample) {
    std::vector<std::vector<Shape>> all = sample.shapes;
    if (sample.elementwise) {
      for (const Shape& shape : {Shape{}, Shape{1}, Shape{131, 307}, Shape{64, 32}, Shape{0}, Shape{2, 0, 3}}) {
        all.emplace_back(sample.inputs.size(), shape);
      }
      const std::vector<std::vector<Shape>> pairs{{{2, 3}, {3}},    {{2, 1}, {1, 3}},  {{}, {2, 3}},
                                                  {{2, 3}, {}},     {{1}, {4}},        {{3, 1, 2}, {2, 1}},
                                                  {{0, 1}, {1, 3}}, {{8, 16}, {8, 1}}, {{4, 8, 16}, {1, 16}}};
      for (const std::vector<Shape>& pair : pairs) {
        std::vector<Shape> shapes;
        for (size_t i = 0; i < sample.inputs.size() && sample.inputs.size() > 1; ++i) {
          shapes.push_back(pair[(i + sample.inputs.size()) % 2]);
        }
        if (!shapes.empty()) {
          all.push_back(shapes);
        }
      }
    }
    for (const std::vector<Shape>& shapes : all) {
      CAPTURE(shapes.front());
      for (const DType dtype : {DType::f64, DType::bf16}) {
        if (takes(sample, dtype)) {
          const Tensors inputs = draw_inputs(sample, dtype, shapes);
          check_on_device(sample, inputs, moved(inputs, Device::cuda()), dtype);
        }
      }
    }
  });
}

TEST_CASE("op samples: determinism [gpu]") {
  if (!have_device()) {
    return;
  }
  for_each_row("determinism", has_inputs, [](const OpSample& sample) {
    const Tensors there = moved(draw_inputs(sample, sample.dtype_fixed ? DType::f64 : DType::f32), Device::cuda());
    const Tensors upstream = upstream_of(sample, sample.call(there));
    Tolerance same_bits = exactly();
    same_bits.nan_allowed = sample.nan_allowed;
    check_same_run("second run", sample, run_with_gradients(sample, there, upstream),
                   run_with_gradients(sample, there, upstream), same_bits, same_bits);
  });
}

// One input is left on the host, or put on another GPU: the error names both devices.
TEST_CASE("op samples: two devices [gpu]") {
  if (!have_device()) {
    return;
  }
  const auto wanted = [](const OpSample& sample) { return sample.inputs.size() > 1; };
  for_each_row("two devices", wanted, [](const OpSample& sample) {
    std::vector<Device> others{Device::cpu()};
    if (cuda_device_count() > 1) {
      others.push_back(Device::cuda(1));
    }
    const Tensors inputs = draw_inputs(sample, sample.dtype_fixed ? DType::f64 : DType::f32);
    for (const Device other : others) {
      for (size_t i = 0; i < inputs.size(); ++i) {
        Tensors there = moved(inputs, Device::cuda(0));
        there[i] = moved(inputs[i], other);
        CAPTURE(i);
        CAPTURE(other);
        if (may_be_elsewhere(sample, i)) {
          CHECK_NOTHROW(sample.call(there));
          continue;
        }
        std::string message = "no error";
        try {
          sample.call(there);
        } catch (const Error& error) {
          message = error.what();
        }
        CAPTURE(message);
        CHECK(message.find("cuda:0") != std::string::npos);
        CHECK(message.find(to_string(other)) != std::string::npos);
      }
    }
  });
}

}  // namespace
}  // namespace deltatape::test

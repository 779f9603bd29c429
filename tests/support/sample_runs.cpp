#include "tests/support/sample_runs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "autograd/backward.h"
#include "tests/support/random_tensors.h"

namespace deltatape::test {
namespace {

bool near_a_kink(double value, const std::vector<double>& kinks) {
  return std::any_of(kinks.begin(), kinks.end(), [&](double kink) { return std::abs(value - kink) < 0.1; });
}

std::vector<double> spread_and_shuffled(const Domain& domain, size_t count, std::mt19937_64& source) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = domain.low + (domain.high - domain.low) * (static_cast<double>(i) + 0.5) / static_cast<double>(count);
  }
  for (size_t i = count; i > 1; --i) {
    std::swap(values[i - 1], values[source() % i]);
  }
  return values;
}

Array draw(const InputSpec& spec, const Shape& shape, std::mt19937_64& source) {
  if (!spec.values.empty()) {
    return {shape, spec.values};
  }
  const Domain& domain = spec.domain;
  if (domain.distinct) {
    return {shape, spread_and_shuffled(domain, static_cast<size_t>(shape.numel()), source)};
  }
  return build(shape, [&](const Shape&) {
    double value = 0.0;
    do {
      value = domain.low + (domain.high - domain.low) * uniform(source);
    } while (near_a_kink(value, domain.kinks));
    return domain.element == Domain::Element::floating && !domain.whole ? value : std::floor(value);
  });
}

DType dtype_in(const InputSpec& spec, DType dtype) {
  if (spec.dtype) {
    return *spec.dtype;
  }
  switch (spec.domain.element) {
    case Domain::Element::index:
      return DType::i64;
    case Domain::Element::boolean:
      return DType::boolean;
    default:
      return dtype;
  }
}

}  // namespace

uint64_t seed_of(const OpSample& sample) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const char c : sample.name()) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return hash;
}

Tensors draw_inputs(const OpSample& sample, const std::vector<DType>& dtypes, const std::vector<Shape>& shapes) {
  std::mt19937_64 source(seed_of(sample));
  Tensors inputs;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const InputSpec& spec = sample.inputs[i];
    Array values = draw(spec, shapes.empty() ? spec.shape : shapes.at(i), source);
    const DType dtype = dtype_in(spec, dtypes[i]);
    if (is_integer(dtype) && spec.domain.element == Domain::Element::floating && spec.values.empty()) {
      values = map(values, [](double value) { return std::round(3.0 * value); });
    }
    inputs.push_back(to_tensor(values, dtype));
  }
  return inputs;
}

Tensors draw_inputs(const OpSample& sample, DType dtype, const std::vector<Shape>& shapes) {
  return draw_inputs(sample, std::vector<DType>(sample.inputs.size(), dtype), shapes);
}

DType result_dtype(const OpSample& sample, const Tensors& inputs, size_t i) {
  if (!sample.results.empty() && sample.results.at(i)) {
    return *sample.results[i];
  }
  // Indices and masks have no say in the result's dtype; other integer inputs do.
  std::optional<DType> dtype;
  for (size_t input = 0; input < inputs.size(); ++input) {
    if (sample.inputs[input].domain.element == Domain::Element::floating && sample.inputs[input].values.empty()) {
      dtype = dtype ? promote(*dtype, inputs[input].dtype()) : inputs[input].dtype();
    }
  }
  const DType result = dtype.value_or(DType::f32);
  return sample.wide_result ? promote(result, DType::f32) : result;
}

Tolerance forward_tolerance(const OpSample& sample, DType dtype) {
  const bool wide = dtype == DType::f64 || dtype == DType::f32;
  Tolerance tolerance = rounding(dtype, wide ? sample.units_wide : sample.units_narrow);
  tolerance.absolute += tolerance.relative * sample.terms;  // a sum is as accurate as its terms are large
  tolerance.nan_allowed = sample.nan_allowed;
  return tolerance;
}

Tolerance gradient_tolerance(const OpSample& sample, DType dtype) {
  const bool wide = dtype == DType::f64 || dtype == DType::f32;
  return rounding(dtype, wide ? 4 * sample.units_gradient : sample.units_gradient);
}

void check_against_reference(const OpSample& sample, const Tensors& inputs) {
  Arrays arrays;
  for (const Tensor& input : inputs) {
    arrays.push_back(to_array(input));
  }
  const Tensors outputs = sample.call(inputs);
  const Arrays expected = sample.reference(arrays);
  REQUIRE(outputs.size() == expected.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const DType dtype = result_dtype(sample, inputs, i);
    check_close({fmt::format("{}, output {}", sample.name(), i), seed_of(sample)}, outputs[i], expected[i], dtype,
                forward_tolerance(sample, dtype));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("input " << i << " was changed");
    const std::vector<double> now = to_array(inputs[i]).data;
    CHECK((now.empty() || std::memcmp(now.data(), arrays[i].data.data(), now.size() * sizeof(double)) == 0));
  }
}

Tensors draw_upstream(const OpSample& sample, const Tensors& outputs) {
  Tensors upstream;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& output = outputs[i];
    // Another seed than the inputs': a gradient that is a multiple of the input hides much.
    const uint64_t seed = ~seed_of(sample) + i;
    upstream.push_back(is_floating(output.dtype()) ? random_tensor(output.shape(), seed, output.dtype()) : Tensor());
  }
  return upstream;
}

Run run_with_gradients(const OpSample& sample, const Tensors& inputs, const Tensors& upstream) {
  Tensors arguments;
  Tensors leaves;
  for (const Tensor& input : inputs) {
    Tensor argument = input.detach();
    if (sample.differentiable && is_floating(input.dtype())) {
      argument.set_requires_grad();
      leaves.push_back(argument);
    }
    arguments.push_back(argument);
  }
  Run run{sample.call(arguments), Tensors(inputs.size())};
  Tensors outputs;
  Tensors gradients;
  for (size_t i = 0; i < run.outputs.size(); ++i) {
    if (is_floating(run.outputs[i].dtype())) {
      outputs.push_back(run.outputs[i]);
      gradients.push_back(upstream.at(i));
    }
  }
  if (leaves.empty()) {
    return run;
  }
  const Tensors found = grad(outputs, leaves, gradients);
  size_t next = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (is_floating(inputs[i].dtype())) {
      run.gradients[i] = found[next++];
    }
  }
  return run;
}

Run run_with_gradients(const OpSample& sample, const Tensors& inputs) {
  return run_with_gradients(sample, inputs, draw_upstream(sample, sample.call(inputs)));
}

void check_same_run(std::string_view what, const OpSample& sample, const Run& actual, const Run& expected,
                    const Tolerance& outputs, const Tolerance& gradients) {
  REQUIRE(actual.outputs.size() == expected.outputs.size());
  for (size_t i = 0; i < actual.outputs.size(); ++i) {
    check_close({fmt::format("{}, {}, output {}", sample.name(), what, i), seed_of(sample)}, actual.outputs[i],
                expected.outputs[i], outputs);
  }
  for (size_t i = 0; i < actual.gradients.size(); ++i) {
    check_close({fmt::format("{}, {}, gradient of input {}", sample.name(), what, i), seed_of(sample)},
                actual.gradients[i], expected.gradients[i], gradients);
  }
}

void for_each_sample(std::string_view kind, const std::function<bool(const OpSample&)>& wanted,
                     const std::function<void(const OpSample&)>& check) {
  const char* chosen = std::getenv("DELTATAPE_OP");
  int64_t rows = 0;
  for (const OpSample& sample : op_samples()) {
    if (!wanted(sample) || (chosen != nullptr && sample.op != chosen && sample.name() != chosen)) {
      continue;
    }
    ++rows;
    const std::string name = fmt::format("{}: {}", sample.name(), kind);
    SUBCASE(name.c_str()) {
      INFO("again: DELTATAPE_OP='" << sample.name()
                                   << "' deltatape_tests --test-case='op samples: " << std::string(kind) << "'");
      check(sample);
    }
  }
  REQUIRE((rows > 0 || chosen != nullptr));
}

}  // namespace deltatape::test

#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "core/generator.h"

namespace deltatape {
namespace {

using Values = std::vector<double>;

constexpr const char* kOtherOutputs =
    "f returned other outputs than in its first call, expected the same number, shapes and dtypes";

double draw_normal(Generator& generator) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - generator.next_uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * generator.next_uniform());
}

Values draw_normals(int64_t count, Generator& generator) {
  Values values(static_cast<size_t>(count));
  for (double& value : values) {
    value = draw_normal(generator);
  }
  return values;
}

// The function under test with its inputs in memory that the check may change.
class Subject {
 public:
  Subject(std::string_view function, const TensorFunction& f, const std::vector<Tensor>& inputs)
      : function_(function), f_(f) {
    check(f != nullptr, function, "f is null, expected a function");
    bool any = false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& x = inputs[i];
      check(x.defined(), function, "input {} is undefined, expected a tensor", i);
      check(!is_floating(x.dtype()) || x.dtype() == DType::f64, function,
            "input {} has dtype {}, expected f64: central differences in a narrower type are too rough (near 1e-3 in "
            "f32) and hide real mistakes",
            i, x.dtype());
      any = any || is_floating(x.dtype());
      inputs_.push_back(x.dtype() == DType::f64 ? from_vector(x.to_vector<double>(), x.shape()) : x.detach());
    }
    check(any, function, "no input is floating point, expected at least one to differentiate");
    const NoGradGuard guard;
    for (const Tensor& output : f_(inputs_)) {
      check(output.defined(), function, "f returned an undefined tensor, expected tensors");
      if (is_floating(output.dtype())) {
        check(output.dtype() == DType::f64, function, "an output has dtype {}, expected f64", output.dtype());
        shapes_.push_back(output.shape());
      }
    }
    check(!shapes_.empty(), function, "f returned no floating-point tensor, expected at least one");
  }

  // The floating-point outputs of f at `inputs`; they must be like those of the first call.
  [[nodiscard]] std::vector<Tensor> outputs(const std::vector<Tensor>& inputs) const {
    std::vector<Tensor> found;
    for (const Tensor& output : f_(inputs)) {
      if (output.defined() && is_floating(output.dtype())) {
        found.push_back(output);
      }
    }
    bool same = found.size() == shapes_.size();
    for (size_t i = 0; same && i < found.size(); ++i) {
      same = found[i].shape() == shapes_[i] && found[i].dtype() == DType::f64;
    }
    check(same, function_, "{}", kOtherOutputs);
    return found;
  }

  [[nodiscard]] const std::vector<Tensor>& inputs() const { return inputs_; }
  [[nodiscard]] const Shape& shape(size_t output) const { return shapes_[output]; }

  // The outputs at the present inputs, as numbers, floating-point ones only.
  [[nodiscard]] std::vector<Values> values() const {
    const NoGradGuard guard;
    std::vector<Values> values;
    for (const Tensor& output : outputs(inputs_)) {
      values.push_back(output.to_vector<double>());
    }
    return values;
  }

  // (f(x + h d) - f(x - h d)) . u / 2h, differences first: the sum has no large terms that cancel.
  [[nodiscard]] double difference(size_t input, const std::vector<Values>& upstream, double step,
                                  const std::function<void(double*, double)>& move) const {
    Tensor x = inputs_[input];
    auto* data = x.mutable_data<double>();
    const Values before(data, data + x.numel());
    move(data, step);
    const std::vector<Values> above = values();
    std::copy(before.begin(), before.end(), data);
    move(data, -step);
    const std::vector<Values> below = values();
    std::copy(before.begin(), before.end(), data);
    double sum = 0.0;
    for (size_t i = 0; i < upstream.size(); ++i) {
      for (size_t j = 0; j < upstream[i].size(); ++j) {
        sum += upstream[i][j] * (above[i][j] - below[i][j]);
      }
    }
    return sum / (2.0 * step);
  }

  // The tape's gradients, in the order of the inputs (empty for integer ones).
  [[nodiscard]] std::vector<Values> analytic(const std::vector<Values>& upstream) const {
    const EnableGradGuard guard;
    std::vector<Tensor> leaves;
    for (const Tensor& x : inputs_) {
      leaves.push_back(x.detach());
      if (is_floating(x.dtype())) {
        leaves.back().set_requires_grad();
      }
    }
    std::vector<Tensor> roots;
    std::vector<Tensor> grads;
    size_t next = 0;
    for (const Tensor& output : outputs(leaves)) {
      const Values& u = upstream[next++];
      if (output.requires_grad()) {
        roots.push_back(output);
        grads.push_back(from_vector(u, output.shape()));
      }
    }
    if (!roots.empty()) {
      backward(roots, grads);
    }
    std::vector<Values> gradients;
    for (const Tensor& leaf : leaves) {
      const Tensor gradient = leaf.requires_grad() ? leaf.grad() : Tensor();
      gradients.push_back(gradient.defined() ? gradient.to_vector<double>()
                                             : Values(static_cast<size_t>(leaf.numel()), 0.0));
    }
    return gradients;
  }

 private:
  std::string_view function_;
  const TensorFunction& f_;
  std::vector<Tensor> inputs_;
  std::vector<Shape> shapes_;  // of the floating-point outputs
};

// Keeps the comparison that uses most of its limit.
class Worst {
 public:
  Worst(size_t input, const GradcheckOptions& options) : options_(options) { result_.input = input; }

  void compare(const Shape& index, double analytic, double numeric, double step) {
    const double limit = options_.atol + options_.rtol * std::abs(numeric);
    const double difference = std::abs(analytic - numeric);
    const bool ok = difference <= limit;  // false for NaN
    const double share = std::isfinite(difference) ? difference / limit : std::numeric_limits<double>::infinity();
    if (result_.comparisons++ == 0 || share > share_) {
      share_ = share;
      result_.index = index;
      result_.analytic = analytic;
      result_.numeric = numeric;
      result_.step = step;
      result_.limit = limit;
    }
    result_.ok = result_.ok && ok;
  }
  [[nodiscard]] const GradcheckInput& result() const { return result_; }

 private:
  const GradcheckOptions& options_;
  GradcheckInput result_;
  double share_ = 0.0;
};

Shape unravel(int64_t position, const Shape& shape) {
  Shape index = Shape::filled(shape.rank(), 0);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return index;
}

GradcheckInput check_elements(const Subject& subject, size_t input, const std::vector<Values>& upstream,
                              const Values& analytic, const GradcheckOptions& options) {
  Worst worst(input, options);
  const Tensor& x = subject.inputs()[input];
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double step = options.step * std::max(1.0, std::abs(x.data<double>()[i]));
    const double numeric = subject.difference(input, upstream, step, [i](double* data, double h) { data[i] += h; });
    worst.compare(unravel(i, x.shape()), analytic[static_cast<size_t>(i)], numeric, step);
  }
  return worst.result();
}

GradcheckInput check_directions(const Subject& subject, size_t input, const std::vector<Values>& upstream,
                                const Values& analytic, const GradcheckOptions& options, Generator& generator) {
  Worst worst(input, options);
  const Tensor& x = subject.inputs()[input];
  for (int64_t n = 0; n < options.directions && x.numel() > 0; ++n) {
    Values direction = draw_normals(x.numel(), generator);
    double length = 0.0;
    for (const double d : direction) {
      length += d * d;
    }
    double expected = 0.0;
    for (size_t i = 0; i < direction.size(); ++i) {
      direction[i] /= std::sqrt(length);
      expected += analytic[i] * direction[i];
    }
    const double numeric = subject.difference(input, upstream, options.step, [&](double* data, double h) {
      for (size_t i = 0; i < direction.size(); ++i) {
        data[i] += h * direction[i];
      }
    });
    worst.compare({n}, expected, numeric, options.step);
  }
  return worst.result();
}

GradcheckReport run(std::string_view function, const TensorFunction& f, const std::vector<Tensor>& inputs,
                    const GradcheckOptions& options) {
  check(options.step > 0.0, function, "options.step is {}, expected more than 0", options.step);
  check(options.directions >= 0, function, "options.directions is {}, expected 0 or more", options.directions);
  const Subject subject(function, f, inputs);
  Generator generator(options.seed);
  std::vector<Values> upstream;
  for (const Values& output : subject.values()) {
    upstream.push_back(draw_normals(static_cast<int64_t>(output.size()), generator));
  }
  const std::vector<Values> analytic = subject.analytic(upstream);
  GradcheckReport report;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_floating(inputs[i].dtype())) {
      continue;
    }
    report.inputs.push_back(options.directions == 0
                                ? check_elements(subject, i, upstream, analytic[i], options)
                                : check_directions(subject, i, upstream, analytic[i], options, generator));
    report.ok = report.ok && report.inputs.back().ok;
  }
  return report;
}

}  // namespace

std::string GradcheckReport::text() const {
  std::string lines;
  for (const GradcheckInput& input : inputs) {
    lines += fmt::format(
        "input {}: {} ({} comparisons); worst at {}: analytic {:.9g}, numeric {:.9g}, difference {:.2e}, limit {:.2e}, "
        "step {:.1e}\n",
        input.input, input.ok ? "ok" : "FAILED", input.comparisons, input.index, input.analytic, input.numeric,
        std::abs(input.analytic - input.numeric), input.limit, input.step);
  }
  return lines;
}

GradcheckReport gradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  return run("gradcheck", f, inputs, options);
}

GradcheckReport gradgradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                              const GradcheckOptions& options) {
  // The upstream gradients become inputs too: the gradient is a function of both.
  std::vector<Tensor> all = inputs;
  Generator generator(options.seed + 1);
  {
    const Subject subject("gradgradcheck", f, inputs);
    for (const Values& output : subject.values()) {
      all.push_back(from_vector(draw_normals(static_cast<int64_t>(output.size()), generator),
                                subject.shape(all.size() - inputs.size())));
    }
  }
  const TensorFunction gradient = [&f, count = inputs.size()](const std::vector<Tensor>& x) {
    const bool recorded = grad_enabled();
    const EnableGradGuard guard;
    std::vector<Tensor> arguments;
    std::vector<Tensor> sources;
    for (size_t i = 0; i < count; ++i) {
      arguments.push_back(recorded ? x[i] : x[i].detach());
      if (is_floating(x[i].dtype())) {
        arguments.back().set_requires_grad();
        sources.push_back(arguments.back());
      }
    }
    std::vector<Tensor> roots;
    std::vector<Tensor> upstream;
    size_t next = count;
    for (const Tensor& output : f(arguments)) {
      if (is_floating(output.dtype())) {
        check(next < x.size() && x[next].shape() == output.shape(), "gradgradcheck", "{}", kOtherOutputs);
        if (output.requires_grad()) {
          roots.push_back(output);
          upstream.push_back(x[next]);
        }
        ++next;
      }
    }
    check(next == x.size(), "gradgradcheck", "{}", kOtherOutputs);
    std::vector<Tensor> gradients(sources.size());
    if (!roots.empty()) {
      gradients = grad(roots, sources, upstream, {.create_graph = recorded, .allow_unused = true});
    }
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) {
        gradients[i] = from_vector(Values(static_cast<size_t>(sources[i].numel()), 0.0), sources[i].shape());
      }
    }
    return gradients;
  };
  return run("gradgradcheck", gradient, all, options);
}

}  // namespace deltatape

#include "tools/model_gradients.h"

#include <algorithm>
#include <cmath>

#include "autograd/grad_mode.h"
#include "ops/ops.h"

namespace deltatape::tools {
namespace {

constexpr double kStep = 1e-3;  // the rule is of order 4, so rounding and truncation are both far below the limit
constexpr double kRelativeLimit = 1e-5;
constexpr double kAbsoluteLimit = 1e-10;

Tensor loss_of(const nn::KDAForCausalLM& model, const Batch& batch) {
  return cross_entropy(model.forward(batch.ids), batch.targets);
}

std::vector<double> unit_direction(const Tensor& parameter, Generator& generator) {
  auto direction = randn(parameter.shape(), generator, {DType::f64, Device::cpu()}).to_vector<double>();
  double squares = 0.0;
  for (const double x : direction) {
    squares += x * x;
  }
  for (double& x : direction) {
    x /= std::sqrt(squares);
  }
  return direction;
}

// The loss with `parameter` moved by `distance` along `direction`; the parameter is put back to the bit.
double loss_at(const nn::KDAForCausalLM& model, const Batch& batch, Tensor& parameter,
               const std::vector<double>& direction, double distance) {
  const std::vector<double> before = parameter.to_vector<double>();
  auto* values = parameter.mutable_data<double>();
  for (size_t i = 0; i < before.size(); ++i) {
    values[i] = before[i] + distance * direction[i];
  }
  const double loss = loss_of(model, batch).item();
  std::copy(before.begin(), before.end(), parameter.mutable_data<double>());
  return loss;
}

}  // namespace

std::vector<DirectionalDerivative> check_model_gradients(const nn::KDAForCausalLM& model, const Batch& batch,
                                                         uint64_t seed) {
  Generator generator(seed);
  nn::KDAForCausalLM copy(model.config(), generator);
  nn::StateDict state;
  for (const auto& [name, tensor] : model.state_dict()) {
    state[name] = to(tensor, Device::cpu());
  }
  copy.load_state_dict(state);
  copy.to(DType::f64);
  for (size_t i = 0; i < copy.model.layers.size(); ++i) {
    const nn::KimiDeltaAttention& attn = model.model.layers[i]->attn;
    copy.model.layers[i]->attn.set_implementation(attn.implementation(), attn.chunk_size());
  }
  loss_of(copy, batch).backward();

  const NoGradGuard no_grad;
  std::vector<DirectionalDerivative> derivatives;
  for (auto& [name, parameter] : copy.named_parameters()) {
    DirectionalDerivative result;
    result.parameter = name;
    result.shape = parameter.shape();
    const auto direction = unit_direction(parameter, generator);
    const Tensor grad = parameter.grad();
    const auto gradient = grad.defined() ? grad.to_vector<double>() : std::vector<double>(direction.size(), 0.0);
    for (size_t i = 0; i < direction.size(); ++i) {
      result.analytic += gradient[i] * direction[i];
    }
    Tensor values = parameter.detach();
    const auto at = [&](double distance) { return loss_at(copy, batch, values, direction, distance); };
    result.numeric = (8.0 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12.0 * kStep);
    const double difference = std::abs(result.analytic - result.numeric);
    result.relative_error = difference / (std::abs(result.numeric) + 1e-300);
    result.ok = difference <= kAbsoluteLimit + kRelativeLimit * std::abs(result.numeric);
    derivatives.push_back(std::move(result));
  }
  return derivatives;
}

Table to_table(const std::vector<DirectionalDerivative>& derivatives) {
  Table table({"parameter", "shape", "analytic", "numeric", "relative_error", "verdict"});
  for (const auto& row : derivatives) {
    table.add_row({row.parameter, to_string(row.shape), Cell(row.analytic, 8), Cell(row.numeric, 8),
                   Cell(row.relative_error, 1), row.ok ? "ok" : "FAILED"});
  }
  return table;
}

bool all_ok(const std::vector<DirectionalDerivative>& derivatives) {
  return std::all_of(derivatives.begin(), derivatives.end(), [](const auto& row) { return row.ok; });
}

}  // namespace deltatape::tools

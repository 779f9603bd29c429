#include "ops/convolution.h"

#include <array>
#include <vector>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/reduction.h"
#include "ops/sequences.h"

namespace deltatape {
namespace {

// The convolution is linear in x and in weight, so its gradients are two further bilinear functions, and the gradients
// of those are again these three:
//   <u, dx(weight, dy)> = <dy, conv(u, weight)>   and   <v, dweight(x, dy)> = <dy, conv(x, v)>   for every u, v.

struct ConvolutionGradients {
  Tensor dx;
  Tensor dweight;
};

Tensor convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts);

// Both gradients in one pass; the unwanted one stays undefined.
ConvolutionGradients convolution_gradients(const Tensor& x, const Tensor& weight, const Tensor& starts,
                                           const Tensor& dy, bool want_dx, bool want_dweight) {
  ConvolutionGradients gradients;
  if (!want_dx && !want_dweight) {
    return gradients;
  }
  std::vector<Tensor> outputs;
  if (want_dx) {
    outputs.push_back(gradients.dx = empty(x.shape(), x.options()));
  }
  if (want_dweight) {
    outputs.push_back(gradients.dweight = empty(weight.shape(), weight.options()));
  }
  backend_of(x).causal_conv1d_backward(x, weight, starts, dy, gradients.dx, gradients.dweight);
  const std::array<Tensor, 3> inputs{x, weight, dy};
  record_all(
      "causal_conv1d_backward", outputs, inputs,
      [x = Saved(x), weight = Saved(weight), dy = Saved(dy), starts, want_dx, want_dweight](const RuleContext& c) {
        const bool has_u = want_dx && c.has_grad(0);
        const size_t v_output = want_dx ? 1 : 0;
        const bool has_v = want_dweight && c.has_grad(v_output);
        Gradients result(3);
        if (has_v && c.needs_grad(0)) {
          result[0] = convolution_gradients(x, c.grad(v_output), starts, dy, true, false).dx;
        }
        if (has_u && c.needs_grad(1)) {
          result[1] = convolution_gradients(c.grad(0), weight, starts, dy, false, true).dweight;
        }
        if (c.needs_grad(2)) {
          const Tensor from_u = has_u ? convolution(c.grad(0), weight, Tensor(), starts) : Tensor();
          const Tensor from_v = has_v ? convolution(x, c.grad(v_output), Tensor(), starts) : Tensor();
          result[2] = !has_v ? from_u : !has_u ? from_v : add(from_u, from_v);
        }
        return result;
      });
  return gradients;
}

Tensor convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts) {
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).causal_conv1d(x, weight, bias, starts, out);
  return record("causal_conv1d", std::move(out), {x, weight, bias},
                [x = Saved(x), weight = Saved(weight), starts](const RuleContext& c) {
                  const Tensor& dy = c.grad(0);
                  auto [dx, dweight] = convolution_gradients(x, weight, starts, dy, c.needs_grad(0), c.needs_grad(1));
                  return Gradients{dx, dweight, c.needs_grad(2) ? sum(dy, {0, 1}) : Tensor()};
                });
}

void check_parameter(std::string_view argument, const Tensor& parameter, const Tensor& x) {
  check_same_dtype("causal_conv1d", argument, parameter, x);
  check_same_device("causal_conv1d", argument, parameter, x);
}

}  // namespace

Tensor causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& cu_seqlens) {
  check_defined("causal_conv1d", "x", x);
  check_defined("causal_conv1d", "weight", weight);
  check_floating("causal_conv1d", "x", x);
  check_rank("causal_conv1d", "x", x, 3, "[B, T, D]");
  check_parameter("weight", weight, x);
  check_rank("causal_conv1d", "weight", weight, 2, "[D, W]");
  check(weight.shape()[0] == x.shape()[2] && weight.shape()[1] >= 1, "causal_conv1d",
        "weight has shape {}, expected [D, W] = [{}, 1 or more]", weight.shape(), x.shape()[2]);
  if (bias.defined()) {
    check_parameter("bias", bias, x);
    check_shape("causal_conv1d", "bias", bias, {x.shape()[2]}, "[D]");
  }
  Tensor starts;
  if (cu_seqlens.defined()) {
    starts = sequence_starts(checked_cu_seqlens("causal_conv1d", cu_seqlens, x.shape()[0], x.shape()[1]), x.device());
  }
  return convolution(x, weight, bias, starts);
}

}  // namespace deltatape

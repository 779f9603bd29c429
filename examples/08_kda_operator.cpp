// The operator by itself: Kimi Delta Attention over two packed texts, fused and composed, and their gradients side by
// side.
#include <cmath>
#include <iostream>

#include "deltatape.h"

using namespace deltatape;

namespace {

// The largest difference between two tensors, over the largest element.
double difference(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item() / max(abs(b)).item(); }

}  // namespace

int main() {
  Generator generator(1);
  const int64_t T = 100, H = 2, K = 32, V = 48;
  const auto normal = [&](const Shape& shape) { return randn(shape, generator); };

  kda::Inputs in;
  in.q = normal({1, T, H, K}).set_requires_grad();
  in.k = normal({1, T, H, K}).set_requires_grad();
  in.v = normal({1, T, H, V}).set_requires_grad();
  in.g = normal({1, T, H, K}).set_requires_grad();  // logits: the gate is part of the operator
  in.beta = normal({1, T, H}).set_requires_grad();
  in.A_log = zeros({H}).set_requires_grad();
  in.cu_seqlens = from_vector<int64_t>({0, 37, T});  // two texts, each with its own state

  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.output_final_state = true;

  const kda::Shapes shapes{
      .B = 1, .T = T, .H = H, .HV = H, .K = K, .V = V, .cu_seqlens = true, .lengths = {37, T - 37}};
  std::cout << kda::plan(options, shapes, Device::cpu()).text << "\n";

  // The gradients of one implementation: the hand-written backward, or the tape through the recurrence.
  const std::vector<Tensor> inputs{in.q, in.k, in.v, in.g, in.beta, in.A_log};
  const auto gradients = [&](kda::Implementation implementation) {
    const kda::Output out = kda::run(implementation, in, options);
    const Tensor loss = mean(square(out.o)) + mean(square(out.final_state));
    return grad(std::vector<Tensor>{loss}, inputs);
  };
  const std::vector<Tensor> fused = gradients(kda::Implementation::fused_chunk);
  const std::vector<Tensor> tape = gradients(kda::Implementation::recurrent);
  bool ok = true;
  const char* names[] = {"dq", "dk", "dv", "dg", "dbeta", "dA_log"};
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double error = difference(fused[i], tape[i]);
    std::cout << names[i] << ": " << error << "\n";
    ok = ok && error < 1e-5;
  }
  return ok ? 0 : 1;
}

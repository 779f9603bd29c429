// A whole training loop: a small network learns to tell two interleaved spirals apart.
#include <cmath>
#include <iostream>
#include <numbers>

#include "deltatape.h"

using namespace deltatape;

struct Network : nn::Module {
  explicit Network(Generator& generator)
      : Module("Network"),
        hidden(2, 32, generator, true, 1.0),
        middle(32, 32, generator, true, 0.3),
        output(32, 2, generator, true, 0.3) {
    register_module("hidden", hidden);
    register_module("middle", middle);
    register_module("output", output);
  }
  Tensor forward(const Tensor& x) const { return output.forward(tanh(middle.forward(tanh(hidden.forward(x))))); }

  nn::Linear hidden;
  nn::Linear middle;
  nn::Linear output;
};

int main() {
  std::vector<float> points;
  std::vector<int64_t> labels;
  for (int i = 0; i < 400; ++i) {
    const double radius = 0.2 + 0.8 * (i / 2) / 200.0;
    const double angle = 3.0 * std::numbers::pi * radius + std::numbers::pi * (i % 2);
    points.push_back(static_cast<float>(radius * std::cos(angle)));
    points.push_back(static_cast<float>(radius * std::sin(angle)));
    labels.push_back(i % 2);
  }
  const Tensor x = from_vector(points, {400, 2});
  const Tensor target = from_vector(labels);

  Generator generator(1);
  Network network(generator);
  nn::AdamW optimizer(network.named_parameters(), {.learning_rate = 1e-2, .weight_decay = 0.0});
  for (int step = 0; step <= 500; ++step) {
    const Tensor logits = network.forward(x);
    const Tensor loss = cross_entropy(logits, target);
    if (step % 100 == 0) {
      const double accuracy = mean(to(eq(argmax(logits, -1), target), DType::f32)).item();
      std::cout << "step " << step << ": loss " << loss.item() << ", accuracy " << accuracy << "\n";
    }
    optimizer.zero_grad();
    loss.backward();
    nn::clip_grad_norm(network.parameters(), 1.0);
    optimizer.step();
  }
  return cross_entropy(network.forward(x), target).item() < 0.1 ? 0 : 1;
}

#include <iostream>

#include "deltatape.h"

using namespace deltatape;

int main() {
  Generator generator(0);
  nn::KDAConfig config;  // flash-linear-attention's keys and defaults
  config.vocab_size = 16;
  config.hidden_size = 32;
  config.num_heads = 2;
  config.head_dim = 16;
  config.num_hidden_layers = 1;
  nn::KDAForCausalLM model(config, generator);
  nn::AdamW optimizer(model.named_parameters(), {.learning_rate = 3e-3});

  for (int step = 0; step < 200; ++step) {
    const Tensor count = randint(0, 16, {8, 1}, generator) + arange(24);  // 5, 6, 7, ... in every row,
    const Tensor ids = count - 16.0 * (to(ge(count, 16.0), DType::i64) + to(ge(count, 32.0), DType::i64));  // mod 16
    const Tensor loss = nn::causal_lm_loss(model.forward(ids), ids);
    optimizer.zero_grad();
    loss.backward();
    nn::clip_grad_norm(model.parameters(), 1.0);
    optimizer.step();
    if (step % 50 == 0) {
      std::cout << "step " << step << ": loss " << loss.item() << "\n";
    }
  }
}

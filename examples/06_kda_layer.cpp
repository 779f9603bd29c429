// One KimiDeltaAttention layer learns associative recall: after pairs "key value key value ...", a key is shown again
// and its value has to be named. The state of the layer is the memory that holds the pairs.
#include <algorithm>
#include <iostream>
#include <numeric>

#include "deltatape.h"

using namespace deltatape;

namespace {

constexpr int64_t kKeys = 8;
constexpr int64_t kValues = 8;
constexpr int64_t kPairs = 4;
constexpr int64_t kLength = 2 * kPairs + 1;
constexpr int64_t kBatch = 32;

struct Batch {
  Tensor ids;     // i64 [kBatch, kLength]
  Tensor answer;  // i64 [kBatch]
};

Batch draw(Generator& generator) {
  std::vector<int64_t> ids;
  std::vector<int64_t> answer;
  for (int64_t b = 0; b < kBatch; ++b) {
    std::vector<int64_t> keys(kKeys);
    std::iota(keys.begin(), keys.end(), 0);
    std::vector<int64_t> values;
    for (size_t i = 0; i < kPairs; ++i) {
      std::swap(keys[i], keys[i + generator.next_below(kKeys - i)]);
      values.push_back(kKeys + static_cast<int64_t>(generator.next_below(kValues)));
      ids.push_back(keys[i]);
      ids.push_back(values[i]);
    }
    const uint64_t asked = generator.next_below(kPairs);
    ids.push_back(keys[asked]);
    answer.push_back(values[asked]);
  }
  return {from_vector(ids, {kBatch, kLength}), from_vector(answer)};
}

struct Recall : nn::Module {
  explicit Recall(Generator& generator)
      : Module("Recall"),
        embedding(kKeys + kValues, 32, generator, 1.0),
        layer(config(), generator),
        head(32, kKeys + kValues, generator, false, 0.1) {
    register_module("embedding", embedding);
    register_module("layer", layer);
    register_module("head", head);
  }
  static nn::KDALayerConfig config() {
    nn::KDALayerConfig config;
    config.hidden_size = 32;
    config.num_heads = 2;
    config.head_dim = 16;
    config.initializer_range = 0.1;
    return config;
  }
  // Logits of the answer: what the layer says at the last position.
  Tensor forward(const Tensor& ids) const {
    const Tensor x = embedding.forward(ids);
    return head.forward(select(x + layer.forward(x), 1, -1));
  }

  nn::Embedding embedding;
  nn::KimiDeltaAttention layer;
  nn::Linear head;
};

}  // namespace

int main() {
  Generator generator(3);
  Recall model(generator);
  nn::AdamW optimizer(model.named_parameters(), {.learning_rate = 1e-2, .weight_decay = 0.0});
  double recent = 0.0;
  for (int step = 1; step <= 400; ++step) {
    const Batch batch = draw(generator);
    const Tensor logits = model.forward(batch.ids);
    const Tensor loss = cross_entropy(logits, batch.answer);
    optimizer.zero_grad();
    loss.backward();
    nn::clip_grad_norm(model.parameters(), 1.0);
    optimizer.step();
    const double accuracy = mean(to(eq(argmax(logits, -1), batch.answer), DType::f32)).item();
    recent = step == 1 ? accuracy : 0.95 * recent + 0.05 * accuracy;
    if (step % 100 == 0 || step == 1) {
      std::cout << "step " << step << ": loss " << loss.item() << ", recent accuracy " << recent << "\n";
    }
  }
  return recent > 0.9 ? 0 : 1;  // guessing gives 0.125
}

#include "nn/kda_model.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "nn/optimizer.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/random.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

nn::KDAConfig tiny_config() {
  nn::KDAConfig c;
  c.hidden_size = 12;
  c.num_heads = 1;
  c.num_v_heads = 2;
  c.head_dim = 6;
  c.expand_v = 0.5;
  c.num_hidden_layers = 2;
  c.intermediate_size = 10;
  c.vocab_size = 17;
  c.initializer_range = 0.4;  // large, so that every part matters
  return c;
}

std::vector<kda::Implementation> kda_implementations() {
  return {kda::Implementation::automatic, kda::Implementation::recurrent, kda::Implementation::chunk,
          kda::Implementation::fused_recurrent, kda::Implementation::fused_chunk};
}

Tensor random_ids(const Shape& shape, uint64_t seed, int64_t vocabulary = 17) {
  Generator generator(seed);
  return randint(0, vocabulary, shape, generator);
}

TEST_CASE("KDAForCausalLM: FLA's parameter names and shapes") {
  Generator generator(1);
  nn::KDAConfig config = tiny_config();
  config.num_hidden_layers = 1;
  const nn::KDAForCausalLM model(config, generator);
  const std::vector<std::pair<std::string, Shape>> expected{
      {"model.embeddings.weight", {17, 12}},
      {"model.layers.0.attn_norm.weight", {12}},
      {"model.layers.0.attn.q_proj.weight", {6, 12}},
      {"model.layers.0.attn.k_proj.weight", {6, 12}},
      {"model.layers.0.attn.v_proj.weight", {6, 12}},
      {"model.layers.0.attn.q_conv1d.weight", {6, 1, 4}},
      {"model.layers.0.attn.k_conv1d.weight", {6, 1, 4}},
      {"model.layers.0.attn.v_conv1d.weight", {6, 1, 4}},
      {"model.layers.0.attn.f_proj.0.weight", {3, 12}},
      {"model.layers.0.attn.f_proj.1.weight", {12, 3}},
      {"model.layers.0.attn.b_proj.weight", {2, 12}},
      {"model.layers.0.attn.A_log", {2}},
      {"model.layers.0.attn.dt_bias", {12}},
      {"model.layers.0.attn.g_proj.0.weight", {3, 12}},
      {"model.layers.0.attn.g_proj.1.weight", {6, 3}},
      {"model.layers.0.attn.g_proj.1.bias", {6}},
      {"model.layers.0.attn.o_norm.weight", {3}},
      {"model.layers.0.attn.o_proj.weight", {12, 6}},
      {"model.layers.0.mlp_norm.weight", {12}},
      {"model.layers.0.mlp.gate_proj.weight", {10, 12}},
      {"model.layers.0.mlp.up_proj.weight", {10, 12}},
      {"model.layers.0.mlp.down_proj.weight", {12, 10}},
      {"model.norm.weight", {12}},
      {"lm_head.weight", {17, 12}},
  };
  const nn::StateDict state = model.state_dict();
  CHECK(state.size() == expected.size());
  for (const auto& named : expected) {
    const std::string& name = named.first;
    const Shape& shape = named.second;
    CAPTURE(name);
    REQUIRE(state.count(name) == 1);
    CHECK(state.at(name).shape() == shape);
  }
  config.tie_word_embeddings = true;
  config.use_short_conv = false;
  const nn::KDAForCausalLM tied(config, generator);
  CHECK(tied.state_dict().size() == expected.size() - 4);
  CHECK(tied.state_dict().count("lm_head.weight") == 0);
}

TEST_CASE("KDAForCausalLM: FLA's initial values") {
  nn::KDAConfig config = tiny_config();
  config.hidden_size = 64;
  config.initializer_range = 0.02;
  config.num_v_heads = 16;
  Generator generator(2);
  const nn::KDAForCausalLM model(config, generator);
  const auto& attn = model.model.layers[0]->attn;
  double squares = 0.0;
  const auto weights = model.model.embeddings.weight.to_vector<double>();
  for (const double w : weights) {
    squares += w * w;
  }
  CHECK(std::fabs(std::sqrt(squares / static_cast<double>(weights.size())) - 0.02) <= 0.002);
  for (const double a : attn.A_log.to_vector<double>()) {
    CHECK((a >= 0.0 && a <= std::log(16.0) + 1e-6));
  }
  for (const double b : attn.dt_bias.to_vector<double>()) {
    const double d = std::log1p(std::exp(b));
    CHECK((d >= 0.000999 && d <= 0.1001));
  }
  CHECK(attn.o_norm.weight.to_vector<float>() == std::vector<float>(3, 1.0F));
  config.safe_gate = true;
  const nn::KDAForCausalLM safe(config, generator);
  CHECK(safe.model.layers[0]->attn.A_log.to_vector<float>() == std::vector<float>(16, 0.0F));
  Generator again(2);
  config.safe_gate = false;
  const nn::KDAForCausalLM same(config, again);
  CHECK(same.model.embeddings.weight.to_vector<float>() == model.model.embeddings.weight.to_vector<float>());
}

TEST_CASE("KDAForCausalLM: all implementations give the same logits and gradients") {
  const Tensor ids = random_ids({2, 21}, 3);
  for (const bool bounded : {false, true}) {
    nn::KDAConfig config = tiny_config();
    config.allow_neg_eigval = bounded;
    config.tie_word_embeddings = bounded;
    if (bounded) {
      config.lower_bound = -5.0;
    }
    Generator generator(4);
    nn::KDAForCausalLM model(config, generator);
    model.to(DType::f64);
    const auto run = [&](kda::Implementation implementation) {
      model.set_implementation(implementation, 16);
      model.zero_grad();
      const Tensor logits = model.forward(ids);
      nn::causal_lm_loss(logits, ids).backward();
      std::vector<Tensor> results{logits.detach()};
      for (const Tensor& parameter : model.parameters()) {
        results.push_back(parameter.grad());
      }
      return results;
    };
    const auto expected = run(kda::Implementation::recurrent);
    for (const auto implementation : kda_implementations()) {
      CAPTURE(kda::name_of(implementation));
      const auto results = run(implementation);
      for (size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(test::relative_error(results[i], expected[i]) <= 1e-10);
      }
    }
  }
}

TEST_CASE("KDAForCausalLM: packed documents equal the documents one by one") {
  Generator generator(5);
  nn::KDAForCausalLM model(tiny_config(), generator);
  model.to(DType::f64);
  const std::vector<int64_t> bounds{0, 5, 5, 6, 25, 30};
  const Tensor ids = random_ids({1, 30}, 6);
  for (const auto implementation : kda_implementations()) {
    CAPTURE(kda::name_of(implementation));
    model.set_implementation(implementation, 16);
    const Tensor packed = model.forward(ids, from_vector(bounds));
    for (size_t n = 0; n + 1 < bounds.size(); ++n) {
      if (bounds[n] < bounds[n + 1]) {
        const Slice range{bounds[n], bounds[n + 1]};
        const Tensor alone = model.forward(slice(ids, 1, range));
        CHECK(test::relative_error(slice(packed, 1, range), alone) <= 1e-12);
      }
    }
  }
}

TEST_CASE("KDAForCausalLM::forward_next: pieces of any length equal one pass") {
  for (const bool short_conv : {true, false}) {
    nn::KDAConfig config = tiny_config();
    config.use_short_conv = short_conv;
    Generator generator(7);
    nn::KDAForCausalLM model(config, generator);
    model.to(DType::f64);
    const Tensor ids = random_ids({2, 30}, 8);
    const Tensor all = model.forward(ids);
    nn::KDACache cache;
    int64_t from = 0;
    for (const int64_t length : {1, 1, 2, 19, 1, 5, 1}) {
      const Slice range{from, from + length};
      CHECK(test::relative_error(model.forward_next(slice(ids, 1, range), cache), slice(all, 1, range)) <= 1e-12);
      from += length;
    }
    CHECK(cache.length == 30);
  }
}

TEST_CASE("KDAForCausalLM::forward_next: an Error leaves the cache as it was") {
  Generator generator(7);
  nn::KDAForCausalLM model(tiny_config(), generator);
  nn::KDACache cache;
  CHECK_ERROR(model.model.forward_next(zeros({3}, {DType::i64, Device::cpu()}), cache),
              "KDAModel: ids is i64[3] cpu, expected i64 [B, T]");
  CHECK(cache.layers.empty());
  static_cast<void>(model.forward_next(random_ids({1, 5}, 8), cache));
  // The second layer's state does not fit: the first layer must not have moved on.
  cache.layers[1].v_conv = zeros({1, 9, 6});
  const Tensor before = cache.layers[0].q_conv;
  CHECK(test::error_of([&] {
          static_cast<void>(model.forward_next(random_ids({1, 1}, 9), cache));
        }) != "(no Error was thrown)");
  CHECK(cache.length == 5);
  CHECK(cache.layers[0].q_conv.is_same(before));
}

TEST_CASE("KDAForCausalLM: the loss's gradients equal central differences") {
  nn::KDAConfig config = tiny_config();
  config.num_hidden_layers = 1;
  Generator generator(9);
  nn::KDAForCausalLM model(config, generator);
  model.to(DType::f64);
  const Tensor ids = random_ids({1, 6}, 10);
  const double step = 1e-5;
  nn::causal_lm_loss(model.forward(ids), ids).backward();
  for (const auto& named : model.named_parameters()) {
    // Along one random direction per parameter.
    CAPTURE(named.first);
    const Tensor& parameter = named.second;
    const Tensor direction = randn(parameter.shape(), generator, {DType::f64, Device::cpu()});
    const auto loss_at = [&](double shift) {
      const NoGradGuard guard;
      Tensor p = parameter;
      const Tensor before = clone(p);
      add_(p, direction, shift);
      const double loss = nn::causal_lm_loss(model.forward(ids), ids).item();
      copy_(p, before);
      return loss;
    };
    const double numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
    const double analytic = sum(mul(parameter.grad(), direction)).item();
    CHECK(std::fabs(analytic - numeric) <= 1e-8 + 1e-6 * std::fabs(numeric));
  }
}

TEST_CASE("causal_lm_loss: position t is judged by the label at t + 1; -100 does not count") {
  const Tensor logits = log(from_vector(std::vector<double>{0.5, 0.5, 0.25, 0.75, 0.9, 0.1}, {1, 3, 2}));
  const auto loss = [&](const std::vector<int64_t>& labels) {
    return nn::causal_lm_loss(logits, from_vector(labels, {1, 3})).item();
  };
  CHECK(std::fabs(loss({0, 1, 0}) - (-std::log(0.5) - std::log(0.25)) / 2) <= 1e-15);
  CHECK(std::fabs(loss({-100, 1, 0}) - (-std::log(0.5) - std::log(0.25)) / 2) <= 1e-15);
  CHECK(std::fabs(loss({0, -100, 1}) + std::log(0.75)) <= 1e-15);
  CHECK(std::isnan(loss({0, -100, -100})));
  CHECK_ERROR(nn::causal_lm_loss(logits, zeros({1, 2}, {DType::i64, Device::cpu()})),
              "causal_lm_loss: labels has shape [1, 2], expected [B, T] = [1, 3]");
}

TEST_CASE("KDAForCausalLM: learns a repeating text") {
  nn::KDAConfig config = tiny_config();
  config.num_hidden_layers = 1;
  config.initializer_range = 0.1;
  Generator generator(11);
  nn::KDAForCausalLM model(config, generator);
  nn::AdamWOptions options;
  options.learning_rate = 0.02;
  nn::AdamW optimizer(model.named_parameters(), options);
  std::vector<int64_t> text;
  for (int64_t i = 0; i < 32; ++i) {
    text.push_back(i * i % 7);
  }
  const Tensor ids = from_vector(text, {1, 32});
  double first = 0.0;
  double last = 0.0;
  for (int step = 0; step < 40; ++step) {
    const Tensor loss = nn::causal_lm_loss(model.forward(ids), ids);
    loss.backward();
    nn::clip_grad_norm(model.parameters(), 1.0);
    optimizer.step();
    optimizer.zero_grad();
    (step == 0 ? first : last) = loss.item();
  }
  CHECK(std::fabs(first - std::log(17.0)) <= 0.3);
  CHECK(last <= 0.5 * first);
}

}  // namespace
}  // namespace deltatape

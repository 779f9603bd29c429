// The layer, the model, training and decoding against golden cases, where these are at hand.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/backward.h"
#include "io/safetensors.h"
#include "nn/generate.h"
#include "nn/kda_model.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "ops/convert.h"
#include "ops/inplace.h"
#include "ops/views.h"
#include "tests/nn/kda_kernel.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/gold_folder.h"

namespace deltatape {
namespace {

using test::GoldFolder;

void check_error(const std::string& name, const Tensor& value, const Tensor& expected, double limit, double floor) {
  CAPTURE(name);
  const double error = test::relative_error(value, expected);
  CAPTURE(error);
  CHECK((error <= limit || test::largest_difference(value, expected) <= floor));
}

nn::KDALayerConfig layer_config(const nlohmann::json& json) {
  nn::KDALayerConfig c;
  c.hidden_size = json["hidden_size"].get<int64_t>();
  c.num_heads = json["num_heads"].get<int64_t>();
  c.num_v_heads = json["num_v_heads"].get<int64_t>();
  c.head_dim = json["head_dim"].get<int64_t>();
  c.expand_v = json["expand_v"].get<double>();
  c.use_short_conv = json["use_short_conv"].get<bool>();
  c.conv_size = json["conv_size"].get<int64_t>();
  c.conv_bias = json["conv_bias"].get<bool>();
  c.allow_neg_eigval = json["allow_neg_eigval"].get<bool>();
  c.safe_gate = json["safe_gate"].get<bool>();
  if (!json["lower_bound"].is_null()) {
    c.lower_bound = json["lower_bound"].get<double>();
  }
  c.norm_eps = json["norm_eps"].get<double>();
  return c;
}

void check_layer(const GoldFolder& gold, DType dtype, kda::Implementation implementation) {
  Generator generator(0);
  nn::KimiDeltaAttention layer(layer_config(gold.config()), generator);
  layer.to(dtype);
  layer.set_implementation(implementation);
  nn::StateDict state;
  for (const auto& named : layer.named_parameters()) {
    state[named.first] = gold.load(named.first);
  }
  layer.load_state_dict(state);
  Tensor x = gold.load("x", dtype);
  x.set_requires_grad();
  const Tensor y = layer.forward(x, gold.load("cu_seqlens"));
  CHECK(test::kernel_behind(y) == test::expected_kernel(implementation, x.size(1)));
  y.backward(gold.load("dy", dtype));

  const bool f64 = dtype == DType::f64;
  const double floor = f64 ? 1e-12 : 1e-6;
  check_error("y", y, gold.load("y"), f64 ? 1e-9 : 5e-5, floor);
  check_error("dx", x.grad(), gold.load("dx"), f64 ? 1e-9 : 2e-4, floor);
  for (const auto& [name, parameter] : layer.named_parameters()) {
    check_error(name, parameter.grad(), gold.load("grad." + name), f64 ? 1e-9 : 2e-4, floor);
  }
}

TEST_CASE("KimiDeltaAttention: golden layer cases in f64 and f32") {
  for (const std::string& name : test::gold_cases("layer")) {
    CAPTURE(name);
    const GoldFolder gold(name);
    for (const auto implementation : {kda::Implementation::chunk, kda::Implementation::recurrent,
                                      kda::Implementation::fused_chunk, kda::Implementation::fused_recurrent}) {
      CAPTURE(kda::name_of(implementation));
      check_layer(gold, DType::f64, implementation);
      check_layer(gold, DType::f32, implementation);
    }
  }
}

class GoldModel {
 public:
  GoldModel(const std::string& name, DType dtype, kda::Implementation implementation)
      : gold(name),
        f64(dtype == DType::f64),
        limit(f64 ? 1e-9 : 5e-4),
        generator(0),
        model(nn::KDAConfig::from_json(gold.config()["model"].dump()), generator),
        cu_seqlens(gold.load("cu_seqlens")) {
    model.to(dtype);
    model.load_state_dict(io::load_safetensors(gold.path() / "model.safetensors").tensors);
    model.set_implementation(implementation);
  }

  GoldFolder gold;
  bool f64;
  double limit;
  Generator generator;
  nn::KDAForCausalLM model;
  Tensor cu_seqlens;
};

void check_gradients(GoldModel& g) {
  const Tensor logits = g.model.forward(g.gold.load("input_ids"), g.cu_seqlens);
  const Tensor loss = nn::causal_lm_loss(logits, g.gold.load("labels"));
  loss.backward();
  const double floor = g.f64 ? 1e-12 : 1e-6;
  check_error("logits", logits, g.gold.load("logits"), g.limit, floor);
  check_error("loss", reshape(loss.detach(), {1}), g.gold.load("loss"), g.limit, floor);
  const auto expected = io::load_safetensors(g.gold.path() / "grads.safetensors").tensors;
  CHECK(expected.size() == g.model.named_parameters().size());
  for (const auto& [name, parameter] : g.model.named_parameters()) {
    REQUIRE(expected.count(name) == 1);
    check_error(name, parameter.grad(), expected.at(name), g.limit, floor);
  }
  g.model.zero_grad();
}

void check_decoding(GoldModel& g) {
  nn::GenerateOptions options;
  options.max_new_tokens = g.gold.config()["decode"]["new_tokens"].get<int64_t>();
  const auto prompt = g.gold.load("prompt_ids").to_vector<int64_t>();
  CHECK(nn::generate(g.model, prompt, options, g.generator) == g.gold.load("greedy_ids").to_vector<int64_t>());
}

/// Labels of a training batch: the ids, with -100 at the first position of every document.
Tensor training_labels(const Tensor& ids, const Tensor& cu_seqlens) {
  auto labels = ids.to_vector<int64_t>();
  if (cu_seqlens.defined()) {
    for (const int64_t start : cu_seqlens.to_vector<int64_t>()) {
      if (start < static_cast<int64_t>(labels.size())) {
        labels[static_cast<size_t>(start)] = -100;
      }
    }
  }
  return from_vector(labels, ids.shape());
}

void check_training(GoldModel& g) {
  const auto& train = g.gold.config()["train"];
  nn::AdamWOptions options;
  options.beta1 = train["betas"][0].get<double>();
  options.beta2 = train["betas"][1].get<double>();
  options.eps = train["eps"].get<double>();
  options.weight_decay = train["weight_decay"].get<double>();
  nn::AdamW optimizer(g.model.named_parameters(), options);
  const auto steps = train["steps"].get<int64_t>();
  const auto warmup = train["warmup_steps"].get<int64_t>();
  const auto lr = train["lr"].get<double>();
  const nn::Schedule schedule = train["schedule"] == "cosine"
                                    ? nn::Schedule::cosine(lr, warmup, steps, train["min_lr_ratio"].get<double>())
                                    : nn::Schedule::constant(lr, warmup);
  const Tensor batches = g.gold.load("train_input_ids");
  const auto losses = g.gold.load("train_losses").to_vector<double>();
  const auto norms = g.gold.load("train_grad_norms").to_vector<double>();
  for (int64_t s = 0; s < steps; ++s) {
    CAPTURE(s);
    const auto at = static_cast<size_t>(s);
    CHECK(std::fabs(schedule.at(s) - train["lr_per_step"][at].get<double>()) <= 1e-15);
    optimizer.set_learning_rate(schedule.at(s));
    const Tensor ids = batches[s];
    const Tensor loss = nn::causal_lm_loss(g.model.forward(ids, g.cu_seqlens), training_labels(ids, g.cu_seqlens));
    loss.backward();
    const std::vector<Tensor> parameters = g.model.parameters();
    const double norm = train["grad_clip_norm"].is_null()
                            ? nn::grad_norm(parameters)
                            : nn::clip_grad_norm(parameters, train["grad_clip_norm"].get<double>());
    CHECK(std::fabs(loss.item() - losses[at]) <= g.limit * losses[at]);
    CHECK(std::fabs(norm - norms[at]) <= g.limit * norms[at]);
    optimizer.step();
    optimizer.zero_grad();
  }
  const auto expected = io::load_safetensors(g.gold.path() / "final.safetensors").tensors;
  for (const auto& [name, parameter] : g.model.named_parameters()) {
    check_error(name, parameter, expected.at(name), g.limit, g.f64 ? 1e-12 : 1e-6);
  }
}

TEST_CASE("KDAForCausalLM: golden models in f64 and f32, from logits to the trained parameters [slow]") {
  for (const std::string& name : test::gold_cases("model")) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      for (const auto implementation : {kda::Implementation::chunk, kda::Implementation::automatic}) {
        CAPTURE(name);
        CAPTURE(to_string(dtype));
        CAPTURE(kda::name_of(implementation));
        GoldModel g(name, dtype, implementation);
        check_gradients(g);
        check_decoding(g);
        check_training(g);
      }
    }
  }
}

}  // namespace
}  // namespace deltatape

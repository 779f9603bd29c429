#include "nn/generate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

#include "ops/reduction.h"
#include "ops/views.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

std::map<int64_t, int> draw(const Tensor& logits, const nn::SamplingOptions& options, int count) {
  Generator generator(1);
  std::map<int64_t, int> counts;
  for (int i = 0; i < count; ++i) {
    ++counts[nn::sample_token(logits, options, generator)];
  }
  return counts;
}

TEST_CASE("sample_token: greedy, temperature, top-k and top-p") {
  const Tensor logits = from_vector(std::vector<double>{std::log(0.1), std::log(0.4), std::log(0.2), std::log(0.3)});
  CHECK(draw(logits, {}, 5) == std::map<int64_t, int>{{1, 5}});
  CHECK(draw(from_vector(std::vector<double>{1, 3, 3}), {}, 5) == std::map<int64_t, int>{{1, 5}});
  // Frequencies of 4000 draws lie within 4 standard deviations (at most 0.032) of the probabilities.
  const auto all = draw(logits, {1.0, 0, 1.0}, 4000);
  const std::vector<double> p{0.1, 0.4, 0.2, 0.3};
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(std::fabs(all.at(i) / 4000.0 - p[static_cast<size_t>(i)]) <= 0.032);
  }
  const auto sharp = draw(logits, {0.5, 0, 1.0}, 4000);  // p^2: 1, 16, 4, 9 of 30
  CHECK(std::fabs(sharp.at(1) / 4000.0 - 16.0 / 30.0) <= 0.032);
  const auto two = draw(logits, {1.0, 2, 1.0}, 4000);
  CHECK(two.size() == 2);
  CHECK(std::fabs(two.at(1) / 4000.0 - 4.0 / 7.0) <= 0.032);
  CHECK(draw(logits, {1.0, 0, 0.7}, 400).size() == 2);
  CHECK(draw(logits, {1.0, 0, 0.71}, 400).size() == 3);
  CHECK(draw(logits, {1.0, 0, 0.01}, 400) == std::map<int64_t, int>{{1, 400}});
}

TEST_CASE("sample_token: options out of range and logits that are no numbers") {
  Generator generator(1);
  const Tensor logits = from_vector(std::vector<float>{0, 1});
  CHECK_ERROR(nn::sample_token(logits, {-1.0, 0, 1.0}, generator),
              "sample_token: temperature is -1, expected a finite number of at least 0");
  CHECK_ERROR(nn::sample_token(logits, {1.0, 0, 0.0}, generator), "sample_token: top_p is 0, expected 0 < top_p <= 1");
  const Tensor bad = from_vector(std::vector<float>{0, std::numeric_limits<float>::quiet_NaN()});
  CHECK_ERROR(nn::sample_token(bad, {}, generator),
              "sample_token: logits holds NaN or infinity, expected finite numbers");
}

TEST_CASE("generate: greedy with the cache equals a full forward per token; stops where it should") {
  nn::KDAConfig config;
  config.hidden_size = 12;
  config.num_heads = 2;
  config.head_dim = 6;
  config.num_hidden_layers = 2;
  config.intermediate_size = 10;
  config.vocab_size = 17;
  config.initializer_range = 0.5;
  Generator generator(2);
  const nn::KDAForCausalLM model(config, generator);
  const std::vector<int64_t> prompt{3, 1, 4, 1, 5, 9};
  nn::GenerateOptions options;
  options.max_new_tokens = 12;
  const std::vector<int64_t> text = nn::generate(model, prompt, options, generator);
  std::vector<int64_t> expected = prompt;
  for (int i = 0; i < 12; ++i) {
    const Tensor logits = model.forward(from_vector(expected, {1, static_cast<int64_t>(expected.size())}));
    expected.push_back(static_cast<int64_t>(argmax(select(logits, 1, -1), -1).item()));
  }
  CHECK(text == expected);

  options.stop_token = text[8];
  const auto stopped = nn::generate(model, prompt, options, generator);
  CHECK(stopped.size() <= 9);
  CHECK(stopped.back() == text[8]);
  options.stop_token.reset();
  int seen = 0;
  options.on_token = [&seen](int64_t) { return ++seen < 3; };
  CHECK(nn::generate(model, prompt, options, generator).size() == prompt.size() + 3);
  CHECK_ERROR(nn::generate(model, {}, options, generator), "generate: prompt is empty, expected at least one token");
}

}  // namespace
}  // namespace deltatape

#include "nn/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/grad_mode.h"
#include "ops/convert.h"
#include "ops/views.h"

namespace deltatape::nn {
namespace {

void check_sampling(std::string_view function, const SamplingOptions& options) {
  check(std::isfinite(options.temperature) && options.temperature >= 0.0, function,
        "temperature is {}, expected a finite number of at least 0", options.temperature);
  check(options.top_k >= 0, function, "top_k is {}, expected at least 0", options.top_k);
  check(options.top_p > 0.0 && options.top_p <= 1.0, function, "top_p is {}, expected 0 < top_p <= 1", options.top_p);
}

}  // namespace

int64_t sample_token(const Tensor& logits, const SamplingOptions& options, Generator& generator) {
  constexpr std::string_view kName = "sample_token";
  check_sampling(kName, options);
  check(logits.defined() && logits.rank() == 1 && logits.numel() > 0, kName, "logits has shape {}, expected [C]",
        logits.defined() ? to_string(logits.shape()) : "none");
  const std::vector<double> values = logits.to_vector<double>();
  const bool finite = std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
  check(finite, kName, "logits holds NaN or infinity, expected finite numbers");
  if (options.temperature == 0.0) {
    return std::max_element(values.begin(), values.end()) - values.begin();
  }

  std::vector<size_t> likeliest_first(values.size());
  std::iota(likeliest_first.begin(), likeliest_first.end(), size_t{0});
  std::stable_sort(likeliest_first.begin(), likeliest_first.end(),
                   [&values](size_t a, size_t b) { return values[a] > values[b]; });
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(values.size())) {
    likeliest_first.resize(static_cast<size_t>(options.top_k));
  }
  std::vector<double> weights;
  weights.reserve(likeliest_first.size());
  const double largest = values[likeliest_first.front()];
  for (const size_t token : likeliest_first) {
    weights.push_back(std::exp((values[token] - largest) / options.temperature));
  }
  if (options.top_p < 1.0) {
    const double wanted = options.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
    double reached = 0.0;
    size_t kept = 0;
    while (kept < weights.size() && reached < wanted) {
      reached += weights[kept++];
    }
    weights.resize(kept);
  }
  const double place = generator.next_uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  double passed = 0.0;
  for (size_t i = 0; i + 1 < weights.size(); ++i) {
    passed += weights[i];
    if (place < passed) {
      return static_cast<int64_t>(likeliest_first[i]);
    }
  }
  return static_cast<int64_t>(likeliest_first[weights.size() - 1]);
}

std::vector<int64_t> generate(const KDAForCausalLM& model, const std::vector<int64_t>& prompt,
                              const GenerateOptions& options, Generator& generator) {
  constexpr std::string_view kName = "generate";
  check_sampling(kName, options.sampling);
  check(!prompt.empty(), kName, "prompt is empty, expected at least one token");
  check(options.max_new_tokens >= 0, kName, "max_new_tokens is {}, expected at least 0", options.max_new_tokens);
  const NoGradGuard guard;
  const Device device = model.parameters().front().device();
  std::vector<int64_t> text = prompt;
  KDACache cache;
  std::vector<int64_t> unread = prompt;
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const Tensor ids = to(from_vector(unread, {1, static_cast<int64_t>(unread.size())}), device);
    const Tensor logits = select(select(model.forward_next(ids, cache), 0, 0), 0, -1);
    const int64_t token = sample_token(logits, options.sampling, generator);
    text.push_back(token);
    unread = {token};
    if ((options.on_token && !options.on_token(token)) || token == options.stop_token) {
      break;
    }
  }
  return text;
}

}  // namespace deltatape::nn

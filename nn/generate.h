// Decoding: from a prompt to a continuation, one token at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/generator.h"
#include "nn/kda_model.h"

namespace deltatape::nn {

struct SamplingOptions {
  double temperature = 0.0;  // 0: greedy; otherwise logits are divided by it
  int64_t top_k = 0;         // only the k most likely tokens; 0: all
  double top_p = 1.0;        // only the most likely tokens that together reach this probability; 1: all
};

/// One token of logits [C]: the most likely one (ties: the lowest id) for temperature 0, else drawn from what top_k and
/// then top_p leave. Throws Error for options out of range and for logits that are not finite.
int64_t sample_token(const Tensor& logits, const SamplingOptions& options, Generator& generator);

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  SamplingOptions sampling;
  std::optional<int64_t> stop_token = std::nullopt;  // the text ends with it
  /// Called with every new token; false ends the text.
  std::function<bool(int64_t)> on_token = nullptr;
};

/// `prompt` (at least one token) and what follows, up to max_new_tokens. The prompt is read in one pass, every further
/// token with the cache of convolution inputs and states; records nothing.
std::vector<int64_t> generate(const KDAForCausalLM& model, const std::vector<int64_t>& prompt,
                              const GenerateOptions& options, Generator& generator);

}  // namespace deltatape::nn

#include "tools/train_options.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/error.h"
#include "io/file.h"
#include "tools/command.h"
#include "tools/json_value.h"

namespace deltatape::tools {
namespace {

// Calls `visit` with every option's key and member, so that reading and writing cannot differ.
template <class Options, class Visit>
void for_each_option(Options& options, const Visit& visit) {
  visit("text", options.text);
  visit("task", options.task);
  visit("steps", options.steps);
  visit("batch", options.batch);
  visit("seq_len", options.seq_len);
  visit("lr", options.lr);
  visit("schedule", options.schedule);
  visit("warmup_steps", options.warmup_steps);
  visit("min_lr_ratio", options.min_lr_ratio);
  visit("beta1", options.beta1);
  visit("beta2", options.beta2);
  visit("eps", options.eps);
  visit("weight_decay", options.weight_decay);
  visit("grad_clip_norm", options.grad_clip_norm);
  visit("seed", options.seed);
  visit("impl", options.impl);
  visit("device", options.device);
  visit("cuda_graph", options.cuda_graph);
  visit("threads", options.threads);
  visit("eval_every", options.eval_every);
  visit("checkpoint_every", options.checkpoint_every);
  visit("check_gradients", options.check_gradients);
}

// The limits that the command line sets, for values that come from a file.
void check_values(const TrainOptions& options, const std::string& file) {
  const auto integer = [&](const char* key, int64_t value, int64_t minimum) {
    check(value >= minimum, "train", "{}: '{}' is {}, expected an integer of {} or more", file, key, value, minimum);
  };
  const auto number = [&](const char* key, double value) {
    check(std::isfinite(value) && value >= 0.0, "train", "{}: '{}' is {}, expected a finite number of 0 or more", file,
          key, value);
  };
  const auto word = [&](const char* key, const std::string& value, std::initializer_list<const char*> words,
                        const char* expected) {
    check(std::find(words.begin(), words.end(), value) != words.end(), "train", "{}: '{}' is '{}', expected {}", file,
          key, value, expected);
  };
  integer("steps", options.steps, 1);
  integer("batch", options.batch, 1);
  integer("seq_len", options.seq_len, 1);
  integer("warmup_steps", options.warmup_steps, 0);
  integer("threads", options.threads, 0);
  check(options.threads <= kMostThreads, "train", "{}: 'threads' is {}, expected at most {}", file, options.threads,
        kMostThreads);
  integer("eval_every", options.eval_every, 0);
  integer("checkpoint_every", options.checkpoint_every, 0);
  integer("check_gradients", options.check_gradients, 0);
  number("lr", options.lr);
  number("weight_decay", options.weight_decay);
  number("grad_clip_norm", options.grad_clip_norm);
  number("eps", options.eps);
  number("min_lr_ratio", options.min_lr_ratio);
  check(options.min_lr_ratio <= 1.0, "train", "{}: 'min_lr_ratio' is {}, expected a number from 0 to 1", file,
        options.min_lr_ratio);
  for (const auto& [key, beta] : {std::pair("beta1", options.beta1), std::pair("beta2", options.beta2)}) {
    check(beta >= 0.0 && beta < 1.0, "train", "{}: '{}' is {}, expected 0 to less than 1", file, key, beta);
  }
  word("task", options.task, {"", "palindrome", "mqar", "stack"}, "palindrome, mqar, stack or ''");
  word("schedule", options.schedule, {"constant", "cosine", "wsd"}, "constant, cosine or wsd");
  word("impl", options.impl, {"composed", "auto", "fused"}, "composed, auto or fused");
}

}  // namespace

nn::Schedule TrainOptions::make_schedule() const {
  constexpr const char* kName = "--schedule";
  if (schedule == "cosine") {
    check(warmup_steps <= steps, kName, "--warmup-steps is {}, expected at most --steps = {}", warmup_steps, steps);
    return nn::Schedule::cosine(lr, warmup_steps, steps, min_lr_ratio);
  }
  if (schedule == "wsd") {
    check(warmup_steps <= steps, kName, "--warmup-steps is {}, expected at most --steps = {}", warmup_steps, steps);
    check(warmup_steps <= steps - steps / 5, kName,
          "--warmup-steps is {}, expected at most {}, since the last fifth of --steps = {} is the decay", warmup_steps,
          steps - steps / 5, steps);
    return nn::Schedule::warmup_stable_decay(lr, warmup_steps, steps, steps / 5, min_lr_ratio);
  }
  return nn::Schedule::constant(lr, warmup_steps);
}

nlohmann::ordered_json to_json(const TrainOptions& options) {
  auto json = nlohmann::ordered_json::object();
  for_each_option(options, [&](const char* key, const auto& value) { json[key] = value; });
  return json;
}

TrainOptions load_train_options(const std::filesystem::path& path) {
  TrainOptions options;
  const std::string text = io::read_file("train", path);
  try {
    const auto json = nlohmann::json::parse(text);
    check(json.is_object(), "train", "{} is a JSON {}, expected an object", path.string(), json.type_name());
    for_each_option(options, [&](const char* key, auto& value) {
      if (json.contains(key)) {
        value = json_value<std::decay_t<decltype(value)>>("train", path.string(), key, json.at(key));
      }
    });
  } catch (const nlohmann::json::exception& error) {
    fail("train", "{} is not JSON: {}", path.string(), error.what());
  }
  check_values(options, path.string());
  return options;
}

}  // namespace deltatape::tools

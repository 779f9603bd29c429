#include "tools/train_options.h"

#include "core/error.h"
#include "io/file.h"

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
  visit("threads", options.threads);
  visit("eval_every", options.eval_every);
  visit("checkpoint_every", options.checkpoint_every);
  visit("check_gradients", options.check_gradients);
}

}  // namespace

nn::Schedule TrainOptions::make_schedule() const {
  if (schedule == "cosine") {
    return nn::Schedule::cosine(lr, warmup_steps, steps, min_lr_ratio);
  }
  if (schedule == "wsd") {
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
        try {
          json.at(key).get_to(value);
        } catch (const nlohmann::json::exception&) {
          fail("train", "{}: '{}' is {}, which is of the wrong type", path.string(), key, json.at(key).dump());
        }
      }
    });
  } catch (const nlohmann::json::exception& error) {
    fail("train", "{} is not JSON: {}", path.string(), error.what());
  }
  return options;
}

}  // namespace deltatape::tools

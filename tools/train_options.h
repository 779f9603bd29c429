// The options of a training run, as the command line gives them and DIR/train.json keeps them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/schedule.h"

namespace deltatape::tools {

struct TrainOptions {
  std::vector<std::string> text;  // files and folders; empty with a task
  std::string task;               // palindrome, mqar or stack; empty with text
  int64_t steps = 1000;
  int64_t batch = 8;
  int64_t seq_len = 128;
  double lr = 3e-3;
  std::string schedule = "constant";  // constant, cosine or wsd, all after a linear warm-up
  int64_t warmup_steps = 20;
  double min_lr_ratio = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double grad_clip_norm = 1.0;
  uint64_t seed = 0;
  std::string impl = "auto";
  std::string device = "cpu";
  bool cuda_graph = false;
  int64_t threads = 0;  // 0: what OpenMP chooses
  int64_t eval_every = 100;
  int64_t checkpoint_every = 500;
  int64_t check_gradients = 0;  // every so many steps; 0: never

  /// The learning rates. Throws Error when the numbers do not fit together.
  [[nodiscard]] nn::Schedule make_schedule() const;
};

nlohmann::ordered_json to_json(const TrainOptions& options);
/// Reads a train.json; missing keys keep their defaults. Throws Error that names the file and the key when a
/// value has another type than its option or is outside the limits of the command line.
TrainOptions load_train_options(const std::filesystem::path& path);

}  // namespace deltatape::tools

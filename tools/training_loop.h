// The loop of a training run, and the folder it writes.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "tools/trainer.h"

namespace deltatape::tools {

/// DIR of `train --out DIR`: config.json, train.json, checkpoint.safetensors, model.safetensors, metrics.jsonl,
/// metrics.csv, loss.png. Every file is complete or not there, whenever the program is stopped.
class OutputFolder {
 public:
  /// Makes the folder and writes config.json and train.json. A run in it that is not resumed is replaced; its
  /// model.safetensors stays until save() replaces it. A metrics.jsonl to go on with is read before anything changes.
  OutputFolder(const std::filesystem::path& folder, const Trainer& trainer);

  MetricsLog& metrics() { return metrics_; }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  /// Writes the state of the run, the model, the table and the picture.
  void save(const Trainer& trainer);

 private:
  OutputFolder(const std::filesystem::path& folder, const Trainer& trainer, std::vector<StepMetrics> metrics);

  std::filesystem::path folder_;
  MetricsLog metrics_;
  bool picture_problem_told_ = false;
};

enum class LoopEnd : uint8_t { done, interrupted, not_finite, gradient_miss };

struct LoopResult {
  LoopEnd end = LoopEnd::done;
  StepMetrics last;       // of the last step
  Evaluation validation;  // at the end
};

/// How many validation rows are looked at during a run and at its end.
inline constexpr int64_t kEvaluationRows = 32;
inline constexpr int64_t kFinalEvaluationRows = 256;

/// Trains until options().steps are done, until a loss is not finite or a gradient check fails, or until SIGINT or
/// SIGTERM asks it to stop (it then saves and returns). `out` may be null.
LoopResult run_training_loop(Trainer& trainer, OutputFolder* out);

}  // namespace deltatape::tools

// The record of a training run: a line of JSON per step while it runs, a table and a picture of it afterwards.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/file.h"

namespace deltatape::tools {

/// One step. Losses are in nats per counted token.
struct StepMetrics {
  int64_t step = 0;  // updates done, this one included
  double loss = 0.0;
  double lr = 0.0;
  double grad_norm = 0.0;  // before clipping
  double tokens_per_s = 0.0;
  std::optional<double> val_loss = std::nullopt;
  std::optional<double> val_accuracy = std::nullopt;  // tasks only
};

/// The first `count` steps of DIR/metrics.jsonl; none without the file. Throws Error that names the file when a line is
/// no record of a step.
std::vector<StepMetrics> read_metrics(const std::filesystem::path& folder, int64_t count);

class MetricsLog {
 public:
  /// Writes DIR/metrics.jsonl anew, beginning with `steps`.
  MetricsLog(std::filesystem::path folder, std::vector<StepMetrics> steps);
  /// Adds one whole line.
  void add(const StepMetrics& metrics);
  [[nodiscard]] const std::vector<StepMetrics>& steps() const { return steps_; }

  /// DIR/metrics.csv, the same as a table.
  void write_csv() const;
  /// DIR/loss.png with gnuplot; `reference` is a loss to compare with, drawn as a line. Returns why there is no
  /// picture, or nothing.
  std::string draw(std::optional<double> reference) const;

 private:
  std::filesystem::path folder_;
  std::vector<StepMetrics> steps_;
  io::FileHandle file_;
};

}  // namespace deltatape::tools

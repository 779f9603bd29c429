// Learning rates over the steps of a run.
#pragma once

#include <cstdint>

namespace deltatape::nn {

/// A learning rate for every step 0, 1, ...; all start with a linear warm-up, lr (step + 1) / warmup_steps for
/// step < warmup_steps. Makers throw Error for numbers out of range.
class Schedule {
 public:
  /// lr.
  static Schedule constant(double lr, int64_t warmup_steps = 0);
  /// lr (m + (1 - m) (1 + cos(pi r)) / 2), r = (step - warmup_steps) / (total_steps - warmup_steps), m = min_lr_ratio;
  /// m lr from total_steps on.
  static Schedule cosine(double lr, int64_t warmup_steps, int64_t total_steps, double min_lr_ratio = 0.0);
  /// lr until total_steps - decay_steps, then linearly to m lr at total_steps.
  static Schedule warmup_stable_decay(double lr, int64_t warmup_steps, int64_t total_steps, int64_t decay_steps,
                                      double min_lr_ratio = 0.0);

  /// The learning rate of update `step`, counted from 0.
  [[nodiscard]] double at(int64_t step) const;

 private:
  enum class Kind : uint8_t { constant, cosine, linear_decay };
  Schedule(Kind kind, double lr, int64_t warmup_steps, int64_t decay_start, int64_t total_steps, double min_lr_ratio);

  Kind kind_;
  double lr_;
  int64_t warmup_steps_;
  int64_t decay_start_;
  int64_t total_steps_;
  double min_lr_ratio_;
};

}  // namespace deltatape::nn

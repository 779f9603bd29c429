#include "nn/schedule.h"

#include <cmath>

#include "core/error.h"

namespace deltatape::nn {
namespace {

constexpr double kPi = 3.14159265358979323846;

}  // namespace

Schedule::Schedule(Kind kind, double lr, int64_t warmup_steps, int64_t decay_start, int64_t total_steps,
                   double min_lr_ratio)
    : kind_(kind),
      lr_(lr),
      warmup_steps_(warmup_steps),
      decay_start_(decay_start),
      total_steps_(total_steps),
      min_lr_ratio_(min_lr_ratio) {
  constexpr const char* kName = "Schedule";
  check(std::isfinite(lr) && lr >= 0.0, kName, "lr is {}, expected a finite number of at least 0", lr);
  check(warmup_steps >= 0, kName, "warmup_steps is {}, expected at least 0", warmup_steps);
  check(min_lr_ratio >= 0.0 && min_lr_ratio <= 1.0, kName, "min_lr_ratio is {}, expected 0 to 1", min_lr_ratio);
  if (kind != Kind::constant) {
    check(total_steps >= warmup_steps, kName, "total_steps is {}, expected at least warmup_steps = {}", total_steps,
          warmup_steps);
    check(decay_start >= warmup_steps && decay_start <= total_steps, kName,
          "decay_steps is {}, expected 0 to total_steps - warmup_steps = {}", total_steps - decay_start,
          total_steps - warmup_steps);
  }
}

Schedule Schedule::constant(double lr, int64_t warmup_steps) { return {Kind::constant, lr, warmup_steps, 0, 0, 1.0}; }

Schedule Schedule::cosine(double lr, int64_t warmup_steps, int64_t total_steps, double min_lr_ratio) {
  return {Kind::cosine, lr, warmup_steps, warmup_steps, total_steps, min_lr_ratio};
}

Schedule Schedule::warmup_stable_decay(double lr, int64_t warmup_steps, int64_t total_steps, int64_t decay_steps,
                                       double min_lr_ratio) {
  return {Kind::linear_decay, lr, warmup_steps, total_steps - decay_steps, total_steps, min_lr_ratio};
}

double Schedule::at(int64_t step) const {
  check(step >= 0, "Schedule::at", "step is {}, expected at least 0", step);
  if (step < warmup_steps_) {
    return lr_ * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
  }
  if (kind_ == Kind::constant || step < decay_start_) {
    return lr_;
  }
  if (step >= total_steps_) {
    return lr_ * min_lr_ratio_;
  }
  const double r = static_cast<double>(step - decay_start_) / static_cast<double>(total_steps_ - decay_start_);
  const double shape = kind_ == Kind::cosine ? (1.0 + std::cos(kPi * r)) / 2.0 : 1.0 - r;
  return lr_ * (min_lr_ratio_ + (1.0 - min_lr_ratio_) * shape);
}

}  // namespace deltatape::nn

// What a case's results should be, and how far off rounding alone may bring them.
#pragma once

#include <cstdint>

#include "harness/operator.h"

namespace deltatape::harness {

/// One result of the reference, with what rounding does to it. All errors relative to its largest element.
struct Expected {
  std::string name;
  Tensor value;              // f64
  double composed = 0.0;     // error of the composed path in the case's dtype; 0 where there is none
  double conditioned = 0.0;  // change when every input moves by up to a unit roundoff of the case's dtype
  double largest = 0.0;      // element of `value`, in size
  double scale = 0.0;        // size of the terms that the value is a sum of, where it can be told; errors of a few unit
                             // roundoffs of it are noise of sums that cancel
};

/// The numbers 2^-53, 2^-24, 2^-11, 2^-8 of f64, f32, f16, bf16.
double unit_roundoff(DType dtype);

/// Everything that a case's results are held against.
class Expectation {
 public:
  /// Runs the reference in f64. Throws Error when it fails or gives a number that is not finite.
  Expectation(const Reference& reference, const Case& c);
  /// Adds the intermediates of the reference.
  void add_intermediates(const Reference& reference, const Case& c);
  /// Each in the reference's own order.
  [[nodiscard]] const std::vector<Expected>& results() const { return results_; }
  [[nodiscard]] const std::vector<Expected>& intermediates() const { return intermediates_; }
  /// A result or intermediate; nullptr when there is none.
  [[nodiscard]] const Expected* find(std::string_view name) const;
  /// Adds the error of `forward` in the case's dtype, too: a second opinion that costs more.
  void measure_forward(const Reference& reference, const Case& c);

 private:
  void measure_composed(const Function& function, const Case& c);

  std::vector<Expected> results_;
  std::vector<Expected> intermediates_;
};

/// max |x - reference| / max |reference|; 0 / 0 is 0, infinite for what is not finite or has another shape.
double relative_distance(const Tensor& x, const Tensor& reference);

/// max |x - reference|; infinite as above.
double absolute_distance(const Tensor& x, const Tensor& reference);

/// The case with every floating-point element x replaced by x (1 + r u), r even in [-1, 1], u the unit roundoff of
/// the case's dtype; in f64.
Case nudged(const Case& c, uint64_t seed);

}  // namespace deltatape::harness

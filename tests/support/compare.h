// The one comparison of numbers in tests. What is not a number, not finite, of another shape or of another dtype than
// expected never passes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "core/tensor.h"
#include "tests/support/reference.h"

namespace deltatape::test {

/// How far element i may be from e_i: absolute + relative |e_i| + of_largest max_j |e_j| (over finite e_j).
struct Tolerance {
  double absolute = 0.0;
  double relative = 0.0;
  double of_largest = 0.0;
  bool nan_allowed = false;  // NaN is right exactly where NaN is expected
};

/// Equal numbers.
inline Tolerance exactly() { return {}; }
/// `units` unit roundoffs of a floating-point dtype (half the distance from 1 to the next number), relative to the
/// element and to the largest one, and what f16 loses below its normal range. Exact for other dtypes.
Tolerance rounding(DType dtype, double units);

/// What came out of a comparison.
struct Comparison {
  bool ok = false;
  int64_t worst = -1;  // row-major position of the element that uses most of its limit; -1 when there is none
  double share = 0.0;  // of the limit that `worst` uses; infinite for NaN and for any difference where the limit is 0
  std::string text;    // what failed, or the worst element when nothing did
};

/// Compares shape, dtype and every element.
Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance);
/// The same with an expectation in doubles, for results of `dtype`.
Comparison compare(const Tensor& actual, const Array& expected, DType dtype, const Tolerance& tolerance);

/// What a failure is reported under: the tensor's name, the seed of its inputs, the line in the test.
struct Label {
  template <class Name>
  // NOLINTNEXTLINE(google-explicit-constructor,bugprone-forwarding-reference-overload)
  Label(Name&& tensor, std::optional<uint64_t> inputs_seed = std::nullopt, const char* source_file = __builtin_FILE(),
        int source_line = __builtin_LINE())
      : name(std::forward<Name>(tensor)), seed(inputs_seed), file(source_file), line(source_line) {}

  std::string name;
  std::optional<uint64_t> seed;
  const char* file;
  int line;
};

/// A doctest check that `compare` is content.
void check_close(const Label& label, const Tensor& actual, const Tensor& expected, const Tolerance& tolerance);
void check_close(const Label& label, const Tensor& actual, const Array& expected, DType dtype,
                 const Tolerance& tolerance);

}  // namespace deltatape::test

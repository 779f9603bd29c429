// Tensors that a device makes from nothing: random numbers, constants and ranges, against the CPU's.
#include "ops/creation.h"

#include <doctest/doctest.h>

#include <limits>

#include "backends/backend.h"
#include "ops/convert.h"
#include "tests/gpu/device.h"
#include "tests/gpu/kernel_cases.h"
#include "tests/gpu/moved.h"
#include "tests/support/compare.h"

namespace deltatape::test {
namespace {

constexpr DType kFloating[] = {DType::f32, DType::f64, DType::bf16, DType::f16};
constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i64, DType::i32, DType::boolean};
constexpr int64_t kLong = 10'007;
// Across the places where words of the counter and of the key carry.
constexpr PhiloxState kStates[] = {{7, 0}, {0xFEDC'BA98'7654'3210U, 3}, {1, 0xFFFF'FFFFU - 5000}};

/// What `make` writes to a tensor on the device is what it writes to one on the host.
template <class Make>
void check_made(const std::string& name, DType dtype, const Tolerance& tolerance, const Make& make) {
  CAPTURE(std::string(to_string(dtype)));
  const Tensor expected = empty({kLong}, dtype);
  const Tensor there = empty({kLong}, dtype, Device::cuda());
  make(backend_of(expected), expected);
  make(backend_of(there), there);
  check_close({name}, to(there, Device::cpu()), expected, tolerance);
}

/// At most 4 ulp of a number of this dtype (an ulp is at least half of epsilon, as a part of the number).
Tolerance four_ulp(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {.relative = 2.0 * 0x1p-52};
    case DType::f32:
      return {.relative = 2.0 * 0x1p-23};
    case DType::bf16:
      return {.relative = 2.0 * 0x1p-7};
    default:
      return {.absolute = 4.0 * 0x1p-24, .relative = 2.0 * 0x1p-10};  // f16: an ulp is never less than 2^-24
  }
}

TEST_CASE("cuda creation: random numbers are the CPU's [gpu]") {
  if (!have_device()) {
    return;
  }
  for (const PhiloxState state : kStates) {
    CAPTURE(state.seed);
    for (const DType dtype : kFloating) {
      check_made("uniform", dtype, exactly(),
                 [&](const Backend& backend, const Tensor& out) { backend.uniform(state, out); });
      check_made("normal", dtype, four_ulp(dtype),
                 [&](const Backend& backend, const Tensor& out) { backend.normal(state, out); });
    }
    for (const DType dtype : {DType::i64, DType::i32}) {
      check_made("random_integers", dtype, exactly(),
                 [&](const Backend& backend, const Tensor& out) { backend.random_integers(state, -3, 1000, out); });
    }
    constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
    constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();
    const Tensor expected = empty({kLong}, DType::i64);
    const Tensor there = empty({kLong}, DType::i64, Device::cuda());
    backend_of(expected).random_integers(state, kLowest, kHighest, expected);
    backend_of(there).random_integers(state, kLowest, kHighest, there);
    CHECK(to(there, Device::cpu()).to_vector<int64_t>() == expected.to_vector<int64_t>());  // doubles hold 53 bits
  }
}

TEST_CASE("cuda creation: fill and arange [gpu]") {
  if (!have_device()) {
    return;
  }
  for (const DType dtype : kAll) {
    CAPTURE(std::string(to_string(dtype)));
    check_made("fill", dtype, exactly(), [](const Backend& backend, const Tensor& out) { backend.fill(2.7, out); });
    if (dtype != DType::boolean) {
      const bool whole = !is_floating(dtype);
      check_made("arange", dtype, exactly(), [&](const Backend& backend, const Tensor& out) {
        backend.arange(whole ? -5000.0 : -0.3, whole ? 3.0 : 0.01, out);
      });
    }
    // Views with gaps, the gaps looked at too.
    for (const Shape& shape : {Shape{33}, Shape{7, 65}, Shape{3, 4, 5}}) {
      CAPTURE(to_string(shape));
      const Tensor view = spread(zeros(shape, {dtype}));
      const Tensor there = moved(view, Device::cuda());
      backend_of(view).fill(3.0, view);
      backend_of(there).fill(3.0, there);
      const auto elements = static_cast<int64_t>(view.storage()->bytes() / size_of(dtype));
      const auto memory = [&](const Tensor& x) { return to(x.as_view({elements}, {1}, 0), Device::cpu()); };
      check_close({"fill of a view"}, memory(there), memory(view), exactly());
    }
  }
}

}  // namespace
}  // namespace deltatape::test

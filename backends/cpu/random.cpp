// Random tensors. An element depends on its number alone, so the same bits come from any number of threads.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/thread_split.h"
#include "backends/random_functions.h"

namespace deltatape::cpu {
namespace {

// out[i] = number(words of element i).
template <class T, class F>
void fill_from_words(PhiloxState state, double nanoseconds_each, const Tensor& out, F&& number) {
  auto* place = static_cast<T*>(out.mutable_raw());
  const int64_t count = out.numel();
  constexpr int64_t kBlock = 512;
  parallel_for(ceil_div(count, kBlock), nanoseconds_each * kBlock, [&](int64_t block) {
    for (int64_t i = block * kBlock; i < std::min(count, (block + 1) * kBlock); ++i) {
      place[i] = number(philox_words(state.seed, state.offset + static_cast<uint64_t>(i)));
    }
  });
}

double standard_normal(const PhiloxWords& words) {
  const BoxMullerPair pair = box_muller_pair(words);
  return std::sqrt(-2.0 * std::log(pair.first)) * std::cos(2.0 * std::numbers::pi * pair.second);
}

}  // namespace

void CpuBackend::uniform(PhiloxState state, const Tensor& out) const {
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    fill_from_words<T>(state, 5.0, out, [](const PhiloxWords& words) { return uniform_number<T>(words); });
  });
}

void CpuBackend::normal(PhiloxState state, const Tensor& out) const {
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    fill_from_words<T>(state, 30.0, out,
                       [](const PhiloxWords& words) { return T(static_cast<ComputeType<T>>(standard_normal(words))); });
  });
}

void CpuBackend::random_integers(PhiloxState state, int64_t low, int64_t high, const Tensor& out) const {
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  const auto fill = [&](auto tag) {
    using T = decltype(tag);
    fill_from_words<T>(state, 5.0, out,
                       [=](const PhiloxWords& words) { return static_cast<T>(integer_below(words, low, range)); });
  };
  if (out.dtype() == DType::i64) {
    fill(int64_t{});
  } else {
    fill(int32_t{});
  }
}

}  // namespace deltatape::cpu

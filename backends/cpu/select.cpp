// Choices between elements: where and clamp.
#include <array>
#include <cstdint>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu {
namespace {

/// One row; the steps are 0 or 1. Masks instead of branches, which compilers turn into vector code.
template <class Word>
void where_row(const uint8_t* condition, const Word* a, int64_t a_step, const Word* b, int64_t b_step, Word* out,
               int64_t count) {
  const auto choose = [](uint8_t chosen, Word x, Word y) {
    const auto mask = static_cast<Word>(Word{0} - Word{chosen});  // bool is 0 or 1
    return static_cast<Word>((x & mask) | (y & static_cast<Word>(~mask)));
  };
  if (a_step == 1 && b_step == 1) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = choose(condition[i], a[i], b[i]);
    }
  } else if (a_step == 0 && b_step == 1) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = choose(condition[i], *a, b[i]);
    }
  } else if (a_step == 1 && b_step == 0) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = choose(condition[i], a[i], *b);
    }
  } else {
    const Word x = *a;
    const Word y = *b;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = choose(condition[i], x, y);
    }
  }
}

/// Elements are moved, not computed with, so only their size matters.
template <class Word>
void where_words(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) {
  const RowLoop<4> loop({&out, &condition, &a, &b});
  const auto strides = loop.row_strides();
  constexpr auto kSize = static_cast<int64_t>(sizeof(Word));
  const auto stepwise = [](int64_t stride) { return stride == 0 || stride == kSize; };
  const bool dense = strides[0] == kSize && strides[1] == 1 && stepwise(strides[2]) && stepwise(strides[3]);
  loop.run([&](const std::array<char*, 4>& at, int64_t count) {
    if (dense) {
      where_row(reinterpret_cast<const uint8_t*>(at[1]), reinterpret_cast<const Word*>(at[2]), strides[2] / kSize,
                reinterpret_cast<const Word*>(at[3]), strides[3] / kSize, reinterpret_cast<Word*>(at[0]), count);
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      const bool chosen = *reinterpret_cast<const bool*>(at[1] + i * strides[1]);
      *reinterpret_cast<Word*>(at[0] + i * strides[0]) =
          *reinterpret_cast<const Word*>(chosen ? at[2] + i * strides[2] : at[3] + i * strides[3]);
    }
  });
}

}  // namespace

void CpuBackend::where(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) const {
  switch (size_of(out.dtype())) {
    case 8:
      return where_words<uint64_t>(condition, a, b, out);
    case 4:
      return where_words<uint32_t>(condition, a, b, out);
    case 2:
      return where_words<uint16_t>(condition, a, b, out);
    default:
      return where_words<uint8_t>(condition, a, b, out);
  }
}

void CpuBackend::clamp(const Tensor& x, double low, double high, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    // A number outside the integers' range stands for the nearest integer.
    const auto bound = [](double value) {
      T result{};
      convert_row(DType::f64, dtype_of<T>)(reinterpret_cast<const char*>(&value), 0, reinterpret_cast<char*>(&result),
                                           0, 1);
      return result;
    };
    const T lowest = bound(low);
    const T highest = bound(high);
    map_rows<T, T, 1>({&x}, out, [lowest, highest](RowView<T> view, T* to, int64_t count) {
      const auto bottom = Lanes<T>::broadcast(lowest);
      const auto top = Lanes<T>::broadcast(highest);
      map_row(
          [bottom, top](auto value) {
            using elementwise::select;
            return select(value < bottom, bottom, select(value > top, top, value));  // NaN stays
          },
          view, to, count);
    });
  });
}

}  // namespace deltatape::cpu

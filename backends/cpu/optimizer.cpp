// What a training step does besides the gradients: their norm, and AdamW in one pass over parameter, gradient and
// moments.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/row_sums.h"
#include "backends/cpu/thread_split.h"
#include "backends/cpu/vec.h"

namespace deltatape::cpu {
namespace {

constexpr int64_t kBlock = 1024;  // elements of a task; those of 16 bits are converted a block at a time

template <class T>
class Update {
 public:
  Update(const AdamWStep& s, double decay)
      : decay_(decay),
        beta1_(s.beta1),
        new1_(1.0 - s.beta1),
        beta2_(s.beta2),
        new2_(1.0 - s.beta2),
        scale_(1.0 / s.root_correction2),
        eps_(s.eps),
        rate_(-s.rate) {}

  void row(T* p, const T* g, T* m, T* v, int64_t count) const {
    int64_t i = 0;
    for (; i + V::kSize <= count; i += V::kSize) {
      const Moved moved = move(V::load(p + i), V::load(g + i), V::load(m + i), V::load(v + i));
      moved.p.store(p + i);
      moved.m.store(m + i);
      moved.v.store(v + i);
    }
    if (i < count) {
      const int64_t rest = count - i;
      const Moved moved = move(V::load_part(p + i, rest), V::load_part(g + i, rest), V::load_part(m + i, rest),
                               V::load_part(v + i, rest));
      moved.p.store_part(p + i, rest);
      moved.m.store_part(m + i, rest);
      moved.v.store_part(v + i, rest);
    }
  }

 private:
  using V = Vec<T>;
  struct Moved {
    V p, m, v;
  };

  [[nodiscard]] Moved move(V p, V g, V m, V v) const {
    m = m * beta1_ + g * new1_;
    v = v * beta2_ + g * g * new2_;
    return {p * decay_ + rate_ * (m / (sqrt(v) * scale_ + eps_)), m, v};
  }

  V decay_, beta1_, new1_, beta2_, new2_, scale_, eps_, rate_;
};

template <class T>
void update(const AdamWUpdate& of, const AdamWStep& step) {
  const Update<T> rows(step, of.decay);
  const Tensor& parameter = of.parameter;
  const DType dtype = parameter.dtype();
  const auto size = static_cast<int64_t>(size_of(dtype));
  const ConvertRow load = convert_row(dtype, dtype_of<T>);
  const ConvertRow store = convert_row(dtype_of<T>, dtype);
  auto* p_data = static_cast<char*>(parameter.mutable_raw());
  const auto* g_data = static_cast<const char*>(of.gradient.raw());
  auto* m_data = static_cast<T*>(of.m.mutable_raw());
  auto* v_data = static_cast<T*>(of.v.mutable_raw());
  const int64_t count = parameter.numel();
  parallel_ranges((count + kBlock - 1) / kBlock, count, [&](int64_t begin, int64_t end) {
    alignas(64) T p[static_cast<size_t>(kBlock)];
    alignas(64) T g[static_cast<size_t>(kBlock)];
    for (int64_t first = begin * kBlock; first < std::min(count, end * kBlock); first += kBlock) {
      const int64_t length = std::min(kBlock, count - first);
      char* place = p_data + first * size;
      if (dtype == dtype_of<T>) {
        rows.row(reinterpret_cast<T*>(place), reinterpret_cast<const T*>(g_data + first * size), m_data + first,
                 v_data + first, length);
        continue;
      }
      load(place, size, reinterpret_cast<char*>(p), sizeof(T), length);
      load(g_data + first * size, size, reinterpret_cast<char*>(g), sizeof(T), length);
      rows.row(p, g, m_data + first, v_data + first, length);
      store(reinterpret_cast<const char*>(p), sizeof(T), place, size, length);
    }
  });
}

/// Sum of the squares of `count` elements, in f64.
double squares(const char* from, int64_t size, ConvertRow load, int64_t count) {
  alignas(64) double values[static_cast<size_t>(kBlock)];
  double sum = 0.0;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t length = std::min(kBlock, count - first);
    load(from + first * size, size, reinterpret_cast<char*>(values), sizeof(double), length);
    sum += sum_row<double>([](Vec<double> value) { return value * value; }, length, values);
  }
  return sum;
}

/// In the same order for any number of threads.
double sum_of_squares_of(const Tensor& x) {
  constexpr int64_t kPiece = 65536;
  const ConvertRow load = convert_row(x.dtype(), DType::f64);
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  const auto* from = static_cast<const char*>(x.raw());
  const int64_t count = x.numel();
  std::vector<double> sums(static_cast<size_t>((count + kPiece - 1) / kPiece));
  parallel_ranges(static_cast<int64_t>(sums.size()), count, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      sums[static_cast<size_t>(piece)] =
          squares(from + piece * kPiece * size, size, load, std::min(kPiece, count - piece * kPiece));
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

void CpuBackend::sum_of_squares(std::span<const Tensor> xs, const Tensor& out) const {
  double sum = 0.0;
  for (const Tensor& x : xs) {
    sum += sum_of_squares_of(x);
  }
  *static_cast<double*>(out.mutable_raw()) = sum;
}

void CpuBackend::scale(std::span<const Tensor> xs, double factor) const {
  for (const Tensor& x : xs) {
    binary_scalar(BinaryKind::mul, x, factor, false, x);
  }
}

void CpuBackend::adamw(std::span<const AdamWUpdate> updates, const AdamWStep& step) const {
  for (const AdamWUpdate& of : updates) {
    of.m.dtype() == DType::f64 ? update<double>(of, step) : update<float>(of, step);
  }
}

}  // namespace deltatape::cpu

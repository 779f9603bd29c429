// Root-mean-square normalisation over the last dimension.
#include <algorithm>
#include <array>
#include <cmath>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/row_sums.h"

namespace deltatape::cpu {
namespace {

template <class T>
void rms_norm_lines(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                    const Tensor& rstd) {
  using V = Vec<T>;
  const int last = x.rank() - 1;
  const int64_t length = x.shape()[last];
  const double divisor = sum ? 1.0 : static_cast<double>(length);
  LineReader<T> weight_reader(weight.defined() ? weight.dtype() : dtype_of<T>,
                              weight.defined() ? byte_stride(weight, 0) : static_cast<int64_t>(sizeof(T)), length);
  const T* scale = weight.defined() ? weight_reader.read(static_cast<const char*>(weight.raw())) : nullptr;
  const Tensor x_lines = line_starts(x, last);
  const Tensor out_lines = line_starts(out, last);
  const RowLoop<3> loop({&out_lines, &x_lines, &rstd});
  const auto steps = loop.row_strides();
  const ConvertRow store_rstd = convert_row(dtype_of<T>, rstd.dtype());
  loop.run(
      [&](const std::array<char*, 3>& at, int64_t count) {
        LineReader<T> reader(x.dtype(), byte_stride(x, last), length);
        LineWriter<T> writer(out.dtype(), byte_stride(out, last), length);
        for (int64_t i = 0; i < count; ++i) {
          const T* row = reader.read(at[1] + i * steps[1]);
          const double squares = sum_row<T>([](V value) { return value * value; }, length, row);
          const auto factor = static_cast<T>(1.0 / std::sqrt(squares / divisor + eps));
          store_rstd(reinterpret_cast<const char*>(&factor), 0, at[2] + i * steps[2], 0, 1);
          const V factors(static_cast<double>(factor));
          T* target = writer.begin(at[0] + i * steps[0]);
          if (scale == nullptr) {
            map_row([factors](V value) { return value * factors; }, RowView<T>{row, 1}, target, length);
          } else {
            map_row([factors](V value, V gain) { return value * factors * gain; }, RowView<T>{row, 1},
                    RowView<T>{scale, 1}, target, length);
          }
          writer.finish(at[0] + i * steps[0]);
        }
      },
      length, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, length)));
}

}  // namespace

void CpuBackend::rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                          const Tensor& rstd) const {
  if (rstd.numel() == 0) {
    return;
  }
  if (x.dtype() == DType::f64) {
    rms_norm_lines<double>(x, weight, eps, sum, out, rstd);
  } else {
    rms_norm_lines<float>(x, weight, eps, sum, out, rstd);
  }
}

}  // namespace deltatape::cpu

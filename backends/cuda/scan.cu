// Cumulative sums. They are kept in f64, or i64.
#include <cstdint>
#include <type_traits>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/rows.h"

namespace deltatape::cuda {
namespace {

template <class T>
using SumType = std::conditional_t<std::is_same_v<T, int64_t>, int64_t, double>;

/// Itself, or last element first.
template <class T>
DT_HD Pack<T> turned(const Pack<T>& pack, bool reverse) {
  Pack<T> result;
  for (int j = 0; j < kPack<T>; ++j) {
    result[j] = reverse ? pack[kPack<T> - 1 - j] : pack[j];
  }
  return result;
}

/// A block per line: packs are added up, the scan adds up packs, and each pack is written from what stands before it.
/// With `reverse` lines begin at their last pack, and packs at their last element.
// Bytes: each element read once from memory, a second time from the cache, and written once.
template <int kThreads, class T>
struct ScanLine {
  using Sum = SumType<T>;
  Lines<T> x;
  Lines<T> out;
  bool reverse;

  DT_HD void operator()(Block<kThreads>& block) const {
    const Line<T> from = x.line(block.index());
    const OutLine<T> to = out.out_line(block.index());
    const int64_t packs = packs_of<T>(x.layout.length);
    const auto pack_at = [&](int64_t i) { return reverse ? packs - 1 - i : i; };
    block.scan(
        packs, Sum(0), Add{},
        [&](int64_t i) {
          const Pack<T> pack = from.pack(pack_at(i));
          Sum sum = 0;
          for (int j = 0; j < kPack<T>; ++j) {
            sum += static_cast<Sum>(pack[j]);
          }
          return sum;
        },
        [&](int64_t i, Sum before) {
          Pack<T> pack = turned(from.pack(pack_at(i)), reverse);
          for (int j = 0; j < kPack<T>; ++j) {
            before += static_cast<Sum>(pack[j]);
            pack[j] = static_cast<Compute<T>>(before);
          }
          to.set_pack(pack_at(i), turned(pack, reverse));
        });
  }
};

/// A thread per line, for lines that lie side by side and for short ones.
// Bytes: each element read and written once.
template <class T>
struct ScanByThread {
  Lines<T> x;
  Lines<T> out;
  bool reverse;

  DT_HD void operator()(int64_t line) const {
    const T* from = x.data + x.layout.offset(line);
    T* to = out.data + out.layout.offset(line);
    const int64_t length = x.layout.length;
    SumType<T> sum = 0;
    for (int64_t i = 0; i < length; ++i) {
      const int64_t at = reverse ? length - 1 - i : i;
      sum += static_cast<SumType<T>>(widen(from[at * x.layout.stride]));
      to[at * out.layout.stride] = narrow<T>(static_cast<Compute<T>>(sum));
    }
  }
};

template <class T>
void scan_lines(const Stream& stream, const Lines<T>& x, const Lines<T>& out, bool reverse) {
  const LineLayout& layout = x.layout;
  constexpr int64_t kEnoughThreads = 1 << 14;
  if (layout.length <= 32 || (layout.stride != 1 && layout.count >= kEnoughThreads)) {
    launch_elements(stream, layout.count, ScanByThread<T>{x, out, reverse});
  } else if (packs_of<T>(layout.length) <= 64) {
    launch_program<kWarp>(stream, layout.count, 0, ScanLine<kWarp, T>{x, out, reverse});
  } else if (packs_of<T>(layout.length) <= 1024) {
    launch_program<256>(stream, layout.count, 0, ScanLine<256, T>{x, out, reverse});
  } else {
    launch_program<1024>(stream, layout.count, 0, ScanLine<1024, T>{x, out, reverse});
  }
}

/// A thread per chunk and column of x [batch, time, width].
// Bytes: each element read and written once.
template <class T>
struct ScanChunk {
  const T* x;
  const int64_t* starts;
  T* out;
  int64_t time;
  int64_t width;
  int64_t chunks;
  bool reverse;

  DT_HD void operator()(int64_t i) const {
    const Division place = divide(i, width);
    const Division chunk = divide(place.quotient, chunks);
    const int64_t first = starts[chunk.remainder];
    const int64_t last = starts[chunk.remainder + 1];
    const int64_t base = chunk.quotient * time * width + place.remainder;
    double sum = 0.0;
    for (int64_t t = first; t < last; ++t) {
      const int64_t at = base + (reverse ? first + last - 1 - t : t) * width;
      sum += static_cast<double>(x[at]);
      out[at] = static_cast<T>(sum);
    }
  }
};

}  // namespace

void CudaBackend::cumsum(const Tensor& x, int dim, bool reverse, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const Tensor lines = with_lines(x, dim);
  if (!line_layout(out, dim).fits) {
    const Tensor dense = empty(out.shape(), out.options());
    cumsum(lines, dim, reverse, dense);
    return copy(dense, out);
  }
  const auto scan = [&](auto tag) {
    using T = decltype(tag);
    scan_lines(current_stream(x.device()), lines_of<T>(lines, dim), lines_of<T>(out, dim), reverse);
  };
  x.dtype() == DType::i64 ? scan(int64_t{}) : visit_floating(x.dtype(), scan);
}

void CudaBackend::chunk_cumsum(const Tensor& x, const Tensor& starts, bool reverse, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  Tensor bounds = starts;
  if (starts.device() != x.device()) {
    bounds = empty(starts.shape(), DType::i64, x.device());
    copy(starts, bounds);
  }
  const int64_t batch = x.shape()[0];
  const int64_t time = x.shape()[1];
  const int64_t width = x.numel() / (batch * time);
  const int64_t chunks = starts.numel() - 1;
  const auto scan = [&](auto tag) {
    using T = decltype(tag);
    launch_elements(current_stream(x.device()), batch * chunks * width,
                    ScanChunk<T>{static_cast<const T*>(x.raw()), static_cast<const int64_t*>(bounds.raw()),
                                 static_cast<T*>(out.mutable_raw()), time, width, chunks, reverse});
  };
  x.dtype() == DType::f64 ? scan(double{}) : scan(float{});
}

}  // namespace deltatape::cuda

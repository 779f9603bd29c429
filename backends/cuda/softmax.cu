// Softmax and log-softmax over the last dimension and cross entropy, with their gradients.
#include <cmath>
#include <cstdint>
#include <limits>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/index_check.h"
#include "backends/cuda/rows.h"

namespace deltatape::cuda {
namespace {

/// Of some elements: the largest (NaN left out), and the sum of exp(x - largest).
template <class C>
struct Exponentials {
  C largest;
  double sum;
};
template <class C>
DT_HD Exponentials<C> no_exponentials() {
  return {-std::numeric_limits<C>::infinity(), 0.0};
}
/// Nothing but -inf so far counts 0, where -inf - -inf would be NaN.
template <class C>
DT_HD C reference_of(C largest) {
  return largest == -std::numeric_limits<C>::infinity() ? C(0) : largest;
}
struct MergeExponentials {
  template <class C>
  DT_HD Exponentials<C> operator()(Exponentials<C> a, Exponentials<C> b) const {
    const C largest = a.largest > b.largest ? a.largest : b.largest;
    const C reference = reference_of(largest);
    const auto scaled = [=](const Exponentials<C>& part) {
      return part.largest == largest ? part.sum : part.sum * static_cast<double>(std::exp(part.largest - reference));
    };
    return {largest, scaled(a) + scaled(b)};
  }
};

template <class T>
DT_HD Exponentials<Compute<T>> exponentials_of(const Pack<T>& pack) {
  using C = Compute<T>;
  C largest = -std::numeric_limits<C>::infinity();
  for (int j = 0; j < kPack<T>; ++j) {
    largest = pack[j] > largest ? pack[j] : largest;
  }
  const C reference = reference_of(largest);
  C sum = 0;
  for (int j = 0; j < kPack<T>; ++j) {
    sum += std::exp(pack[j] - reference);
  }
  return {largest, static_cast<double>(sum)};
}

/// In one pass over the line.
template <int kThreads, class T>
DT_HD Exponentials<Compute<T>> exponentials_of(Block<kThreads>& block, const Line<T>& line, int64_t length) {
  using C = Compute<T>;
  return block.reduce(packs_of<T>(length), no_exponentials<C>(), MergeExponentials{},
                      [&](int64_t i) { return exponentials_of(line.pack(i, -std::numeric_limits<C>::infinity())); });
}

// Bytes: each element read twice (once from the cache where the lines at work fit) and written once.
template <int kThreads, class T>
struct Softmax {
  Lines<T> x;
  Lines<T> out;
  bool log;

  DT_HD void operator()(Block<kThreads>& block) const {
    using C = Compute<T>;
    const Line<T> from = x.line(block.index());
    const OutLine<T> to = out.out_line(block.index());
    const int64_t length = x.layout.length;
    const Exponentials<C> all = exponentials_of(block, from, length);
    const auto log_sum = static_cast<C>(std::log(all.sum));
    const auto scale = static_cast<C>(1.0 / all.sum);
    block.each(packs_of<T>(length), [&](int64_t i) {
      Pack<T> pack = from.pack(i);
      for (int j = 0; j < kPack<T>; ++j) {
        const C below = pack[j] - all.largest;
        pack[j] = log ? below - log_sum : std::exp(below) * scale;
      }
      to.set_pack(i, pack);
    });
  }
};

// Bytes: y and dy read twice (once from the cache), dx written once.
template <int kThreads, class T>
struct SoftmaxBackward {
  Lines<T> y;
  Lines<T> dy;
  Lines<T> out;
  bool log;

  DT_HD void operator()(Block<kThreads>& block) const {
    using C = Compute<T>;
    const Line<T> y_line = y.line(block.index());
    const Line<T> dy_line = dy.line(block.index());
    const OutLine<T> to = out.out_line(block.index());
    const int64_t packs = packs_of<T>(y.layout.length);
    const auto sum = static_cast<C>(block.template sum<double>(packs, [&](int64_t i) {
      const Pack<T> value = y_line.pack(i);
      const Pack<T> upstream = dy_line.pack(i);
      C part = 0;
      for (int j = 0; j < kPack<T>; ++j) {
        part += log ? upstream[j] : value[j] * upstream[j];
      }
      return static_cast<double>(part);
    }));
    block.each(packs, [&](int64_t i) {
      const Pack<T> value = y_line.pack(i);
      Pack<T> pack = dy_line.pack(i);
      for (int j = 0; j < kPack<T>; ++j) {
        pack[j] = log ? pack[j] - std::exp(value[j]) * sum : value[j] * (pack[j] - sum);
      }
      to.set_pack(i, pack);
    });
  }
};

// Bytes: each logit read once.
template <int kThreads, class T>
struct CrossEntropy {
  Lines<T> logits;
  const int64_t* target;
  Compute<T>* terms;
  Compute<T>* largest;
  Compute<T>* sums;

  DT_HD void operator()(Block<kThreads>& block) const {
    using C = Compute<T>;
    const int64_t row = block.index();
    const Line<T> x = logits.line(row);
    const Exponentials<C> all = exponentials_of(block, x, logits.layout.length);
    block.once([&] {
      largest[row] = all.largest;
      sums[row] = static_cast<C>(all.sum);
      terms[row] = static_cast<C>(std::log(all.sum)) - (x[target[row]] - all.largest);
    });
  }
};

// Bytes: each logit read and each gradient written once.
template <int kThreads, class T>
struct CrossEntropyBackward {
  Lines<T> logits;
  const int64_t* target;
  const Compute<T>* largest;
  const Compute<T>* sums;
  const Compute<T>* weight;
  Lines<T> out;

  DT_HD void operator()(Block<kThreads>& block) const {
    using C = Compute<T>;
    const int64_t row = block.index();
    const Line<T> x = logits.line(row);
    const OutLine<T> to = out.out_line(row);
    const C w = weight[row];
    const C top = largest[row];
    const auto scale = static_cast<C>(static_cast<double>(w) / static_cast<double>(sums[row]));
    const int64_t place = target[row];
    block.each(packs_of<T>(logits.layout.length), [&](int64_t i) {
      Pack<T> pack = x.pack(i);
      for (int j = 0; j < kPack<T>; ++j) {
        const C gradient = std::exp(pack[j] - top) * scale - (i * kPack<T> + j == place ? w : C(0));
        pack[j] = w == C(0) ? C(0) : gradient;  // also where logits are NaN
      }
      to.set_pack(i, pack);
    });
  }
};

}  // namespace

void CudaBackend::softmax(const Tensor& x, bool log, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const Tensor from = with_rows(x);
  visit_floating(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Lines<T> lines = rows_of<T>(from);
    launch_for_lines<T, Softmax>(current_stream(x.device()), lines.layout.count, lines.layout.length, 0, lines,
                                 rows_of<T>(out), log);
  });
}

void CudaBackend::softmax_backward(const Tensor& y, const Tensor& dy, bool log, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const Tensor values = with_rows(y);
  const Tensor upstream = with_rows(dy);
  visit_floating(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Lines<T> lines = rows_of<T>(values);
    launch_for_lines<T, SoftmaxBackward>(current_stream(y.device()), lines.layout.count, lines.layout.length, 0, lines,
                                         rows_of<T>(upstream), rows_of<T>(out), log);
  });
}

void CudaBackend::cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
                                const Tensor& sum) const {
  if (terms.numel() == 0) {
    return;
  }
  const Tensor places = indices_for_replays("cross_entropy", "target", target, logits.shape().back());
  const auto* place = static_cast<const int64_t*>(places.raw());
  visit_floating(logits.dtype(), [&](auto tag) {
    using T = decltype(tag);
    using C = Compute<T>;
    const Lines<T> lines = rows_of<T>(logits);
    launch_for_lines<T, CrossEntropy>(current_stream(logits.device()), lines.layout.count, lines.layout.length, 0,
                                      lines, place, static_cast<C*>(terms.mutable_raw()),
                                      static_cast<C*>(largest.mutable_raw()), static_cast<C*>(sum.mutable_raw()));
  });
}

void CudaBackend::cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& largest,
                                         const Tensor& sum, const Tensor& weight, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const Tensor places = indices_for_replays("cross_entropy", "target", target, logits.shape().back());
  const auto* place = static_cast<const int64_t*>(places.raw());
  visit_floating(logits.dtype(), [&](auto tag) {
    using T = decltype(tag);
    using C = Compute<T>;
    const Lines<T> lines = rows_of<T>(logits);
    launch_for_lines<T, CrossEntropyBackward>(current_stream(logits.device()), lines.layout.count, lines.layout.length,
                                              0, lines, place, static_cast<const C*>(largest.raw()),
                                              static_cast<const C*>(sum.raw()), static_cast<const C*>(weight.raw()),
                                              rows_of<T>(out));
  });
}

}  // namespace deltatape::cuda

// Depthwise causal convolution over time, with segments, and its gradients.
#include <algorithm>
#include <cstdint>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"

namespace deltatape::cuda {
namespace {

constexpr int64_t kSteps = 8;        // of time, that a thread does one after the other
constexpr int64_t kPieceSteps = 64;  // whose share of dweight a thread adds up

/// Sizes, and where each position's segment starts.
struct Problem {
  int64_t time;
  int64_t channels;
  int64_t width;
  const int64_t* starts;  // [batch, time], or null

  [[nodiscard]] DT_HD int64_t start(int64_t entry, int64_t t) const {
    return starts == nullptr ? 0 : starts[entry * time + t];
  }
};

/// A piece of time of some channels: threads count channels fastest.
struct Part {
  int64_t entry;
  int64_t first;  // time
  int64_t last;
  int64_t pack;
};
DT_HD inline Part part_of(const Problem& problem, int64_t i, int64_t packs, int64_t steps) {
  const Division across = divide(i, packs);
  const Division along = divide(across.quotient, (problem.time + steps - 1) / steps);
  const int64_t first = along.remainder * steps;
  return {along.quotient, first, first + steps < problem.time ? first + steps : problem.time, across.remainder};
}

/// All taps of a pack's channels: they lie side by side.
template <class T, int kWidth>
struct AllTaps {
  Pack<T> of[kWidth];

  DT_HD AllTaps(const Problem& problem, const T* weight, int64_t pack) {
    const Line<T> line(weight, 1, problem.channels * kWidth, reinterpret_cast<uintptr_t>(weight) % 16 == 0);
    for (int part = 0; part < kWidth; ++part) {
      const Pack<T> taps = line.pack(pack * kWidth + part);
      for (int k = 0; k < kPack<T>; ++k) {
        const int at = part * kPack<T> + k;
        of[at % kWidth][at / kWidth] = taps[k];
      }
    }
  }
};
template <class T>
DT_HD Pack<T> zeros() {
  Pack<T> pack;
  for (int j = 0; j < kPack<T>; ++j) {
    pack[j] = Compute<T>(0);
  }
  return pack;
}
template <class T>
DT_HD void add_product(Pack<T>& sum, const Pack<T>& w, const Pack<T>& x) {
  for (int j = 0; j < kPack<T>; ++j) {
    sum[j] += w[j] * x[j];
  }
}

/// For weights of width kWidth, whose taps are kept in registers.
// Bytes: each element of x read once from memory (kWidth times from the cache), and of out written once.
template <class T, int kWidth>
struct ConvolutionForward {
  Problem problem;
  Lines<T> x;       // [batch time] lines of channels
  const T* weight;  // [channels, width]
  const T* bias;    // [channels], or null
  Lines<T> out;

  DT_HD void operator()(int64_t i) const {
    const Part place = part_of(problem, i, packs_of<T>(problem.channels), kSteps);
    const AllTaps<T, kWidth> kept(problem, weight, place.pack);
    Pack<T> start;
    for (int j = 0; j < kPack<T>; ++j) {
      const int64_t d = place.pack * kPack<T> + j;
      start[j] = bias != nullptr && d < problem.channels ? widen(bias[d]) : Compute<T>(0);
    }
    for (int64_t t = place.first; t < place.last; ++t) {
      const int64_t oldest = t - kWidth + 1;
      const int64_t first = problem.start(place.entry, t);
      const int64_t line = place.entry * problem.time + oldest;
      Pack<T> sum = start;
      for (int tap = 0; tap < kWidth; ++tap) {
        if (oldest + tap >= first) {
          add_product(sum, kept.of[tap], x.line(line + tap).pack(place.pack));
        }
      }
      out.out_line(place.entry * problem.time + t).set_pack(place.pack, sum);
    }
  }
};
/// For any width: a thread per element.
// Bytes: as above.
template <class T>
struct ConvolutionForward<T, 0> {
  Problem problem;
  Lines<T> x;
  const T* weight;
  const T* bias;
  Lines<T> out;

  DT_HD void operator()(int64_t i) const {
    const Division across = divide(i, problem.channels);
    const Division along = divide(across.quotient, problem.time);
    const int64_t d = across.remainder;
    const int64_t t = along.remainder;
    const int64_t oldest = t - problem.width + 1;
    const int64_t start = problem.start(along.quotient, t);
    Compute<T> sum = bias == nullptr ? Compute<T>(0) : widen(bias[d]);
    const T* const taps = weight + d * problem.width;
    for (int64_t tap = 0; tap < problem.width; ++tap) {
      if (oldest + tap >= start) {
        sum += widen(taps[tap]) * x.line(along.quotient * problem.time + oldest + tap)[d];
      }
    }
    out.out_line(across.quotient).set(d, sum);
  }
};

/// dx[t] = sum over s in [t, t + width) with t in the segment of s of weight[width - 1 - (s - t)] dy[s].
// Bytes: as forward.
template <class T, int kWidth>
struct ConvolutionBackwardX {
  Problem problem;
  Lines<T> dy;
  const T* weight;
  Lines<T> dx;

  DT_HD void operator()(int64_t i) const {
    const Part place = part_of(problem, i, packs_of<T>(problem.channels), kSteps);
    const AllTaps<T, kWidth> kept(problem, weight, place.pack);
    for (int64_t t = place.first; t < place.last; ++t) {
      const int64_t line = place.entry * problem.time + t;
      Pack<T> sum = zeros<T>();
      for (int ahead = 0; ahead < kWidth; ++ahead) {
        if (t + ahead < problem.time && problem.start(place.entry, t + ahead) <= t) {
          add_product(sum, kept.of[kWidth - 1 - ahead], dy.line(line + ahead).pack(place.pack));
        }
      }
      dx.out_line(line).set_pack(place.pack, sum);
    }
  }
};
template <class T>
struct ConvolutionBackwardX<T, 0> {
  Problem problem;
  Lines<T> dy;
  const T* weight;
  Lines<T> dx;

  DT_HD void operator()(int64_t i) const {
    const Division across = divide(i, problem.channels);
    const Division along = divide(across.quotient, problem.time);
    const int64_t d = across.remainder;
    const int64_t t = along.remainder;
    Compute<T> sum = 0;
    for (int64_t s = t; s < t + problem.width && s < problem.time; ++s) {
      if (problem.start(along.quotient, s) <= t) {
        sum += widen(weight[d * problem.width + problem.width - 1 - (s - t)]) *
               dy.line(along.quotient * problem.time + s)[d];
      }
    }
    dx.out_line(across.quotient).set(d, sum);
  }
};

/// A share of dweight: shares[piece, d, tap] = sum over the piece's t of dy[t, d] x[t - width + 1 + tap, d]. A thread
/// has all taps of some channels.
// Bytes: dy read once, x once from memory and width times from the cache; the shares are width / 64 of that.
template <class T, int kWidth>
struct ConvolutionBackwardWeight {
  Problem problem;
  Lines<T> x;
  Lines<T> dy;
  Compute<T>* shares;  // [batch pieces, channels, width]

  DT_HD void operator()(int64_t i) const {
    const int64_t packs = packs_of<T>(problem.channels);
    const Part place = part_of(problem, i, packs, kPieceSteps);
    const int64_t base = place.entry * problem.time;
    Pack<T> sums[kWidth];
    for (int tap = 0; tap < kWidth; ++tap) {
      sums[tap] = zeros<T>();
    }
    for (int64_t t = place.first; t < place.last; ++t) {
      const int64_t start = problem.start(place.entry, t);
      const Pack<T> upstream = dy.line(base + t).pack(place.pack);
      for (int tap = 0; tap < kWidth; ++tap) {
        const int64_t s = t - kWidth + 1 + tap;
        if (s >= start) {
          add_product(sums[tap], upstream, x.line(base + s).pack(place.pack));
        }
      }
    }
    Compute<T>* const share = shares + divide(i, packs).quotient * problem.channels * kWidth;
    for (int j = 0; j < kPack<T>; ++j) {
      const int64_t d = place.pack * kPack<T> + j;
      if (d < problem.channels) {
        for (int tap = 0; tap < kWidth; ++tap) {
          share[d * kWidth + tap] = sums[tap][j];
        }
      }
    }
  }
};
/// For any width: a thread has one tap of one channel.
// Bytes: x and dy are read width times, mostly from the cache.
template <class T>
struct ConvolutionBackwardWeight<T, 0> {
  Problem problem;
  Lines<T> x;
  Lines<T> dy;
  Compute<T>* shares;

  DT_HD void operator()(int64_t i) const {
    const Division by_tap = divide(i, problem.channels * problem.width);
    const Division across = divide(by_tap.remainder, problem.channels);
    const int64_t tap = across.quotient;
    const int64_t d = across.remainder;
    const Part place = part_of(problem, by_tap.quotient, 1, kPieceSteps);
    const int64_t base = place.entry * problem.time;
    Compute<T> sum = 0;
    for (int64_t t = place.first; t < place.last; ++t) {
      const int64_t s = t - problem.width + 1 + tap;
      if (s >= problem.start(place.entry, t)) {
        sum += dy.line(base + t)[d] * x.line(base + s)[d];
      }
    }
    shares[(by_tap.quotient * problem.channels + d) * problem.width + tap] = sum;
  }
};

/// starts as a dense tensor on x's device.
struct Call {
  Tensor starts;
  Problem problem;

  Call(const Tensor& x, const Tensor& weight, const Tensor& starts_in)
      : starts(dense_on(starts_in, x.device())),
        problem{x.shape()[1], x.shape()[2], weight.shape()[1], data_of<const int64_t>(starts)} {}
  [[nodiscard]] int64_t pieces(int64_t steps) const { return (problem.time + steps - 1) / steps; }
};

}  // namespace

void CudaBackend::causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts,
                                const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const Call call(x, weight, starts);
  const Tensor from = with_rows(x);
  const Tensor w = dense(weight);
  const Tensor b = dense(bias);
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Stream stream = current_stream(x.device());
    const auto run = [&](auto body, int64_t threads) { launch_elements(stream, threads, body); };
    if (call.problem.width == 4) {
      run(ConvolutionForward<T, 4>{call.problem, rows_of<T>(from), data_of<const T>(w), data_of<const T>(b),
                                   rows_of<T>(out)},
          x.shape()[0] * call.pieces(kSteps) * packs_of<T>(call.problem.channels));
    } else {
      run(ConvolutionForward<T, 0>{call.problem, rows_of<T>(from), data_of<const T>(w), data_of<const T>(b),
                                   rows_of<T>(out)},
          out.numel());
    }
  });
}

void CudaBackend::causal_conv1d_backward(const Tensor& x, const Tensor& weight, const Tensor& starts, const Tensor& dy,
                                         const Tensor& dx, const Tensor& dweight) const {
  const Call call(dy, weight, starts);
  const int64_t batch = dy.shape()[0];
  const Tensor upstream = dy.numel() == 0 ? dy : with_rows(dy);
  if (dx.defined() && dx.numel() > 0) {
    const Tensor w = dense(weight);
    visit_floating(dy.dtype(), [&](auto tag) {
      using T = decltype(tag);
      const Stream stream = current_stream(dy.device());
      if (call.problem.width == 4) {
        launch_elements(
            stream, batch * call.pieces(kSteps) * packs_of<T>(call.problem.channels),
            ConvolutionBackwardX<T, 4>{call.problem, rows_of<T>(upstream), data_of<const T>(w), rows_of<T>(dx)});
      } else {
        launch_elements(
            stream, dx.numel(),
            ConvolutionBackwardX<T, 0>{call.problem, rows_of<T>(upstream), data_of<const T>(w), rows_of<T>(dx)});
      }
    });
  }
  if (dweight.defined() && dweight.numel() > 0) {
    const int64_t pieces = batch * call.pieces(kPieceSteps);
    visit_floating(dy.dtype(), [&](auto tag) {
      using T = decltype(tag);
      using C = Compute<T>;
      const Tensor shares = empty({pieces, dweight.numel()}, dtype_of<C>, dy.device());
      if (pieces > 0) {
        const Tensor from = with_rows(x);
        const int64_t threads = pieces * packs_of<T>(call.problem.channels);
        const auto run = [&](auto body, int64_t count) { launch_elements(current_stream(dy.device()), count, body); };
        if (call.problem.width == 4) {
          run(ConvolutionBackwardWeight<T, 4>{call.problem, rows_of<T>(from), rows_of<T>(upstream), data_of<C>(shares)},
              threads);
        } else {
          run(ConvolutionBackwardWeight<T, 0>{call.problem, rows_of<T>(from), rows_of<T>(upstream), data_of<C>(shares)},
              pieces * dweight.numel());
        }
      }
      reduce(ReduceKind::sum, shares, as_rows(dweight, dweight.numel()));
    });
  }
}

}  // namespace deltatape::cuda

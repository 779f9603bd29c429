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

/// weight[d, tap] for the channels of a pack; behind the last channel 0.
template <class T>
DT_HD Pack<T> taps(const Problem& problem, const T* weight, int64_t pack, int64_t tap) {
  Pack<T> result;
  for (int j = 0; j < kPack<T>; ++j) {
    const int64_t d = pack * kPack<T> + j;
    result[j] = d < problem.channels ? widen(weight[d * problem.width + tap]) : Compute<T>(0);
  }
  return result;
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
/// Where taps are not kept.
template <class T>
struct AllTaps<T, 0> {
  DT_HD AllTaps(const Problem& /*problem*/, const T* /*weight*/, int64_t /*pack*/) {}
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

/// kWidth: that of the weight, whose taps are kept in registers then; 0 for any.
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
      const int64_t oldest = t - problem.width + 1;
      const int64_t first = problem.start(place.entry, t);
      const int64_t line = place.entry * problem.time + oldest;
      Pack<T> sum = start;
      if constexpr (kWidth > 0) {
        for (int tap = 0; tap < kWidth; ++tap) {
          if (oldest + tap >= first) {
            add_product(sum, kept.of[tap], x.line(line + tap).pack(place.pack));
          }
        }
      } else {
        for (int64_t tap = oldest < first ? first - oldest : 0; tap < problem.width; ++tap) {
          add_product(sum, taps(problem, weight, place.pack, tap), x.line(line + tap).pack(place.pack));
        }
      }
      out.out_line(place.entry * problem.time + t).set_pack(place.pack, sum);
    }
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
      const int64_t reach = problem.time - t < problem.width ? problem.time - t : problem.width;
      if constexpr (kWidth > 0) {
        for (int ahead = 0; ahead < kWidth; ++ahead) {
          if (ahead < reach && problem.start(place.entry, t + ahead) <= t) {
            add_product(sum, kept.of[kWidth - 1 - ahead], dy.line(line + ahead).pack(place.pack));
          }
        }
      } else {
        for (int64_t ahead = 0; ahead < reach; ++ahead) {
          if (problem.start(place.entry, t + ahead) <= t) {
            add_product(sum, taps(problem, weight, place.pack, problem.width - 1 - ahead),
                        dy.line(line + ahead).pack(place.pack));
          }
        }
      }
      dx.out_line(line).set_pack(place.pack, sum);
    }
  }
};

/// A share of dweight: shares[piece, d, tap] = sum over the piece's t of dy[t, d] x[t - width + 1 + tap, d]. A thread
/// has all taps, and keeps the last inputs, where kWidth says how many; else one tap.
// Bytes: x and dy read once (with kWidth = 0 width times, mostly from the cache); the shares are width / 64 of that.
template <class T, int kWidth>
struct ConvolutionBackwardWeight {
  Problem problem;
  Lines<T> x;
  Lines<T> dy;
  Compute<T>* shares;  // [batch pieces, channels, width]

  DT_HD void operator()(int64_t i) const {
    const int64_t packs = packs_of<T>(problem.channels);
    if constexpr (kWidth == 0) {
      const Division by_tap = divide(i, packs * problem.width);
      const Division across = divide(by_tap.remainder, packs);
      const int64_t piece = by_tap.quotient;
      const Part place = part_of(problem, piece * packs + across.remainder, packs, kPieceSteps);
      store(piece, place.pack, across.quotient, sum_of_tap(place, across.quotient));
    } else {
      const Part place = part_of(problem, i, packs, kPieceSteps);
      const int64_t base = place.entry * problem.time;
      Pack<T> last[kWidth];  // x[t - kWidth + 1], .., x[t]
      Pack<T> sums[kWidth];
      for (int tap = 0; tap < kWidth; ++tap) {
        sums[tap] = zeros<T>();
        const int64_t s = place.first - kWidth + tap;
        last[tap] = s >= 0 ? x.line(base + s).pack(place.pack) : zeros<T>();
      }
      for (int64_t t = place.first; t < place.last; ++t) {
        const int64_t start = problem.start(place.entry, t);
        const Pack<T> upstream = dy.line(base + t).pack(place.pack);
        for (int tap = 0; tap + 1 < kWidth; ++tap) {
          last[tap] = last[tap + 1];
        }
        last[kWidth - 1] = x.line(base + t).pack(place.pack);
        for (int tap = 0; tap < kWidth; ++tap) {
          if (t - kWidth + 1 + tap >= start) {
            add_product(sums[tap], upstream, last[tap]);
          }
        }
      }
      for (int tap = 0; tap < kWidth; ++tap) {
        store(divide(i, packs).quotient, place.pack, tap, sums[tap]);
      }
    }
  }

  [[nodiscard]] DT_HD Pack<T> sum_of_tap(const Part& place, int64_t tap) const {
    Pack<T> sum = zeros<T>();
    for (int64_t t = place.first; t < place.last; ++t) {
      const int64_t s = t - problem.width + 1 + tap;
      if (s >= problem.start(place.entry, t)) {
        const int64_t base = place.entry * problem.time;
        add_product(sum, dy.line(base + t).pack(place.pack), x.line(base + s).pack(place.pack));
      }
    }
    return sum;
  }
  DT_HD void store(int64_t piece, int64_t pack, int64_t tap, const Pack<T>& sum) const {
    for (int j = 0; j < kPack<T>; ++j) {
      const int64_t d = pack * kPack<T> + j;
      if (d < problem.channels) {
        shares[(piece * problem.channels + d) * problem.width + tap] = sum[j];
      }
    }
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
    const int64_t threads = x.shape()[0] * call.pieces(kSteps) * packs_of<T>(call.problem.channels);
    const auto run = [&](auto body) { launch_elements(current_stream(x.device()), threads, body); };
    if (call.problem.width == 4) {
      run(ConvolutionForward<T, 4>{call.problem, rows_of<T>(from), data_of<const T>(w), data_of<const T>(b),
                                   rows_of<T>(out)});
    } else {
      run(ConvolutionForward<T, 0>{call.problem, rows_of<T>(from), data_of<const T>(w), data_of<const T>(b),
                                   rows_of<T>(out)});
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
      const int64_t threads = batch * call.pieces(kSteps) * packs_of<T>(call.problem.channels);
      const auto run = [&](auto body) { launch_elements(current_stream(dy.device()), threads, body); };
      if (call.problem.width == 4) {
        run(ConvolutionBackwardX<T, 4>{call.problem, rows_of<T>(upstream), data_of<const T>(w), rows_of<T>(dx)});
      } else {
        run(ConvolutionBackwardX<T, 0>{call.problem, rows_of<T>(upstream), data_of<const T>(w), rows_of<T>(dx)});
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
              threads * call.problem.width);
        }
      }
      reduce(ReduceKind::sum, shares, as_rows(dweight, dweight.numel()));
    });
  }
}

}  // namespace deltatape::cuda

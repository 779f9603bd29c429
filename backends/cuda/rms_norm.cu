// Root-mean-square normalisation over the last dimension, with or without a gate, and its gradients.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda {
namespace {

/// The gate's activation and its derivative.
struct Activation {
  bool silu;
  template <class C>
  DT_HD C operator()(C z) const {
    const C s = elementwise::sigmoid(z);
    return silu ? z * s : s;
  }
  /// `times` slope(z), from z and the activation's value.
  template <class C>
  DT_HD C backward(C z, C value, C times) const {
    return silu ? elementwise::Binary<BinaryKind::silu_backward>{}(z, times)
                : elementwise::Binary<BinaryKind::sigmoid_backward>{}(value, times);
  }
};

// Bytes: x (and the gate) read twice, once from the cache, and y written once.
template <int kThreads, class T>
struct Forward {
  Lines<T> x;
  Lines<T> weight;  // one line, or null
  Lines<T> gate;    // or null
  Activation activation;
  double divisor;
  double eps;
  Lines<T> out;
  Compute<T>* rstd;

  DT_HD void operator()(Block<kThreads>& block) const {
    using C = Compute<T>;
    const int64_t row = block.index();
    const Line<T> from = x.line(row);
    const int64_t packs = packs_of<T>(x.layout.length);
    const double squares = block.template sum<double>(packs, [&](int64_t i) {
      const Pack<T> pack = from.pack(i);
      C sum = 0;
      for (int j = 0; j < kPack<T>; ++j) {
        sum += pack[j] * pack[j];
      }
      return static_cast<double>(sum);
    });
    const auto factor = static_cast<C>(1.0 / std::sqrt(squares / divisor + eps));
    block.each(packs, [&](int64_t i) {
      Pack<T> pack = from.pack(i);
      for (int j = 0; j < kPack<T>; ++j) {
        pack[j] *= factor;
      }
      if (weight) {
        const Pack<T> scale = weight.line(0).pack(i);
        for (int j = 0; j < kPack<T>; ++j) {
          pack[j] *= scale[j];
        }
      }
      if (gate) {
        const Pack<T> z = gate.line(row).pack(i);
        for (int j = 0; j < kPack<T>; ++j) {
          pack[j] *= activation(z[j]);
        }
      }
      out.out_line(row).set_pack(i, pack);
    });
    block.once([&] { rstd[row] = factor; });
  }
};

// With n = x rstd, u = dy act(z) and a = 1 / D (or 1): dx = rstd (u w - n (a rstd sum(u w x))), dw = sum over rows of
// u n, dz = dy n w act'(z). A block has some consecutive rows, and adds up their share of dw.
// Bytes: x, dy (and the gate) read twice, once from the cache; dx (and dz) written once; dw's shares written once.
template <int kThreads, class T>
struct Backward {
  using C = Compute<T>;
  Lines<T> x;
  Lines<T> weight;
  Lines<T> gate;
  Lines<T> dy;
  Activation activation;
  const C* rstd;
  double average;
  int64_t rows_per_block;
  Lines<T> dx;  // or null, as the next
  Lines<T> dgate;
  C* shares;       // of dw [blocks, D], or null
  bool in_shared;  // whether a share is added up in shared memory, where it fits, or where it goes

  DT_HD void operator()(Block<kThreads>& block) const {
    const int64_t length = x.layout.length;
    const int64_t packs = packs_of<T>(length);
    C* const share = shares == nullptr ? nullptr : shares + block.index() * length;
    const Shared<C> sums = block.template shared<C>(share != nullptr && in_shared ? packs * kPack<T> : 0);
    if (share != nullptr) {
      block.each(packs, [&](int64_t i) {
        for (int64_t c = i * kPack<T>; c < i * kPack<T> + kPack<T> && c < length; ++c) {
          in_shared ? void(sums[place(c, packs)] = C(0)) : void(share[c] = C(0));
        }
      });
    }
    const int64_t first = block.index() * rows_per_block;
    const int64_t last = first + rows_per_block < x.layout.count ? first + rows_per_block : x.layout.count;
    for (int64_t row = first; row < last; ++row) {
      const auto dot = block.template sum<double>(packs, [&](int64_t i) {
        const Terms terms(*this, row, i);
        C sum = 0;
        for (int j = 0; j < kPack<T>; ++j) {
          sum += terms.u[j] * terms.w[j] * terms.x[j];
        }
        return static_cast<double>(sum);
      });
      const C r = rstd[row];
      const auto slope = static_cast<C>(average * static_cast<double>(r) * dot);
      block.each(packs, [&](int64_t i) {
        const Terms terms(*this, row, i);
        Pack<T> direct;
        for (int j = 0; j < kPack<T>; ++j) {
          const C n = terms.x[j] * r;
          const int64_t c = i * kPack<T> + j;
          if (share != nullptr && c < length) {
            in_shared ? void(sums[place(c, packs)] += terms.u[j] * n) : void(share[c] += terms.u[j] * n);
          }
          direct[j] = r * (terms.u[j] * terms.w[j] - n * slope);
        }
        if (dx) {
          dx.out_line(row).set_pack(i, direct);
        }
        if (dgate) {
          dgate.out_line(row).set_pack(i, terms.of_gate(r));
        }
      });
    }
    if (share != nullptr && in_shared) {
      block.each(packs, [&](int64_t i) {
        for (int64_t c = i * kPack<T>; c < i * kPack<T> + kPack<T> && c < length; ++c) {
          share[c] = sums[place(c, packs)];
        }
      });
    }
  }

  /// Where column c is added up: so that neighbouring threads meet different banks of shared memory.
  DT_HD static int64_t place(int64_t c, int64_t packs) { return c % kPack<T> * packs + c / kPack<T>; }

  /// What one pack of a row is made of. Behind the row's end everything is 0.
  struct Terms {
    const Backward& call;
    Pack<T> x;
    Pack<T> w;
    Pack<T> upstream;
    Pack<T> z;
    Pack<T> u;

    DT_HD Terms(const Backward& backward, int64_t row, int64_t i)
        : call(backward), x(backward.x.line(row).pack(i)), upstream(backward.dy.line(row).pack(i)) {
      for (int j = 0; j < kPack<T>; ++j) {
        w[j] = C(1);
        z[j] = C(0);
        u[j] = upstream[j];
      }
      if (call.weight) {
        w = call.weight.line(0).pack(i);
      }
      if (call.gate) {
        z = call.gate.line(row).pack(i);
        for (int j = 0; j < kPack<T>; ++j) {
          u[j] *= call.activation(z[j]);
        }
      }
    }
    [[nodiscard]] DT_HD Pack<T> of_gate(C r) const {
      Pack<T> dz;
      for (int j = 0; j < kPack<T>; ++j) {
        const C value = call.activation(z[j]);
        dz[j] = call.activation.backward(z[j], value, upstream[j] * (x[j] * r * w[j]));
      }
      return dz;
    }
  };
};

struct Options {
  bool silu = false;
  double eps = 0.0;
  bool sum = false;
};

void forward(const Tensor& x_in, const Tensor& weight_in, const Tensor& gate_in, const Options& options,
             const Tensor& out, const Tensor& rstd) {
  if (rstd.numel() == 0) {
    return;
  }
  const Tensor x = with_rows(x_in);
  const Tensor weight = converted(weight_in, x.dtype());
  const Tensor gate = gate_in.defined() ? with_rows(gate_in) : gate_in;
  const int64_t length = x.shape().back();
  const double divisor = options.sum ? 1.0 : static_cast<double>(length);
  visit_floating(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    launch_for_lines<T, Forward>(current_stream(x.device()), rstd.numel(), length, 0, rows_of<T>(x), rows_of<T>(weight),
                                 rows_of<T>(gate), Activation{options.silu}, divisor, options.eps, rows_of<T>(out),
                                 data_of<Compute<T>>(rstd));
  });
}

struct Gradients {
  Tensor dx;
  Tensor dweight;
  Tensor dgate;
};

void backward(const Tensor& x, const Tensor& weight_in, const Tensor& gate, const Options& options, const Tensor& rstd,
              const Tensor& dy, const Gradients& gradients) {
  const int64_t rows = rstd.numel();
  const int64_t length = x.shape().back();
  const Tensor weight = converted(weight_in, x.dtype());
  const bool sums = gradients.dweight.defined();
  const Backend& backend = backend_of(x);
  visit_floating(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    using C = Compute<T>;
    // Enough blocks to keep a GPU busy; each has up to 64 rows, whose share of dw is added up in C, and shares in f64.
    const int64_t enough = packs_of<T>(length) <= kPacksOfWarp ? 8192 : 1024;
    const int64_t per_block = sums ? std::clamp<int64_t>(rows / enough, 1, 64) : 1;
    const int64_t blocks = (rows + per_block - 1) / per_block;
    const Tensor shares = sums ? empty({blocks, length}, dtype_of<C>, x.device()) : Tensor();
    constexpr int64_t kMostShared = int64_t{16} << 10;
    const int64_t bytes = shared_bytes<C>(packs_of<T>(length) * kPack<T>);
    const bool in_shared = bytes <= kMostShared * (packs_of<T>(length) <= kPacksOfWarp ? 1 : 4);
    if (blocks * length > 0) {
      launch_for_lines<T, Backward>(
          current_stream(x.device()), blocks, length, sums && in_shared ? bytes : 0, rows_of<T>(x), rows_of<T>(weight),
          rows_of<T>(gate), rows_of<T>(dy), Activation{options.silu}, static_cast<const C*>(rstd.raw()),
          options.sum ? 1.0 : 1.0 / static_cast<double>(length), per_block, rows_of<T>(gradients.dx),
          rows_of<T>(gradients.dgate), data_of<C>(shares), in_shared);
    }
    if (sums) {
      backend.reduce(ReduceKind::sum, shares, as_rows(gradients.dweight, length));
    }
  });
}

}  // namespace

void CudaBackend::rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                           const Tensor& rstd) const {
  forward(x, weight, Tensor(), {.eps = eps, .sum = sum}, out, rstd);
}

void CudaBackend::rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy,
                                    bool sum, const Tensor& dx, const Tensor& dweight) const {
  backward(x, weight, Tensor(), {.sum = sum}, rstd, dy, {dx, dweight, Tensor()});
}

void CudaBackend::gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, double eps,
                                 const Tensor& out, const Tensor& rstd) const {
  forward(x, weight, gate, {.silu = silu, .eps = eps}, out, rstd);
}

void CudaBackend::gated_rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu,
                                          const Tensor& rstd, const Tensor& dy, const Tensor& dx, const Tensor& dweight,
                                          const Tensor& dgate) const {
  backward(x, weight, gate, {.silu = silu}, rstd, dy, {dx, dweight, dgate});
}

}  // namespace deltatape::cuda

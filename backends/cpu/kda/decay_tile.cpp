#include "backends/cpu/kda/decay_tile.h"

#include "backends/cpu/kda/row_dots.h"

namespace deltatape::cpu::kda {
namespace {

/// The row whose sum is the reference of the centred form: exponents reach 8 |g| to either side.
constexpr int64_t kAnchor = 7;
constexpr double kLowestCentred = -5.0;  // exp(40) and exp(-40) are ordinary numbers in f32

template <class T>
void exp_rows(int64_t count, const T* x, T* out) {
  for_registers<T>(count, [&](int64_t i) { exp(Vec<T>::load(x + i)).store(out + i); });
}

template <class T>
void multiply(int64_t count, const T* a, const T* b, T* out) {
  for_registers<T>(count, [&](int64_t i) { (Vec<T>::load(a + i) * Vec<T>::load(b + i)).store(out + i); });
}

/// Inside blocks of h rows: the decay from the block's start through each row, and from behind each row to the
/// block's end. Starts with h = 1.
template <class T>
class BlockDecay {
 public:
  BlockDecay(const T* g, int64_t Kp, T* from_start, T* to_end) : Kp_(Kp), from_start_(from_start), to_end_(to_end) {
    exp_rows(kTileRows * Kp, g, from_start);
    std::fill(to_end, to_end + kTileRows * Kp, T(1));
  }
  [[nodiscard]] const T* from_start(int64_t row) const { return from_start_ + row * Kp_; }
  [[nodiscard]] const T* to_end(int64_t row) const { return to_end_ + row * Kp_; }
  /// From blocks of h rows to blocks of 2 h rows.
  void join(int64_t h) {
    for (int64_t a = 0; a < kTileRows; a += 2 * h) {
      const int64_t m = a + h;
      const T* second = from_start_ + (m + h - 1) * Kp_;  // the decay of the whole second half
      for (int64_t j = a; j < m; ++j) {
        multiply(Kp_, to_end_ + j * Kp_, second, to_end_ + j * Kp_);
      }
      const T* first = from_start_ + (m - 1) * Kp_;
      for (int64_t i = m; i < m + h; ++i) {
        multiply(Kp_, from_start_ + i * Kp_, first, from_start_ + i * Kp_);
      }
    }
  }

 private:
  int64_t Kp_;
  T* from_start_;
  T* to_end_;
};

/// Rows [m, m+h) times columns [m-h, m) for every pair of neighbouring blocks of h rows, then twice as large blocks.
template <class T>
void products_by_halving(const DecayInputs<T>& in, const DecayProducts<T>& out, T* scratch) {
  const int64_t Kp = in.Kp;
  T* rows = scratch;                   // [2 h, Kp], k then q of the second half
  T* columns = rows + kTileRows * Kp;  // [h, Kp], k of the first half
  T* products = columns + 8 * Kp;      // [2 h, h]
  BlockDecay<T> decay(in.g, Kp, out.from_start, out.to_end);
  for (int64_t h = 1; h < kTileRows; h *= 2) {
    for (int64_t a = 0; a < kTileRows; a += 2 * h) {
      const int64_t m = a + h;
      for (int64_t i = 0; i < h; ++i) {
        multiply(Kp, in.k + (m + i) * Kp, decay.from_start(m + i), rows + i * Kp);
        if (in.q != nullptr) {
          multiply(Kp, in.q + (m + i) * Kp, decay.from_start(m + i), rows + (h + i) * Kp);
        }
        multiply(Kp, in.k + (a + i) * Kp, decay.to_end(a + i), columns + i * Kp);
      }
      row_dots(in.q != nullptr ? 2 * h : h, h, Kp, rows, Kp, columns, Kp, products, h);
      for (int64_t i = 0; i < h; ++i) {
        std::copy_n(products + i * h, h, out.N + (m + i) * kTileRows + a);
        if (in.q != nullptr) {
          std::copy_n(products + (h + i) * h, h, out.Aqk + (m + i) * kTileRows + a);
        }
      }
    }
    decay.join(h);
  }
}

/// The diagonal of Aqk, where there is no decay, and zeros where nothing stands.
template <class T>
void fill_rest(const DecayInputs<T>& in, const DecayProducts<T>& out) {
  for (int64_t i = 0; i < kTileRows; ++i) {
    std::fill(out.N + i * kTileRows + i, out.N + (i + 1) * kTileRows, T(0));
  }
  if (in.q == nullptr) {
    return;
  }
  T diagonal[kTileRows];
  dots_of_rows(kTileRows, in.Kp, in.q, in.k, in.Kp, diagonal);
  for (int64_t i = 0; i < kTileRows; ++i) {
    out.Aqk[i * (kTileRows + 1)] = diagonal[i];
    std::fill(out.Aqk + i * kTileRows + i + 1, out.Aqk + (i + 1) * kTileRows, T(0));
  }
}

/// exp(G_i - G_anchor) and exp(G_anchor - G_j), [16, Kp] each.
template <class T>
void centred_factors(const T* g, int64_t Kp, T* row_factor, T* column_factor) {
  using V = Vec<T>;
  for_registers<T>(Kp, [&](int64_t c) {
    V sums[kTileRows];
    V sum(0.0);
    for (int64_t i = 0; i < kTileRows; ++i) {
      sum = sum + V::load(g + i * Kp + c);
      sums[i] = sum;
    }
    for (int64_t i = 0; i < kTileRows; ++i) {
      const V exponent = sums[i] - sums[kAnchor];
      exp(exponent).store(row_factor + i * Kp + c);
      exp(-exponent).store(column_factor + i * Kp + c);
    }
  });
}

template <class T>
void products_centred(const DecayInputs<T>& in, const DecayProducts<T>& out, T* scratch) {
  using V = Vec<T>;
  const int64_t Kp = in.Kp;
  T* rows = scratch;                       // [32, Kp]
  T* columns = rows + 2 * kTileRows * Kp;  // [16, Kp]
  T* products = columns + kTileRows * Kp;  // [32, 16]
  centred_factors(in.g, Kp, out.from_start, out.to_end);
  multiply(kTileRows * Kp, in.k, out.from_start, rows);
  if (in.q != nullptr) {
    multiply(kTileRows * Kp, in.q, out.from_start, rows + kTileRows * Kp);
  }
  multiply(kTileRows * Kp, in.k, out.to_end, columns);
  row_dots(in.q != nullptr ? 2 * kTileRows : kTileRows, kTileRows, Kp, rows, Kp, columns, Kp, products, kTileRows);
  for (int64_t i = 0; i < kTileRows; ++i) {
    std::copy_n(products + i * kTileRows, i, out.N + i * kTileRows);
    if (in.q != nullptr) {
      std::copy_n(products + (kTileRows + i) * kTileRows, i, out.Aqk + i * kTileRows);
    }
  }
  // From the anchor back to the start and on to the end of the tile.
  for_registers<T>(Kp, [&](int64_t c) {
    V to_anchor(0.0);
    for (int64_t i = 0; i <= kAnchor; ++i) {
      to_anchor = to_anchor + V::load(in.g + i * Kp + c);
    }
    const V before = exp(to_anchor);
    const V after = V::load(out.from_start + (kTileRows - 1) * Kp + c);
    for (int64_t i = 0; i < kTileRows; ++i) {
      (V::load(out.from_start + i * Kp + c) * before).store(out.from_start + i * Kp + c);
      (V::load(out.to_end + i * Kp + c) * after).store(out.to_end + i * Kp + c);
    }
  });
}

/// Pairs of neighbouring blocks of h rows: rows i >= m times columns j < m. Adds to dq, dk and dg.
template <class T, int64_t h>
void halving_backward_blocks(const DecayInputs<T>& in, const BlockDecay<T>& decay, int64_t m, const T* dN,
                             const T* dAqk, T* dq, T* dk, T* dg) {
  using V = Vec<T>;
  const int64_t Kp = in.Kp;
  for (int64_t c = 0; c < Kp; c += V::kSize) {
    const auto load = [=](const T* x, int64_t row) { return V::load(x + row * Kp + c); };
    const auto add = [=](T* x, int64_t row, V value) { (load(x, row) + value).store(x + row * Kp + c); };
    V column[h];
    V d_column[h];
    unrolled<h>([&](auto j) {
      column[j] = load(in.k, m - h + j) * V::load(decay.to_end(m - h + j) + c);
      d_column[j] = V(0.0);
    });
    // Rows from the last one up, since step r of the second half decays all rows from r on.
    V crossing(0.0);
    for (int64_t i = m + h - 1; i >= m; --i) {
      const V factor = V::load(decay.from_start(i) + c);
      const V k_row = load(in.k, i) * factor;
      const V q_row = load(in.q, i) * factor;
      V d_k_row(0.0);
      V d_q_row(0.0);
      unrolled<h>([&](auto j) {
        const V n = broadcast(dN + i * kTileRows + m - h + j);
        const V p = broadcast(dAqk + i * kTileRows + m - h + j);
        d_k_row = fma(n, column[j], d_k_row);
        d_q_row = fma(p, column[j], d_q_row);
        d_column[j] = fma(n, k_row, fma(p, q_row, d_column[j]));
      });
      add(dk, i, factor * d_k_row);
      add(dq, i, factor * d_q_row);
      crossing = crossing + k_row * d_k_row + q_row * d_q_row;
      add(dg, i, crossing);
    }
    crossing = V(0.0);
    unrolled<h>([&](auto j) {
      const int64_t row = m - h + j;
      add(dg, row, crossing);  // step `row` decays what was written before it
      add(dk, row, V::load(decay.to_end(row) + c) * d_column[j]);
      crossing = crossing + column[j] * d_column[j];
    });
  }
}

template <class T>
void halving_backward(const DecayInputs<T>& in, const T* dN, const T* dAqk, T* dq, T* dk, T* dg, T* scratch) {
  BlockDecay<T> decay(in.g, in.Kp, scratch, scratch + kTileRows * in.Kp);
  unrolled<4>([&](auto level) {
    constexpr int64_t h = int64_t{1} << level;
    for (int64_t m = h; m < kTileRows; m += 2 * h) {
      halving_backward_blocks<T, h>(in, decay, m, dN, dAqk, dq, dk, dg);
    }
    decay.join(h);
  });
}

/// dg by the reverse cumulative sum over the tile of (row role) - (column role).
template <class T>
void centred_backward(const DecayInputs<T>& in, const T* dN, const T* dAqk, T* dq, T* dk, T* dg, T* scratch) {
  using V = Vec<T>;
  const int64_t Kp = in.Kp;
  T* row_factor = scratch;
  T* column_factor = scratch + kTileRows * Kp;
  centred_factors(in.g, Kp, row_factor, column_factor);
  for_registers<T>(Kp, [&](int64_t c) {
    V column[kTileRows];
    V d_column[kTileRows];
    for (int64_t j = 0; j < kTileRows; ++j) {
      column[j] = V::load(in.k + j * Kp + c) * V::load(column_factor + j * Kp + c);
      d_column[j] = V(0.0);
    }
    V sum(0.0);
    for (int64_t i = kTileRows - 1; i >= 0; --i) {
      const int64_t at = i * Kp + c;
      const V factor = V::load(row_factor + at);
      const V k_row = V::load(in.k + at) * factor;
      const V q_row = V::load(in.q + at) * factor;
      V d_k_row(0.0);
      V d_q_row(0.0);
      for (int64_t j = 0; j < i; ++j) {
        const V n = broadcast(dN + i * kTileRows + j);
        const V p = broadcast(dAqk + i * kTileRows + j);
        d_k_row = fma(n, column[j], d_k_row);
        d_q_row = fma(p, column[j], d_q_row);
        d_column[j] = fma(n, k_row, fma(p, q_row, d_column[j]));
      }
      // Column i is complete: all rows after it have been visited.
      sum = sum + k_row * d_k_row + q_row * d_q_row - column[i] * d_column[i];
      (V::load(dg + at) + sum).store(dg + at);
      (V::load(dq + at) + factor * d_q_row).store(dq + at);
      (V::load(dk + at) + factor * d_k_row + V::load(column_factor + at) * d_column[i]).store(dk + at);
    }
  });
}

}  // namespace

template <class T>
bool may_be_centred(const T* g, int64_t Kp) {
  using V = Vec<T>;
  auto inside = V(0.0) == V(0.0);
  for_registers<T>(kTileRows * Kp, [&](int64_t i) {
    const V x = V::load(g + i);
    inside = inside & (x >= V(kLowestCentred)) & (x <= V(0.0));  // false for NaN
  });
  return xsimd::all(inside);
}

template <class T>
void decay_products(bool centred, const DecayInputs<T>& in, const DecayProducts<T>& out, T* scratch) {
  if (centred) {
    products_centred(in, out, scratch);
  } else {
    products_by_halving(in, out, scratch);
  }
  fill_rest(in, out);
}

template <class T>
void decay_products_backward(bool centred, const DecayInputs<T>& in, const T* dN, const T* dAqk, T* dq, T* dk, T* dg,
                             T* scratch) {
  using V = Vec<T>;
  if (centred) {
    centred_backward(in, dN, dAqk, dq, dk, dg, scratch);
  } else {
    halving_backward(in, dN, dAqk, dq, dk, dg, scratch);
  }
  for (int64_t i = 0; i < kTileRows; ++i) {
    const V p = broadcast(dAqk + i * (kTileRows + 1));
    for_registers<T>(in.Kp, [&](int64_t c) {
      const int64_t at = i * in.Kp + c;
      fma(p, V::load(in.k + at), V::load(dq + at)).store(dq + at);
      fma(p, V::load(in.q + at), V::load(dk + at)).store(dk + at);
    });
  }
}

template bool may_be_centred(const float*, int64_t);
template bool may_be_centred(const double*, int64_t);
template void decay_products(bool, const DecayInputs<float>&, const DecayProducts<float>&, float*);
template void decay_products(bool, const DecayInputs<double>&, const DecayProducts<double>&, double*);
template void decay_products_backward(bool, const DecayInputs<float>&, const float*, const float*, float*, float*,
                                      float*, float*);
template void decay_products_backward(bool, const DecayInputs<double>&, const double*, const double*, double*, double*,
                                      double*, double*);

}  // namespace deltatape::cpu::kda

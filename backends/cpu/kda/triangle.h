// Unit triangular systems and triangular products with the 16 x 16 matrices of a tile, on rows of a block of columns.
// One register of columns at a time; row i uses rows up to i (or from i on) only, so what stands in the others, NaN
// included, never reaches it.
#pragma once

#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

/// Rows [16] of one register each.
template <class T>
struct RowRegisters {
  Vec<T> row[kTileRows];

  static RowRegisters load(const T* x, int64_t ld) {
    RowRegisters r;
    unrolled<kTileRows>([&](auto i) { r.row[i] = Vec<T>::load(x + i * ld); });
    return r;
  }
};

/// e_i = v_i - r_i - sum_{j<i} N_ij d_j and d_i = beta_i e_i: what each token finds wrong and what it writes, where r
/// is what its key reads of the state. N [16, 16] strictly lower; v, r, e, d [16, columns]; e may be r or v.
template <class T>
void solve_writes(const T* N, const T* beta, int64_t columns, const T* v, int64_t ldv, const T* r, int64_t ldr, T* e,
                  int64_t lde, T* d, int64_t ldd) {
  for_registers<T>(columns, [&](int64_t c) {
    RowRegisters<T> error;
    unrolled<kTileRows>([&](auto i) { error.row[i] = Vec<T>::load(v + i * ldv + c) - Vec<T>::load(r + i * ldr + c); });
    unrolled<kTileRows>([&](auto j) {
      const Vec<T> write = broadcast(beta + j) * error.row[j];
      error.row[j].store(e + j * lde + c);
      write.store(d + j * ldd + c);
      unrolled<kTileRows - 1 - j>([&](auto below) {
        constexpr int64_t i = j + 1 + below;
        error.row[i] = fnma(broadcast(N + i * kTileRows + j), write, error.row[i]);
      });
    });
  });
}

/// The adjoint: lambda_i = y_i - sum_{j>i} N_ji beta_j lambda_j in place of y.
template <class T>
void solve_writes_adjoint(const T* N, const T* beta, int64_t columns, T* y, int64_t ldy) {
  for_registers<T>(columns, [&](int64_t c) {
    auto lambda = RowRegisters<T>::load(y + c, ldy);
    unrolled<kTileRows>([&](auto from_last) {
      constexpr int64_t j = kTileRows - 1 - from_last;
      lambda.row[j].store(y + j * ldy + c);
      const Vec<T> read = broadcast(beta + j) * lambda.row[j];
      unrolled<j>([&](auto i) { lambda.row[i] = fnma(broadcast(N + j * kTileRows + i), read, lambda.row[i]); });
    });
  });
}

/// y_i += sum_{j<=i} A_ij x_j.
template <class T>
void add_lower_product(const T* A, int64_t columns, const T* x, int64_t ldx, T* y, int64_t ldy) {
  for_registers<T>(columns, [&](int64_t c) {
    auto sum = RowRegisters<T>::load(y + c, ldy);
    unrolled<kTileRows>([&](auto j) {
      const Vec<T> row = Vec<T>::load(x + j * ldx + c);
      unrolled<kTileRows - j>([&](auto below) {
        constexpr int64_t i = j + below;
        sum.row[i] = fma(broadcast(A + i * kTileRows + j), row, sum.row[i]);
      });
      sum.row[j].store(y + j * ldy + c);
    });
  });
}

/// y_i += sum_{j>=i} A_ji x_j: the product with A'.
template <class T>
void add_lower_product_adjoint(const T* A, int64_t columns, const T* x, int64_t ldx, T* y, int64_t ldy) {
  for_registers<T>(columns, [&](int64_t c) {
    auto sum = RowRegisters<T>::load(y + c, ldy);
    unrolled<kTileRows>([&](auto from_last) {
      constexpr int64_t j = kTileRows - 1 - from_last;
      const Vec<T> row = Vec<T>::load(x + j * ldx + c);
      unrolled<j + 1>([&](auto i) { sum.row[i] = fma(broadcast(A + j * kTileRows + i), row, sum.row[i]); });
      sum.row[j].store(y + j * ldy + c);
    });
  });
}

}  // namespace deltatape::cpu::kda

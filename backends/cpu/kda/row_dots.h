// Products X Y' of matrices with long rows.
#pragma once

#include <cstdint>

namespace deltatape::cpu::kda {

/// out[i * ldo + j] = sum over c < length of x[i * ldx + c] y[j * ldy + c] for i < m, j < n; `length` is a multiple of
/// a register. An entry depends on its two rows only (its rounding also on where it stands).
template <class T>
void row_dots(int64_t m, int64_t n, int64_t length, const T* x, int64_t ldx, const T* y, int64_t ldy, T* out,
              int64_t ldo);

/// out[i] = sum over c < length of x[i * ld + c] y[i * ld + c] for i < rows; `length` is a multiple of a register.
template <class T>
void dots_of_rows(int64_t rows, int64_t length, const T* x, const T* y, int64_t ld, T* out);

}  // namespace deltatape::cpu::kda

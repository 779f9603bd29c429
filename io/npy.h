// NumPy's .npy files: one array per file.
// Source: numpy.lib.format, versions 1.0, 2.0 and 3.0.
#pragma once

#include <filesystem>

#include "core/tensor.h"

namespace deltatape::io {

/// The array in a .npy file as a dense row-major host tensor.
///
/// f8 f4 f2 i8 i4 b1 keep their dtype; i1 i2 u1 u2 u4 become i64. Little-endian, C or Fortran order, rank 0 to 8.
/// Throws Error that names the file, what was expected and what came; sizes are checked against the length of the file
/// before anything is allocated.
Tensor load_npy(const std::filesystem::path& path);

/// Writes `tensor` as version 1.0, little-endian, C order. Throws Error for bf16 (NPY has no such type), for a tensor
/// that is not on the host, and when the file cannot be written; then no file is left behind.
void save_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace deltatape::io

// .npy arrays that are not files of their own: what io/npy.h reads and writes, as bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/tensor.h"
#include "io/byte_reader.h"

namespace deltatape::io {

/// One array; exactly one of the two is there.
struct NpyArray {
  Tensor tensor;
  std::optional<std::string> text;  // of an array with one NumPy string (`U` or `S`), as UTF-8
};

/// Reads a whole .npy array, to the end of `reader`; tensors and errors as load_npy.
NpyArray read_npy(ByteReader& reader);

/// What stands before the elements of a dense `tensor`. Throws Error naming `function` for bf16.
std::string npy_header(std::string_view function, const Tensor& tensor);

}  // namespace deltatape::io

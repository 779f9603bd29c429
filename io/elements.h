// Between the bytes of a file and the elements of a tensor; shared by the file formats.
#pragma once

#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace deltatape::io {

/// Bytes of a tensor with these sizes (each >= 0). Throws Error naming `function` and `file` when they do not fit in
/// 63 bits.
int64_t checked_bytes(std::string_view function, std::string_view file, const std::vector<int64_t>& sizes,
                      size_t element_bytes);

/// `tensor` with its elements densely in row-major order on the host: itself, or a copy without history. Throws Error
/// naming `function` when it is undefined or not on the host.
Tensor dense_on_host(std::string_view function, const Tensor& tensor);

/// Fills `out` (dense) from elements of the same size that lie in column-major order.
void from_column_major(const void* elements, const Tensor& out);

/// Turns every byte of a dense bool tensor that is not 0 into 1: other values are no bool to C++.
void normalize_bools(const Tensor& tensor);

}  // namespace deltatape::io

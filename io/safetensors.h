// The .safetensors format: named tensors in one file.
// Source: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/tensor.h"
#include "io/byte_reader.h"

namespace deltatape::io {

/// Tensors by name, as modules' state dicts have them.
using TensorMap = std::map<std::string, Tensor>;
/// The free text entries of a file (its header's `__metadata__`).
using Metadata = std::map<std::string, std::string>;

struct SafeTensors {
  TensorMap tensors;
  Metadata metadata;
};

/// Every tensor of a .safetensors file, on the host, and its metadata. Element types F64 F32 BF16 F16 I64 I32 BOOL.
///
/// The file may come from anywhere: the header (at most 100 MB, no name twice), shapes, sizes and offsets (no gap, no
/// overlap, nothing beyond the end) are checked before any tensor is allocated. Throws Error that names the file, what
/// was expected and what came.
SafeTensors load_safetensors(const std::filesystem::path& path);

/// The same of bytes that are not a file, to the end of `reader`; its name takes the file's place in messages.
SafeTensors read_safetensors(ByteReader& reader);

/// Writes tensors ordered by name and without gaps, after a header padded with blanks to a multiple of 8 bytes. Throws
/// Error for a tensor that is not on the host, for the name `__metadata__`, and when the file cannot be written; then
/// `path` holds what it held before.
void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors, const Metadata& metadata = {});

}  // namespace deltatape::io

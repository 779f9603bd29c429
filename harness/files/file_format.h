// The two formats in which cases are stored.
#pragma once

#include <cstdint>
#include <string_view>

namespace deltatape::harness {

enum class FileFormat : uint8_t {
  npy,          // a folder with config.json and a .npy file per tensor; bf16, which NPY has not, as f32
  safetensors,  // one file, the config in its metadata under `config`
};
/// `npy`, `safetensors`.
std::string_view to_string(FileFormat format);
/// The inverse. Throws Error that starts with `function`.
FileFormat parse_file_format(std::string_view function, std::string_view word);

}  // namespace deltatape::harness

#include "harness/files/file_format.h"

#include "core/error.h"

namespace deltatape::harness {

std::string_view to_string(FileFormat format) { return format == FileFormat::npy ? "npy" : "safetensors"; }

FileFormat parse_file_format(std::string_view function, std::string_view word) {
  check(word == "npy" || word == "safetensors", function, "the format is '{}', expected npy or safetensors", word);
  return word == "npy" ? FileFormat::npy : FileFormat::safetensors;
}

}  // namespace deltatape::harness

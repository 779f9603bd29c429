// Named tensors and a config as files that every framework can read and write.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "harness/case.h"
#include "harness/files/file_format.h"
#include "io/safetensors.h"

namespace deltatape::harness {

/// Writes a config (JSON) and tensors to `path`, a new folder or a new file. A name may have a folder in front:
/// `intermediates/Aqk`. Throws Error that names the file that cannot be written.
void write_tensor_files(const std::filesystem::path& path, FileFormat format, const std::string& config,
                        const NamedTensors& tensors);

/// What write_tensor_files wrote, or anybody else.
class TensorFiles {
 public:
  /// Reads the config and, of a .safetensors file, every tensor. Throws Error that names `function` and the file.
  TensorFiles(std::string_view function, const std::filesystem::path& path, FileFormat format);

  [[nodiscard]] const std::string& config() const { return config_; }
  /// What messages call the config and a tensor: `case/config.json`, `case/q.npy`, `case.safetensors: q`.
  [[nodiscard]] std::string config_label() const;
  [[nodiscard]] std::string label(const std::string& tensor) const;
  [[nodiscard]] bool has(const std::string& tensor) const;
  /// The tensor as it is stored. Throws Error that names the file when there is none or it is no array.
  [[nodiscard]] Tensor load(const std::string& tensor) const;
  /// The names of all tensors that do not lie in a folder of their own, sorted. Throws Error that names the folder when
  /// it cannot be listed.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::string function_;
  std::filesystem::path path_;
  FileFormat format_;
  std::string config_;
  io::TensorMap tensors_;  // of a .safetensors file; a folder's are read when they are asked for
};

/// The names of the .npy files of a folder, without the extension, sorted. Throws Error that starts with `function` and
/// names the folder when it cannot be listed.
std::vector<std::string> npy_names(std::string_view function, const std::filesystem::path& folder);

}  // namespace deltatape::harness

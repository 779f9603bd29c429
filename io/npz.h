// NumPy's .npz files: a zip archive of .npy arrays, as np.savez and np.savez_compressed write it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "io/safetensors.h"

namespace deltatape::io {

struct Npz {
  TensorMap tensors;  // by the members' names without `.npy`
  /// Members that are not arrays, by their names (`config.json`), and arrays of one NumPy string, without `.npy`.
  std::map<std::string, std::string> texts;
};

/// Reads every member of a .npz file. Arrays as load_npy takes them; any other member is a text of at most 16 MB.
///
/// The file may come from anywhere: members are stored or deflated, without encryption, no name occurs twice, and the
/// sizes in the directory are checked against the length of the file and against what deflate can reach (a factor of
/// 1032) before anything is allocated. Throws Error that names the file and the member, what was expected and what
/// came.
Npz load_npz(const std::filesystem::path& path);

/// The same of bytes that are not a file; `name` takes the file's place in messages.
Npz read_npz(std::string_view bytes, const std::string& name);

/// Writes tensors (`<name>.npy`) and texts (under their names), deflated. Throws Error for a bf16 tensor, for one that
/// is not on the host, for a text whose name ends in `.npy`, and when the file cannot be written; then `path` holds
/// what it held before.
void save_npz(const std::filesystem::path& path, const TensorMap& tensors,
              const std::map<std::string, std::string>& texts = {});

}  // namespace deltatape::io

// A stored case as one set of named tensors and a config, whatever it is stored in.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tools/json_value.h"

namespace deltatape::tools {

/// A folder with config.json and .npy files, one .npz with a member config.json, or one .safetensors whose metadata
/// has the config under `config`.
class CaseFiles {
 public:
  /// Reads the config and, of the two file formats, every tensor. Throws Error that names the file.
  explicit CaseFiles(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Of the folder, or of the file without its extension.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const nlohmann::json& config() const { return config_; }
  /// What messages call the config: `case/config.json`, `case.npz: config.json`.
  [[nodiscard]] std::string config_label() const { return label("config.json"); }
  /// What messages call a tensor: `case/q.npy`, `case.npz: q.npy`, `case.safetensors: q`.
  [[nodiscard]] std::string tensor_label(const std::string& name) const;

  [[nodiscard]] bool has(const std::string& name) const;
  /// The tensor as it is stored; undefined when there is none of this name. Throws Error for a file that is no array.
  [[nodiscard]] Tensor load(const std::string& name) const;
  /// As load, floating-point. Throws Error for another dtype.
  [[nodiscard]] Tensor load_floats(const std::string& name) const;
  /// As load, i64 or i32. Throws Error for another dtype.
  [[nodiscard]] Tensor load_integers(const std::string& name) const;
  /// Throws Error that says which tensor is missing, unless it is there.
  void require(const std::string& name) const;
  /// The names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

  /// Whether the config has this key, other than null.
  [[nodiscard]] bool has_key(const char* key) const;
  /// A value of the config, or `missing` where it has none. Throws Error that names file and key for another type.
  template <class T>
  [[nodiscard]] T value(const char* key, const T& missing) const {
    return has_key(key) ? json_value<T>("CASE", config_label(), key, config_.at(key)) : missing;
  }
  /// A value that must be there. Throws Error that names file and key.
  template <class T>
  [[nodiscard]] T value(const char* key) const {
    check(has_key(key), "CASE", "{} has no '{}', expected {}", config_label(), key, json_type_of<T>());
    return json_value<T>("CASE", config_label(), key, config_.at(key));
  }
  /// Throws Error unless the config's `kind` is this one, or it has none.
  void check_kind(const char* kind) const;
  /// Throws Error when the config has `key` and it is not `size`, which is that of the tensor `name`.
  void check_size(const char* key, int64_t size, const std::string& name) const;
  /// Throws Error unless `x`, stored under `name`, has this shape; an undefined tensor passes. `layout` as in `[B, T]`.
  void check_shape(const std::string& name, const Tensor& x, const Shape& shape, const char* layout) const;
  /// Throws Error unless `x`, stored under `name`, has this many dimensions.
  void check_rank(const std::string& name, const Tensor& x, int rank, const char* layout) const;

 private:
  [[nodiscard]] std::string label(const std::string& part) const;

  std::filesystem::path path_;
  std::string name_;
  bool is_folder_ = false;
  bool is_safetensors_ = false;
  nlohmann::json config_;
  io::TensorMap tensors_;  // of a file; a folder's are read when they are asked for
};

}  // namespace deltatape::tools

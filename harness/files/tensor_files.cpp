#include "harness/files/tensor_files.h"

#include <algorithm>

#include "core/error.h"
#include "io/file.h"
#include "io/npy.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kConfigKey = "config";

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "write_tensor_files", "{} cannot be made: {}", folder.string(), error.message());
}

void write_folder(const fs::path& folder, const std::string& config, const NamedTensors& tensors) {
  make_folder(folder);
  io::write_file("write_tensor_files", folder / kConfigFile, config);
  for (const auto& [name, tensor] : tensors) {
    const fs::path file = folder / (name + ".npy");
    make_folder(file.parent_path());
    io::save_npy(file, tensor.dtype() == DType::bf16 ? to(tensor, DType::f32) : tensor);
  }
}

}  // namespace

void write_tensor_files(const fs::path& path, FileFormat format, const std::string& config,
                        const NamedTensors& tensors) {
  if (format == FileFormat::npy) {
    write_folder(path, config, tensors);
  } else {
    io::save_safetensors(path, io::TensorMap(tensors.begin(), tensors.end()), {{kConfigKey, config}});
  }
}

TensorFiles::TensorFiles(std::string_view function, const fs::path& path, FileFormat format)
    : function_(function), path_(path), format_(format) {
  if (format == FileFormat::npy) {
    config_ = io::read_file(function, path / kConfigFile);
    return;
  }
  io::SafeTensors file = io::load_safetensors(path);
  const auto found = file.metadata.find(kConfigKey);
  check(found != file.metadata.end(), function, "{} has no '{}' in its metadata, expected the case's config",
        path.string(), kConfigKey);
  config_ = found->second;
  tensors_ = std::move(file.tensors);
}

std::string TensorFiles::config_label() const {
  return format_ == FileFormat::npy ? (path_ / kConfigFile).string() : path_.string() + ": " + kConfigKey;
}

std::string TensorFiles::label(const std::string& tensor) const {
  return format_ == FileFormat::npy ? (path_ / (tensor + ".npy")).string() : path_.string() + ": " + tensor;
}

bool TensorFiles::has(const std::string& tensor) const {
  std::error_code ignored;
  return format_ == FileFormat::npy ? fs::exists(path_ / (tensor + ".npy"), ignored) : tensors_.count(tensor) != 0;
}

Tensor TensorFiles::load(const std::string& tensor) const {
  check(has(tensor), function_, "{} is missing, expected a tensor", label(tensor));
  return format_ == FileFormat::npy ? io::load_npy(path_ / (tensor + ".npy")) : tensors_.at(tensor);
}

std::vector<std::string> TensorFiles::names() const {
  if (format_ == FileFormat::npy) {
    return npy_names(function_, path_);
  }
  std::vector<std::string> names;
  for (const auto& named : tensors_) {
    if (named.first.find('/') == std::string::npos) {
      names.push_back(named.first);
    }
  }
  return names;
}

std::vector<std::string> npy_names(std::string_view function, const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".npy") {
      names.push_back(entry->path().stem().string());
    }
  }
  check(!error, function, "{} cannot be listed: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace deltatape::harness

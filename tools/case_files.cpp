#include "tools/case_files.h"

#include <algorithm>

#include "io/file.h"
#include "io/npy.h"
#include "io/npz.h"

namespace deltatape::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";

nlohmann::json parse_config(const std::string& text, const std::string& label) {
  nlohmann::json config;
  try {
    config = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail("CASE", "{} is not JSON: {}", label, error.what());
  }
  check(config.is_object(), "CASE", "{} is a JSON {}, expected an object", label, config.type_name());
  return config;
}

// The last part of a path; `case/` and `case/.` mean the folder itself.
std::string folder_name(const fs::path& path) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  return whole.has_filename() ? whole.filename().string() : whole.parent_path().filename().string();
}

}  // namespace

CaseFiles::CaseFiles(const fs::path& path) : path_(path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  check(fs::exists(status), "CASE", "{} does not exist, expected a folder, a .npz or a .safetensors file",
        path.string());
  is_folder_ = fs::is_directory(status);
  is_safetensors_ = path.extension() == ".safetensors";
  check(is_folder_ || is_safetensors_ || path.extension() == ".npz", "CASE",
        "{} is a file, expected a folder, a .npz or a .safetensors file", path.string());
  name_ = is_folder_ ? folder_name(path) : path.stem().string();
  std::string text;
  if (is_folder_) {
    text = io::read_file("CASE", path / kConfig);
  } else if (is_safetensors_) {
    io::SafeTensors file = io::load_safetensors(path);
    check(file.metadata.count("config") != 0, "CASE", "{} has no 'config' in its metadata, expected the case's config",
          path.string());
    text = file.metadata.at("config");
    tensors_ = std::move(file.tensors);
  } else {
    io::Npz file = io::load_npz(path);
    check(file.texts.count(kConfig) != 0, "CASE", "{} has no member {}, expected the case's config", path.string(),
          kConfig);
    text = file.texts.at(kConfig);
    tensors_ = std::move(file.tensors);
  }
  config_ = parse_config(text, config_label());
}

std::string CaseFiles::label(const std::string& part) const {
  return is_folder_ ? (path_ / part).string()
                    : path_.string() + ": " + (is_safetensors_ && part == kConfig ? "config" : part);
}

std::string CaseFiles::tensor_label(const std::string& name) const {
  return label(is_safetensors_ ? name : name + ".npy");
}

bool CaseFiles::has(const std::string& name) const {
  return is_folder_ ? fs::exists(path_ / (name + ".npy")) : tensors_.count(name) != 0;
}

Tensor CaseFiles::load(const std::string& name) const {
  if (!has(name)) {
    return {};
  }
  return is_folder_ ? io::load_npy(path_ / (name + ".npy")) : tensors_.at(name);
}

Tensor CaseFiles::load_floats(const std::string& name) const {
  Tensor x = load(name);
  check(!x.defined() || is_floating(x.dtype()), "CASE", "{} is {}, expected floating-point numbers", tensor_label(name),
        x.defined() ? describe(x) : "");
  return x;
}

Tensor CaseFiles::load_integers(const std::string& name) const {
  Tensor x = load(name);
  check(!x.defined() || is_integer(x.dtype()), "CASE", "{} is {}, expected i64 or i32", tensor_label(name),
        x.defined() ? describe(x) : "");
  return x;
}

void CaseFiles::require(const std::string& name) const {
  check(has(name), "CASE", "{} is missing, expected a tensor", tensor_label(name));
}

std::vector<std::string> CaseFiles::names() const {
  std::vector<std::string> names;
  if (is_folder_) {
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.path().extension() == ".npy") {
        names.push_back(entry.path().stem().string());
      }
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool CaseFiles::has_key(const char* key) const {
  const auto found = config_.find(key);
  return found != config_.end() && !found->is_null();
}

void CaseFiles::check_kind(const char* kind) const {
  const auto stored = value<std::string>("kind", kind);
  check(stored == kind, "CASE", "{}: 'kind' is '{}', expected '{}'", config_label(), stored, kind);
}

void CaseFiles::check_size(const char* key, int64_t size, const std::string& name) const {
  const auto stored = value<int64_t>(key, size);
  check(stored == size, "CASE", "{}: '{}' is {}, expected {} as in {}", config_label(), key, stored, size,
        tensor_label(name));
}

void CaseFiles::check_shape(const std::string& name, const Tensor& x, const Shape& shape, const char* layout) const {
  check(!x.defined() || x.shape() == shape, "CASE", "{} has shape {}, expected {} = {}", tensor_label(name),
        x.defined() ? to_string(x.shape()) : "", layout, shape);
}

void CaseFiles::check_rank(const std::string& name, const Tensor& x, int rank, const char* layout) const {
  check(x.rank() == rank, "CASE", "{} has shape {}, expected {} dimensions {}", tensor_label(name), x.shape(), rank,
        layout);
}

}  // namespace deltatape::tools

// One folder of golden data (config.json and .npy files), where the data is at hand beside the project.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "io/npy.h"
#include "ops/convert.h"

namespace deltatape::test {

inline std::filesystem::path gold_root() {
  return std::filesystem::path(DELTATAPE_SOURCE_DIR) / ".." / "shared" / "gold";
}

class GoldFolder {
 public:
  explicit GoldFolder(const std::string& name) : path_(gold_root() / name) {
    std::ifstream file(path_ / "config.json");
    config_ = nlohmann::json::parse(file);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const nlohmann::json& config() const { return config_; }
  [[nodiscard]] bool has(const std::string& name) const { return std::filesystem::exists(path_ / (name + ".npy")); }
  /// A floating-point file in `dtype`, an integer one as it is; undefined when there is no such file.
  [[nodiscard]] Tensor load(const std::string& name, DType dtype = DType::f64) const {
    if (!has(name)) {
      return {};
    }
    const Tensor x = io::load_npy(path_ / (name + ".npy"));
    return is_floating(x.dtype()) ? to(x, dtype) : x;
  }

 private:
  std::filesystem::path path_;
  nlohmann::json config_;
};

/// The names of all cases of a kind (`operator`, `layer`, `model`); none where the data is not at hand.
inline std::vector<std::string> gold_cases(const std::string& kind) {
  std::vector<std::string> names;
  std::ifstream list(gold_root() / "cases.txt");
  std::string line;
  while (std::getline(list, line)) {
    if (line.rfind(kind + " ", 0) == 0) {
      const size_t start = line.find_first_not_of(' ', kind.size());
      names.push_back(line.substr(start, line.find(' ', start) - start));
    }
  }
  return names;
}

}  // namespace deltatape::test

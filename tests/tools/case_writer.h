// Stored cases made by the tests themselves: inputs in f32, answers by kda::recurrent (or the layer on it) in f64.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/ops/kda/kda_cases.h"

namespace deltatape::test {

/// Every tensor and the config of a case.
struct StoredCase {
  nlohmann::json config;
  NamedResults tensors;
};

/// `kda_case` as it is stored; its inputs are rounded to f32 first.
StoredCase operator_case(const std::string& name, const KDACase& kda_case);
/// A case with everything that fits together: standard gate, norm, sigmoid up to 2, grouped heads, states.
StoredCase full_operator_case(const std::string& name);
/// A small layer with random parameters; two documents with `varlen`.
StoredCase layer_case(const std::string& name, bool varlen);

/// As a folder with config.json and .npy files, made if it is not there.
void write_folder(const StoredCase& stored, const std::filesystem::path& folder);
/// As one .npz, with a member config.json.
void write_npz(const StoredCase& stored, const std::filesystem::path& path);
/// As one .safetensors, with the metadata key `config`.
void write_safetensors(const StoredCase& stored, const std::filesystem::path& path);

}  // namespace deltatape::test

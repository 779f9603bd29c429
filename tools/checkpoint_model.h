// A model from a folder with config.json and model.safetensors, as `train` writes it and FLA saves it.
#pragma once

#include <filesystem>
#include <memory>

#include "nn/kda_model.h"

namespace deltatape::tools {

/// Throws Error that names the file and what is missing or does not fit.
nn::KDAConfig load_model_config(const std::filesystem::path& folder);
std::unique_ptr<nn::KDAForCausalLM> load_model(const std::filesystem::path& folder);

}  // namespace deltatape::tools

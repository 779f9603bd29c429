#include "tools/checkpoint_model.h"

#include "core/error.h"
#include "io/file.h"
#include "io/safetensors.h"

namespace deltatape::tools {

nn::KDAConfig load_model_config(const std::filesystem::path& folder) {
  check(std::filesystem::is_directory(folder), "--model", "{} is not a folder, expected one with a model",
        folder.string());
  const auto path = folder / "config.json";
  const std::string text = io::read_file("--model", path);
  try {
    return nn::KDAConfig::from_json(text);
  } catch (const Error& error) {
    fail("--model", "{}: {}", path.string(), error.what());
  }
}

std::unique_ptr<nn::KDAForCausalLM> load_model(const std::filesystem::path& folder) {
  const nn::KDAConfig config = load_model_config(folder);
  const auto path = folder / "model.safetensors";
  const io::SafeTensors weights = io::load_safetensors(path);
  Generator generator;
  auto model = std::make_unique<nn::KDAForCausalLM>(config, generator);
  try {
    model->load_state_dict(weights.tensors);
  } catch (const Error& error) {
    fail("--model", "{}: {}", path.string(), error.what());
  }
  return model;
}

}  // namespace deltatape::tools

#include "io/checkpoint.h"

#include <charconv>
#include <string_view>

#include "core/error.h"

namespace deltatape::io {
namespace {

constexpr std::string_view kLoad = "load_checkpoint";
constexpr std::string_view kFormat = "deltatape checkpoint 1";
constexpr std::string_view kModel = "model.";
constexpr std::string_view kOptimizer = "optimizer.";
constexpr std::string_view kGenerator = "generator.";
constexpr std::string_view kNote = "note.";

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

template <class Integer>
Integer parse_integer(const std::string& file, const std::string& key, std::string_view text) {
  Integer value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size() && value >= 0, kLoad,
        "{}: '{}' is '{}', expected an integer of 0 or more", file, key, text);
  return value;
}

PhiloxState parse_generator(const std::string& file, const std::string& key, std::string_view text) {
  const size_t colon = text.find(':');
  check(colon != std::string_view::npos, kLoad, "{}: '{}' is '{}', expected seed:offset", file, key, text);
  return {parse_integer<uint64_t>(file, key, text.substr(0, colon)),
          parse_integer<uint64_t>(file, key, text.substr(colon + 1))};
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  TensorMap tensors;
  for (const auto& [name, tensor] : checkpoint.model) {
    tensors[std::string(kModel) + name] = tensor;
  }
  for (const auto& [name, tensor] : checkpoint.optimizer) {
    tensors[std::string(kOptimizer) + name] = tensor;
  }
  Metadata metadata;
  metadata["format"] = kFormat;
  metadata["step"] = std::to_string(checkpoint.step);
  for (const auto& [name, state] : checkpoint.generators) {
    metadata[std::string(kGenerator) + name] = fmt::format("{}:{}", state.seed, state.offset);
  }
  for (const auto& [name, text] : checkpoint.notes) {
    metadata[std::string(kNote) + name] = text;
  }
  save_safetensors(path, tensors, metadata);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  const std::string file = path.string();
  SafeTensors content = load_safetensors(path);
  const auto format = content.metadata.find("format");
  check(format != content.metadata.end() && format->second == kFormat, kLoad, "{} has the format '{}', expected '{}'",
        file, format == content.metadata.end() ? std::string() : format->second, kFormat);
  check(content.metadata.count("step") == 1, kLoad, "{}: 'step' is missing", file);

  Checkpoint checkpoint;
  for (const auto& [key, text] : content.metadata) {
    if (key == "step") {
      checkpoint.step = parse_integer<int64_t>(file, key, text);
    } else if (starts_with(key, kGenerator)) {
      checkpoint.generators[key.substr(kGenerator.size())] = parse_generator(file, key, text);
    } else if (starts_with(key, kNote)) {
      checkpoint.notes[key.substr(kNote.size())] = text;
    }
  }
  for (auto& [name, tensor] : content.tensors) {
    if (starts_with(name, kModel)) {
      checkpoint.model[name.substr(kModel.size())] = std::move(tensor);
    } else {
      check(starts_with(name, kOptimizer), kLoad, "{} has the tensor '{}', expected names with {} or {} in front", file,
            name, kModel, kOptimizer);
      checkpoint.optimizer[name.substr(kOptimizer.size())] = std::move(tensor);
    }
  }
  return checkpoint;
}

}  // namespace deltatape::io

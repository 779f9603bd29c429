#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "io/elements.h"
#include "io/file.h"

namespace deltatape::io {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so is memory");

constexpr std::string_view kLoad = "load_safetensors";
constexpr std::string_view kSave = "save_safetensors";
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxDepth = 3;  // header, entry, shape
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array<std::pair<std::string_view, DType>, 7> kDTypes = {{{"F64", DType::f64},
                                                                        {"F32", DType::f32},
                                                                        {"BF16", DType::bf16},
                                                                        {"F16", DType::f16},
                                                                        {"I64", DType::i64},
                                                                        {"I32", DType::i32},
                                                                        {"BOOL", DType::boolean}}};

// What the header says of one tensor, checked on its own.
struct Entry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  int64_t begin = 0;
  int64_t end = 0;
};

// Parses the header and refuses what JSON allows and the format does not: deep nesting and repeated names.
json parse_header(const std::string& text, const std::string& file) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      check(depth < kMaxDepth, kLoad, "{}: the header is nested more than {} levels deep", file, kMaxDepth);
    }
    if (event == json::parse_event_t::key) {
      const auto level = static_cast<size_t>(depth);
      keys.resize(level + 1);
      const auto name = parsed.get<std::string>();
      check(keys[level].insert(name).second, kLoad, "{}: the header has the name '{}' twice, expected once", file,
            name);
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& error) {
    fail(kLoad, "{}: the header is not JSON: {}", file, error.what());
  }
  check(header.is_object(), kLoad, "{}: the header is a JSON {}, expected an object", file, header.type_name());
  return header;
}

int64_t size_value(const json& value, const std::string& file, const std::string& name, std::string_view field) {
  check(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX}, kLoad,
        "{}: '{}' has {} in {}, expected an integer of 0 or more", file, name, value.dump(), field);
  return value.get<int64_t>();
}

Entry parse_entry(const std::string& name, const json& value, const std::string& file) {
  const auto field = [&](const char* key) -> const json& {
    check(value.is_object() && value.contains(key), kLoad, "{}: '{}' has no {}, expected dtype, shape and data_offsets",
          file, name, key);
    return value.at(key);
  };
  Entry entry;
  entry.name = name;

  const json& dtype = field("dtype");
  const auto known = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& candidate) {
    return dtype.is_string() && dtype.get_ref<const std::string&>() == candidate.first;
  });
  check(known != kDTypes.end(), kLoad, "{}: '{}' has dtype {}, expected one of F64 F32 BF16 F16 I64 I32 BOOL", file,
        name, dtype.dump());
  entry.dtype = known->second;

  const json& shape = field("shape");
  check(shape.is_array() && shape.size() <= static_cast<size_t>(kMaxRank), kLoad,
        "{}: '{}' has shape {}, expected a list of at most {} sizes", file, name, shape.dump(), kMaxRank);
  std::vector<int64_t> sizes;
  for (const json& size : shape) {
    sizes.push_back(size_value(size, file, name, "shape"));
  }

  const json& offsets = field("data_offsets");
  check(offsets.is_array() && offsets.size() == 2, kLoad, "{}: '{}' has data_offsets {}, expected [begin, end]", file,
        name, offsets.dump());
  entry.begin = size_value(offsets[0], file, name, "data_offsets");
  entry.end = size_value(offsets[1], file, name, "data_offsets");

  const int64_t bytes = checked_bytes(kLoad, fmt::format("{}: '{}'", file, name), sizes, size_of(entry.dtype));
  check(entry.begin <= entry.end && entry.end - entry.begin == bytes, kLoad,
        "{}: '{}' has data_offsets [{}, {}], expected {} bytes for shape {} of {}", file, name, entry.begin, entry.end,
        bytes, shape.dump(), entry.dtype);
  entry.shape = Shape(sizes);
  return entry;
}

// Sorts by place in the file and makes sure that the tensors fill the data exactly.
void check_layout(std::vector<Entry>& entries, int64_t data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t position = 0;
  for (const Entry& entry : entries) {
    check(entry.begin == position, kLoad, "{}: the data of '{}' starts at byte {}, expected {} (no gaps, no overlaps)",
          file, entry.name, entry.begin, position);
    position = entry.end;
  }
  check(position == data_bytes, kLoad, "{} has {} bytes of data, expected {} for its tensors", file, data_bytes,
        position);
}

Metadata parse_metadata(const json& header, const std::string& file) {
  Metadata metadata;
  const auto found = header.find(kMetadataKey);
  if (found == header.end()) {
    return metadata;
  }
  check(found->is_object(), kLoad, "{}: {} is a JSON {}, expected an object", file, kMetadataKey, found->type_name());
  for (const auto& [key, value] : found->items()) {
    check(value.is_string(), kLoad, "{}: {} has a {} under '{}', expected text", file, kMetadataKey, value.type_name(),
          key);
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

std::string header_text(const TensorMap& tensors, const Metadata& metadata) {
  // ordered_json: the format wants the metadata first; names come sorted from the map.
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header[kMetadataKey] = metadata;
  }
  int64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    const DType dtype = tensor.dtype();  // clang 14 cannot capture a structured binding
    const auto* known =
        std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& candidate) { return candidate.second == dtype; });
    const int64_t end = position + tensor.numel() * static_cast<int64_t>(size_of(tensor.dtype()));
    header[name] = {{"dtype", known->first},
                    {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {position, end}}};
    position = end;
  }
  try {
    return header.dump();
  } catch (const json::exception& error) {
    fail(kSave, "a name or a metadata entry is not UTF-8: {}", error.what());
  }
}

}  // namespace

SafeTensors load_safetensors(const std::filesystem::path& path) {
  FileReader reader(kLoad, path);
  return read_safetensors(reader);
}

SafeTensors read_safetensors(ByteReader& reader) {
  const std::string& file = reader.name();
  uint64_t header_bytes = 0;
  reader.read(&header_bytes, sizeof header_bytes, "header length");
  check(header_bytes <= kMaxHeaderBytes, kLoad, "{} has a header of {} bytes, expected at most {}", file, header_bytes,
        kMaxHeaderBytes);
  const json header = parse_header(reader.read_string(static_cast<int64_t>(header_bytes), "header"), file);

  SafeTensors result;
  result.metadata = parse_metadata(header, file);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != kMetadataKey) {
      entries.push_back(parse_entry(name, value, file));
    }
  }
  check_layout(entries, reader.remaining(), file);

  for (const Entry& entry : entries) {
    Tensor tensor = empty(entry.shape, entry.dtype);
    reader.read(tensor.mutable_raw(), entry.end - entry.begin, entry.name);
    if (entry.dtype == DType::boolean) {
      normalize_bools(tensor);
    }
    result.tensors.emplace(entry.name, std::move(tensor));
  }
  return result;
}

void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors, const Metadata& metadata) {
  TensorMap dense;
  for (const auto& [name, tensor] : tensors) {
    check(name != kMetadataKey, kSave, "a tensor is called '{}', which the format reserves", name);
    dense[name] = dense_on_host(kSave, tensor);
  }
  std::string header = header_text(dense, metadata);
  header.append((8 - header.size() % 8) % 8, ' ');
  const uint64_t header_bytes = header.size();

  FileWriter writer(kSave, path);
  writer.write(&header_bytes, sizeof header_bytes);
  writer.write(header);
  for (const auto& [name, tensor] : dense) {
    writer.write(tensor.raw(), static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype()));
  }
  writer.commit();
}

}  // namespace deltatape::io

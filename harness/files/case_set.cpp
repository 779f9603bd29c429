#include "harness/files/case_set.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "harness/files/json_text.h"
#include "io/file.h"

namespace deltatape::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRead = "read_index";
constexpr std::string_view kWrite = "write_index";
constexpr const char* kIndexFile = "cases.json";

constexpr const char* kReadmeStart = R"(Cases to check a kernel against, made by `deltatape cases make`.

cases.json lists the cases and the results that each of them asks for.
)";

constexpr const char* kReadmeNpy = R"(
A case is a folder: config.json has sizes and options, every other file is one array.
Write results as .npy files of any floating-point type, under the names that cases.json lists:
    case_0000/results/o.npy, case_0000/results/dq.npy, ..
For bfloat16, which NumPy has not: float32 with the rounded values, as the inputs here, or one file
    case_0000.results.safetensors
)";

constexpr const char* kReadmeSafetensors = R"(
A case is a .safetensors file: its metadata has sizes and options as JSON under `config`.
Write results as tensors of any floating-point type, under the names that cases.json lists, into
    case_0000.results.safetensors
)";

constexpr const char* kReadmeEnd = R"(
inputs    q k v g beta A_log dt_bias h0 cu_seqlens segment_ids, where the case has them
upstream  do dht: gradients of the loss with respect to o and ht; one that is not there counts as zero
answers   o ht dq dk dv dg dbeta dA_log ddt_bias dh0 in float64: to compare with, not to copy
The key `dtype` says what to compute in. docs/kda.md of the project has the operator and its options.
A case without any results counts as not run.

    deltatape cases check .                    judges everything that cases.json lists
    deltatape cases check . --results o,ht     forward only
)";

bool is_plain_word(const std::string& name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

CaseSet::Entry read_entry(const std::string& label, const nlohmann::json& value) {
  check(value.is_object(), kRead, "{} has {} among its cases, expected an object", label, value.type_name());
  CaseSet::Entry entry{.name = text_at(kRead, label, value, "name"), .text = text_at(kRead, label, value, "case")};
  check(is_plain_word(entry.name), kRead, "{} has the case name '{}', expected letters, digits, _ and -", label,
        entry.name);
  const auto results = value.find("results");
  check(results != value.end() && results->is_array(), kRead, "{}: the case '{}' has no list under 'results'", label,
        entry.name);
  for (const nlohmann::json& result : *results) {
    check(result.is_string(), kRead, "{}: the case '{}' has {} among its results, expected a name", label, entry.name,
          result.type_name());
    entry.results.push_back(result.get<std::string>());
  }
  check(!entry.results.empty(), kRead, "{}: the case '{}' asks for no results, expected at least one", label,
        entry.name);
  return entry;
}

}  // namespace

fs::path case_path(const fs::path& set, FileFormat format, const std::string& name) {
  return set / (format == FileFormat::npy ? name : name + ".safetensors");
}

void write_index(const fs::path& set, const CaseSet& cases) {
  nlohmann::ordered_json index = {{"version", kCaseSetVersion},
                                  {"operator", "kda"},
                                  {"reference", cases.reference},
                                  {"format", to_string(cases.format)},
                                  {"space", cases.space},
                                  {"seed", cases.seed},
                                  {"cases", nlohmann::ordered_json::array()}};
  for (const CaseSet::Entry& entry : cases.cases) {
    index["cases"].push_back({{"name", entry.name}, {"case", entry.text}, {"results", entry.results}});
  }
  io::write_file(kWrite, set / kIndexFile, index.dump(2) + "\n");
  const char* middle = cases.format == FileFormat::npy ? kReadmeNpy : kReadmeSafetensors;
  io::write_file(kWrite, set / "README.txt", fmt::format("{}{}{}", kReadmeStart, middle, kReadmeEnd));
}

CaseSet read_index(const fs::path& set) {
  return parse_index((set / kIndexFile).string(), io::read_file(kRead, set / kIndexFile));
}

CaseSet parse_index(const std::string& label, const std::string& text) {
  const auto index = parse_object(kRead, label, text);
  const auto version = index.find("version");
  check(version != index.end() && *version == kCaseSetVersion, kRead, "{} has version {}, expected {}", label,
        version == index.end() ? "none" : version->dump(), kCaseSetVersion);
  const std::string name = text_at(kRead, label, index, "operator");
  check(name == "kda", kRead, "{} is for the operator '{}', expected kda", label, name);
  CaseSet result;
  result.reference = text_at(kRead, label, index, "reference");
  result.format = parse_file_format(std::string(kRead) + ": " + label, text_at(kRead, label, index, "format"));
  result.space = text_at(kRead, label, index, "space");
  const auto seed = index.find("seed");
  check(seed != index.end() && seed->is_number_unsigned(), kRead, "{} has no integer of 0 or more under 'seed'", label);
  result.seed = seed->get<uint64_t>();
  const auto cases = index.find("cases");
  check(cases != index.end() && cases->is_array() && !cases->empty(), kRead, "{} has no cases under 'cases'", label);
  std::set<std::string> names;
  for (const nlohmann::json& value : *cases) {
    result.cases.push_back(read_entry(label, value));
    check(names.insert(result.cases.back().name).second, kRead, "{} has the case '{}' twice", label,
          result.cases.back().name);
  }
  return result;
}

}  // namespace deltatape::harness

// A folder of stored cases with an index: what `deltatape cases` makes and checks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/files/file_format.h"

namespace deltatape::harness {

/// Of the index and of what it lists.
inline constexpr int64_t kCaseSetVersion = 1;

struct CaseSet {
  struct Entry {
    std::string name;                       // of the folder, or of the file without `.safetensors`
    std::string text;                       // of the settings, for Space::parse
    std::vector<std::string> results = {};  // what is expected of this case
  };

  std::string reference;
  FileFormat format = FileFormat::npy;
  std::string space;  // what the cases were drawn from, as Space::restrict takes it
  uint64_t seed = 0;  // of the first case
  std::vector<Entry> cases = {};
};

/// `set/case_0000` or `set/case_0000.safetensors`.
std::filesystem::path case_path(const std::filesystem::path& set, FileFormat format, const std::string& name);

/// Writes `set/cases.json` and `set/README.txt`, which tells people what to write where. Throws Error that names the
/// file that cannot be written.
void write_index(const std::filesystem::path& set, const CaseSet& cases);
/// Reads `set/cases.json`. Throws Error that names it when it is missing, broken, of another version, or names a case
/// twice or as something other than a plain word, or asks for no results of one.
CaseSet read_index(const std::filesystem::path& set);
/// read_index of the file's text; `label` is what messages call it.
CaseSet parse_index(const std::string& label, const std::string& text);

}  // namespace deltatape::harness

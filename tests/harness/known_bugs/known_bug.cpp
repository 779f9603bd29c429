#include "tests/harness/known_bugs/known_bug.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace deltatape::known_bugs {
namespace {

/// What stands behind `key: ` in a line of it; empty otherwise.
std::string value_of(const std::string& line, const std::string& key) {
  return line.starts_with(key + ": ") ? line.substr(key.size() + 2) : std::string();
}

KnownBug read_known_bug(const std::filesystem::path& file) {
  std::ifstream stream(file);
  KnownBug bug;
  bug.name = file.stem().string();
  std::string line;
  while (std::getline(stream, line) && !line.starts_with("--- ")) {
    if (const std::string about = value_of(line, "about"); !about.empty()) {
      bug.about = about;
    } else if (const std::string form = value_of(line, "form"); !form.empty()) {
      bug.form = form;
    } else if (const std::string tensors = value_of(line, "tensors"); !tensors.empty()) {
      bug.tensors = words_of(tensors);
    } else if (line == "states: kept") {
      bug.keeps_states = true;
    }
  }
  if (bug.about.empty() || bug.form.empty() || bug.tensors.empty()) {
    throw std::runtime_error(file.string() + " lacks one of the lines 'about:', 'form:' and 'tensors:'");
  }
  return bug;
}

}  // namespace

std::vector<KnownBug> read_known_bugs(const std::filesystem::path& folder) {
  std::vector<KnownBug> bugs;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".edit") {
      bugs.push_back(read_known_bug(entry.path()));
    }
  }
  if (bugs.empty()) {
    throw std::runtime_error(folder.string() + " has no .edit file");
  }
  std::sort(bugs.begin(), bugs.end(), [](const KnownBug& a, const KnownBug& b) { return a.name < b.name; });
  return bugs;
}

std::vector<KnownBug> selected(const std::vector<KnownBug>& bugs, const std::string& name) {
  if (name.empty()) {
    return bugs;
  }
  const auto found = std::find_if(bugs.begin(), bugs.end(), [&](const KnownBug& bug) { return bug.name == name; });
  if (found == bugs.end()) {
    throw std::runtime_error("there is no known bug '" + name + "'");
  }
  return {*found};
}

std::string first_in_order(const std::set<std::string>& tensors) {
  const auto* const first =
      std::find_if(kDataOrder.begin(), kDataOrder.end(), [&](const char* name) { return tensors.contains(name); });
  return first == kDataOrder.end() ? "" : *first;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) {
    words.push_back(word);
  }
  return words;
}

}  // namespace deltatape::known_bugs

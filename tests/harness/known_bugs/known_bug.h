// What an .edit file says about its bug.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace deltatape::known_bugs {

struct KnownBug {
  std::string name;                  // the file's, without .edit
  std::string about;                 // what is wrong, in one line
  std::string form;                  // `chunk` or `recurrent`
  bool keeps_states = false;         // forward keeps states for backward
  std::vector<std::string> tensors;  // the right ones to name

  /// The unedited plugin that runs the same kernel.
  [[nodiscard]] std::string correct_plugin() const { return "kda_plugin_" + form + (keeps_states ? "_kept" : ""); }
};

/// All .edit files of a folder by name. Throws std::runtime_error that names the file and what it lacks.
std::vector<KnownBug> read_known_bugs(const std::filesystem::path& folder);

/// Cuts at blanks.
std::vector<std::string> words_of(const std::string& text);

}  // namespace deltatape::known_bugs

// What an .edit file says about its bug.
#pragma once

#include <array>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace deltatape::known_bugs {

struct KnownBug {
  std::string name = {};                  // the file's, without .edit
  std::string about = {};                 // what is wrong, in one line
  std::string form = {};                  // `chunk` or `recurrent`
  bool keeps_states = false;              // forward keeps states for backward
  std::vector<std::string> tensors = {};  // the right ones to name

  /// The unedited plugin that runs the same kernel.
  [[nodiscard]] std::string correct_plugin() const { return "kda_plugin_" + form + (keeps_states ? "_kept" : ""); }
};

/// What a plugin may compute, in the data's order: outputs before gradients, the gradient of an operand before those of
/// what it was made of.
inline constexpr std::array kDataOrder = {"o", "ht", "dh0", "dv", "dq", "dk", "dbeta", "dg", "dA_log", "ddt_bias"};

/// All .edit files of a folder by name. Throws std::runtime_error that names the file and what it lacks.
std::vector<KnownBug> read_known_bugs(const std::filesystem::path& folder);

/// The one of this name, or all of them for an empty name. Throws std::runtime_error when there is none.
std::vector<KnownBug> selected(const std::vector<KnownBug>& bugs, const std::string& name);

/// The first of these tensors in the data's order; empty if none is in it.
std::string first_in_order(const std::set<std::string>& tensors);

/// Cuts at blanks.
std::vector<std::string> words_of(const std::string& text);

}  // namespace deltatape::known_bugs

// Runs the deltatape program as a child process.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/io/temporary_folder.h"

namespace deltatape::test {

struct ProgramResult {
  int exit_code = -1;  // -1: ended by a signal
  std::string out;
  std::string err;

  /// Lines that are not empty.
  [[nodiscard]] int64_t error_lines() const {
    int64_t lines = 0;
    for (size_t i = 0; i < err.size(); ++i) {
      lines += err[i] == '\n' && i > 0 && err[i - 1] != '\n' ? 1 : 0;
    }
    return lines;
  }
};

/// The program's path; empty when the build has none.
inline std::string program_path() {
  const char* path = std::getenv("DELTATAPE_PROGRAM");
  return path != nullptr ? path : "";
}

/// Starts the program with its output going to files in `folder`.
inline pid_t start_program(const std::vector<std::string>& arguments, const std::filesystem::path& folder) {
  std::vector<std::string> words = {program_path()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (folder / "stdout").c_str(), flags, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder / "stderr").c_str(), flags, 0600);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, words[0].c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::runtime_error("cannot start " + words[0]);
  }
  return child;
}

/// Runs the program to its end.
inline ProgramResult run_program(const std::vector<std::string>& arguments) {
  const TemporaryFolder folder;
  const pid_t child = start_program(arguments, folder.path());
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_bytes(folder / "stdout"), read_bytes(folder / "stderr")};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace deltatape::test

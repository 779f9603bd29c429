#include "tools/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <system_error>

#include "io/file.h"

namespace deltatape::tools {
namespace {

// gnuplot's single-quoted strings: a quote is written twice.
std::string quoted(const std::filesystem::path& path) {
  std::string text = "'";
  for (const char c : path.string()) {
    text += c;
    if (c == '\'') {
      text += c;
    }
  }
  return text + "'";
}

// Runs `gnuplot FILE` without a shell and without its chatter; returns what went wrong.
std::string run_gnuplot(std::string script_path) {
  std::string program = "gnuplot";
  std::array<char*, 3> arguments = {program.data(), script_path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, "gnuplot", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return error == ENOENT ? "gnuplot is not installed (Debian: gnuplot-nox)" : std::strerror(error);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return "";
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "gnuplot is not installed (Debian: gnuplot-nox)"
                                                         : "gnuplot failed";
}

}  // namespace

std::string draw_png(const std::filesystem::path& picture, const std::string& script) {
  std::filesystem::path drawn = picture;
  drawn += ".partial";
  std::filesystem::path script_path = picture;
  script_path += ".gnuplot.partial";
  std::error_code ignored;
  std::string problem;
  try {
    io::write_file(
        "draw_png", script_path,
        fmt::format("set terminal png size 960,540\nset output {}\n{}\nset output\n", quoted(drawn), script));
    problem = run_gnuplot(script_path.string());
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (problem.empty()) {
    std::error_code error;
    std::filesystem::rename(drawn, picture, error);
    problem = error ? error.message() : "";
  }
  std::filesystem::remove(drawn, ignored);
  std::filesystem::remove(script_path, ignored);
  return problem;
}

}  // namespace deltatape::tools

#include "tests/harness/known_bugs/check_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "tests/tools/run_program.h"

namespace deltatape::known_bugs {
namespace {

/// The exit code of a child, -1 for a signal; nothing when it had to be ended after `seconds`.
std::optional<int> wait_for(pid_t child, double seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return std::nullopt;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string text_or_empty(const nlohmann::json& value) { return value.is_string() ? value.get<std::string>() : ""; }

CheckAnswer read_answer(const std::string& text) {
  CheckAnswer answer;
  const nlohmann::json report = nlohmann::json::parse(text);
  answer.cases = report.at("cases").get<int64_t>();
  const bool passed = report.at("verdict") == "passed";
  const nlohmann::json& failure = report.at("failure");
  if (passed != failure.is_null()) {
    answer.message = report.value("summary", "the report has a verdict and no failing case");
    return answer;
  }
  answer.verdict = passed ? CheckAnswer::Verdict::passed : CheckAnswer::Verdict::failed;
  if (!passed) {
    answer.tensor = text_or_empty(failure.at("tensor"));
    answer.smallest = text_or_empty(failure.at("smallest"));
    answer.seconds = failure.at("seconds").get<double>();
    answer.message = text_or_empty(failure.value("message", nlohmann::json()));
  }
  return answer;
}

}  // namespace

CheckAnswer run_check(const CheckRequest& request) {
  const test::TemporaryFolder folder;
  const std::string report = folder / "report.json";
  std::vector<std::string> arguments = {"check",
                                        "--plugin",
                                        request.plugin,
                                        "--budget",
                                        fmt::format("{}s", request.budget),
                                        "--dtype",
                                        request.dtypes,
                                        "--seed",
                                        std::to_string(request.seed),
                                        "--threads",
                                        "2",
                                        "--json",
                                        report};
  if (request.stop) {
    arguments.emplace_back("--stop");
  }
  if (!request.shrink) {
    arguments.emplace_back("--no-shrink");
  }
  const double limit = 2.0 * request.budget + 60.0;
  const std::optional<int> code = wait_for(test::start_program(arguments, folder.path()), limit);
  if (!code) {
    return {.message = fmt::format("deltatape check did not end within {} s", limit)};
  }
  CheckAnswer answer;
  if (*code == 0 || *code == 1) {
    try {
      answer = read_answer(test::read_bytes(report));
    } catch (const nlohmann::json::exception& error) {
      return {.message = std::string("the report cannot be read: ") + error.what()};
    }
  }
  const int expected = answer.verdict == CheckAnswer::Verdict::passed ? 0 : 1;
  if (answer.message.empty() && *code != expected) {
    answer = {.message = fmt::format("exit code {}: {}", *code, one_line(test::read_bytes(folder / "stderr")))};
  }
  return answer;
}

}  // namespace deltatape::known_bugs

// Runs `deltatape check` on every known bug and on the correct kernels. README.md says what the figures mean.
//   mutation_score EDITS PLUGINS [--table FILE] [--quick] [--only NAME]
// The environment variable DELTATAPE_PROGRAM names the program. Exit codes: 0 good, 1 not, 2 wrong arguments or files.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "tests/harness/known_bugs/check_run.h"
#include "tests/harness/known_bugs/score_table.h"

namespace deltatape::known_bugs {
namespace {

using Verdict = CheckAnswer::Verdict;

constexpr double kShort = 2.0;    // seconds for a known bug
constexpr double kLong = 60.0;    // for one that was not found then
constexpr double kAtOnce = 1.0;   // 2 s suffice on a slower machine, too
constexpr double kCorrect = 3.0;  // for a correct kernel and seed
constexpr int kSeeds = 3;         // of a known bug
constexpr std::array kCorrectPlugins = {"kda_plugin_chunk", "kda_plugin_recurrent", "kda_plugin_chunk_kept",
                                        "kda_plugin_recurrent_kept"};

struct Arguments {
  std::filesystem::path edits;
  std::filesystem::path plugins;
  std::filesystem::path table;  // the file that holds it; empty: none
  bool quick = false;
  std::string only;  // known bug; empty: all, and the correct kernels
};

/// Far apart, since the cases of one run count its seed up.
uint64_t seed_of(int number) { return 1'000'000 * static_cast<uint64_t>(number); }

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(format, std::forward<Args>(args)...);
  std::fflush(stdout);
}

void print_row(const Score& score) {
  const std::string failed = score.no_verdict ? "NO VERDICT" : "NOT FOUND";
  const std::string verdict = score.flagged ? fmt::format("{:5.1f} s", score.seconds) : failed;
  say("{:<30} {:<10} {:<6}  {:<8} {:<6} {}{}\n", score.bug.name, verdict, score.at_once ? "at once" : "",
      score.tensor.empty() ? "none" : score.tensor, score.right_tensor() || !score.flagged ? "" : "WRONG",
      score.smallest, score.message.empty() ? "" : fmt::format("  ({})", score.message));
}

Score score_of(const KnownBug& bug, const Arguments& arguments) {
  CheckRequest request;
  request.plugin = arguments.plugins / ("known_bug_" + bug.name + ".so");
  request.budget = kShort;
  request.seed = seed_of(0);
  request.shrink = !arguments.quick;
  CheckAnswer answer = run_check(request);
  bool at_once = answer.verdict == Verdict::failed && answer.seconds <= kAtOnce;
  if (answer.verdict == Verdict::passed && !arguments.quick) {
    request.budget = kLong;
    answer = run_check(request);
  }
  // Where one seed was lucky another one need not be.
  request.budget = kShort;
  request.shrink = false;
  for (int number = 1; at_once && !arguments.quick && number < kSeeds; ++number) {
    request.seed = seed_of(number);
    const CheckAnswer again = run_check(request);
    at_once = again.verdict == Verdict::failed && again.seconds <= kAtOnce;
  }
  return {.bug = bug,
          .flagged = answer.verdict == Verdict::failed,
          .no_verdict = answer.verdict == Verdict::error,
          .at_once = at_once,
          .seconds = answer.seconds,
          .tensor = answer.tensor,
          .smallest = answer.smallest,
          .message = answer.message};
}

/// How often a correct kernel was flagged, from as many seeds.
size_t false_alarms_of(const std::string& plugin, int seeds, const Arguments& arguments, int64_t& cases) {
  CheckRequest request;
  request.plugin = arguments.plugins / (plugin + ".so");
  request.budget = kCorrect;
  request.dtypes = "all";
  size_t alarms = 0;
  for (int number = 0; number < seeds; ++number) {
    request.seed = seed_of(100 + number);
    request.shrink = !arguments.quick;
    const CheckAnswer answer = run_check(request);
    cases += answer.cases;
    if (answer.verdict != Verdict::passed) {
      ++alarms;
      say("{}, seed {}: FALSE ALARM, tensor {}: {} {}\n", plugin, request.seed,
          answer.tensor.empty() ? "none" : answer.tensor, answer.smallest, answer.message);
    }
  }
  return alarms;
}

int main_of(const Arguments& arguments) {
  // First, so that a wrong name or a table that cannot be read or written is known before minutes have gone by.
  const std::vector<KnownBug> bugs = selected(read_known_bugs(arguments.edits), arguments.only);
  std::map<std::string, bool> table;
  if (arguments.quick) {
    table = read_table(arguments.table);
  } else if (!arguments.table.empty()) {
    check_markers(arguments.table);
  }

  std::vector<Score> scores;
  scores.reserve(bugs.size());
  for (const KnownBug& bug : bugs) {
    scores.push_back(score_of(bug, arguments));
    print_row(scores.back());
  }
  if (!arguments.only.empty()) {
    return scores[0].flagged ? 0 : 1;
  }

  const int seeds = arguments.quick ? 2 : 20;
  size_t false_alarms = 0;
  int64_t cases = 0;
  for (const char* const plugin : kCorrectPlugins) {
    false_alarms += false_alarms_of(plugin, seeds, arguments, cases);
  }
  say("correct kernels: {} plugins, {} seeds each, {} cases\n", kCorrectPlugins.size(), seeds, cases);

  const Total total = total_of(scores, false_alarms);
  bool fine = total.good();
  if (arguments.quick) {
    const std::vector<std::string> problems = quick_problems(scores, table);
    for (const std::string& problem : problems) {
      say("{}\n", problem);
    }
    fine = false_alarms == 0 && problems.empty();
  } else if (std::any_of(scores.begin(), scores.end(), [](const Score& score) { return score.no_verdict; })) {
    fine = false;
    say("a bug has no verdict, so no table is written\n");
  } else if (!arguments.table.empty()) {
    const std::string correct = fmt::format(
        "{} plugins (chunk and recurrent, with and without kept states), {} seeds "
        "of {} s each, all dtypes: {} false alarms",
        kCorrectPlugins.size(), seeds, kCorrect, false_alarms);
    write_between_markers(arguments.table, to_markdown(scores, correct, total));
  }
  say("{}\n", total.line());
  return fine ? 0 : 1;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  std::vector<std::string> folders;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--quick") {
      arguments.quick = true;
    } else if (word == "--table" && i + 1 < argc) {
      arguments.table = argv[++i];
    } else if (word == "--only" && i + 1 < argc) {
      arguments.only = argv[++i];
    } else if (!word.starts_with("-")) {
      folders.push_back(word);
    } else {
      throw std::runtime_error(fmt::format("unknown argument '{}'", word));
    }
  }
  if (folders.size() != 2 || (arguments.quick && arguments.table.empty())) {
    throw std::runtime_error("expected EDITS PLUGINS [--table FILE] [--quick] [--only NAME], and --table with --quick");
  }
  arguments.edits = folders[0];
  arguments.plugins = folders[1];
  return arguments;
}

}  // namespace
}  // namespace deltatape::known_bugs

int main(int argc, char** argv) {
  try {
    return deltatape::known_bugs::main_of(deltatape::known_bugs::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mutation_score: %s\n", error.what());
    return 2;
  }
}

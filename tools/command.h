// What main.cpp and the subcommands share: exit codes, how a subcommand hooks itself in, checks of option values.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace deltatape::tools {

inline constexpr int kFine = 0;
inline constexpr int kFailed = 1;      // a tolerance missed, a loss that is not finite
inline constexpr int kWrongInput = 2;  // an option or a file is not what it should be

/// What the chosen subcommand does, set while the command line is parsed; returns the exit code. An Error that it
/// throws means wrong input.
using Action = std::function<int()>;

/// Each adds one subcommand to the program.
void add_train(CLI::App& program, Action& action);
void add_generate(CLI::App& program, Action& action);
void add_kda(CLI::App& program, Action& action);
void add_layer(CLI::App& program, Action& action);
void add_gradcheck(CLI::App& program, Action& action);
void add_model(CLI::App& program, Action& action);
void add_check(CLI::App& program, Action& action);
void add_cases(CLI::App& program, Action& action);
void add_bench(CLI::App& program, Action& action);
void add_info(CLI::App& program, Action& action);

/// Option values must be an integer of at least `minimum`.
CLI::Validator integer_from(int64_t minimum);
/// Option values must be an integer from `low` to `high`.
CLI::Validator integer_in(int64_t low, int64_t high);
/// Option values must be a finite number in [low, high].
CLI::Validator number_in(double low, double high);
/// Option values must be a number above 0 and at most 1.
CLI::Validator share();
/// Option values must be one of these words.
CLI::Validator one_of(std::initializer_list<const char*> words);

/// The most that --threads takes.
inline constexpr int64_t kMostThreads = 1024;
/// Help of --impl where a whole model runs.
inline constexpr const char* kImplementationHelp =
    "composed: ops on the tape; fused: hand-written kernels; auto: fused";

/// Runs CPU kernels with this many threads.
void set_threads(int64_t count);

/// "a,b,c" cut at the commas.
std::vector<std::string> split_at_commas(const std::string& text);

}  // namespace deltatape::tools

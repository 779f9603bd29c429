// What `kda` and `layer` share: stored cases are read, run, judged, written and shown.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tools/comparison.h"

namespace deltatape::tools {

struct CaseArguments {
  std::vector<std::string> cases;
  std::string impl;
  std::string device = "cpu";
  std::string dtype = "f32";
  int64_t threads = 0;
  std::string out;
  bool check = false;
  std::optional<double> rtol;
  std::optional<double> atol;
  std::optional<int64_t> max_ulp;
  std::string json;
};

/// CASE and every option but --impl.
void add_case_options(CLI::App& app, CaseArguments& arguments);

/// `tolerance` with what --rtol, --atol and --max-ulp say.
Tolerance overridden(Tolerance tolerance, const CaseArguments& arguments);

/// The value of --device. Throws Error naming the option.
Device parse_device_option(const std::string& text);

/// A case that has been read and found right; nothing has been computed yet.
struct ReadyCase {
  std::string name;
  std::filesystem::path path;
  std::function<NamedTensors()> run;
  std::function<std::vector<Comparison>(const NamedTensors&)> judge;  // of what `run` gave, for --check
};

/// Runs the cases that `load` makes of the paths: reads all, then computes all, then writes. An Error before the last
/// step leaves nothing behind. Returns the exit code.
int run_cases(const CaseArguments& arguments, const std::function<ReadyCase(const std::string& path)>& load);

}  // namespace deltatape::tools

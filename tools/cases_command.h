// `deltatape cases make` and `deltatape cases check`: kernels of other frameworks, checked through files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/report_files.h"

namespace deltatape::tools {

struct MakeArguments {
  std::string space;
  std::string dtype = "f32";
  int64_t count = 20;
  int64_t seed = 0;
  std::vector<std::string> cases;  // texts of settings, instead of drawing
  bool simpler = false;            // the next simpler ones, too
  std::string format = "npy";
  bool intermediates = false;
  int64_t threads = 0;
  std::string out;
};

/// Writes the folder of cases. Returns the exit code; an Error, SIGINT and SIGTERM leave nothing behind.
int make_cases(const MakeArguments& arguments);

struct CheckCasesArguments {
  std::string folder;
  std::string results;  // with commas; empty: what every case lists
  bool strict = false;
  int64_t threads = 0;
  ReportFiles files;
};

/// Judges the results in a folder of cases. Returns the exit code.
int check_cases(const CheckCasesArguments& arguments);

}  // namespace deltatape::tools

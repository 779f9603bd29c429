// The options --json, --html and --junit of the commands that end in a harness report.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "harness/report/report.h"

namespace deltatape::tools {

struct ReportFiles {
  std::string json;
  std::string html;
  std::string junit;
};

void add_report_options(CLI::App& app, ReportFiles& files);
/// Throws Error that names the option unless every file that was asked for can be made: before long work.
void check_writable(const ReportFiles& files);
/// Writes what was asked for, prints the report's text on stdout, and returns the exit code.
int publish(const harness::Report& report, const ReportFiles& files);

}  // namespace deltatape::tools

// A Report for people and for programs.
#pragma once

#include <cstdio>
#include <string>

#include "harness/report/report.h"

namespace deltatape::harness {

/// A table with a row per tensor (comparisons, how many wrong and less accurate, the worst error with its limit and
/// place), the witnesses, the first failure: its smallest case, tensor, stage, the command that repeats it. The last
/// line is Report::summary.
std::string to_text(const Report& report);
/// One object; docs/harness.md lists its keys. Numbers that are not finite are null.
std::string to_json(const Report& report);
/// JUnit XML: a suite with a test case per case that was run.
std::string to_junit(const Report& report);
/// One page without anything from the network: verdict, plots, tables.
std::string to_html(const Report& report);

}  // namespace deltatape::harness

// The plots of the page: each is a piece of HTML, empty when there is nothing to show.
#pragma once

#include <string>

#include "harness/report/report.h"

namespace deltatape::harness::html {

/// Errors of one tensor by time and channel, as colours around the limit of its judgement, with chunk borders.
std::string error_map_plot(const CaseReport& c);

/// Errors of every tensor of a case by position in the chunk; where no chunks are known, by time. In multiples of
/// their limits, so that tensors can be compared.
std::string profile_plot(const CaseReport& c);

/// Errors of all comparisons by dtype, gate and decay, or by the first settings that are words.
std::string regime_plot(const Report& report);

/// For every setting its values, with how many cases passed and failed.
std::string option_space(const Report& report);

/// Where an error stands between its limits, as a small drawing.
std::string ruler(const Judgement& judgement, double width);

}  // namespace deltatape::harness::html

// check_operator: draws cases, runs candidate and reference, judges, shrinks what failed. docs/harness.md.
#pragma once

#include <functional>

#include "harness/operator.h"
#include "harness/report/report.h"
#include "harness/space.h"

namespace deltatape::harness {

struct CheckOptions {
  double budget = 10.0;         // seconds; 0: no limit, `cases` counts
  int64_t cases = 0;            // at most so many; 0: as many as the budget allows
  uint64_t seed = 0;            // of the first case; the next has the next one
  int64_t repeats = 2;          // runs of the candidate per case, which must agree bit by bit; 1: once
  bool shrink = true;           // the first failing case, for up to half of the budget again (at least 2 s)
  bool stop = false;            // at the first failing case
  bool accuracy_fails = false;  // a case that is only less accurate fails, too
  /// What a person types to see a case again; gets Space::text.
  std::function<std::string(const std::string& text)> command = {};
  /// Likewise for the first `count` cases from `seed` on, where a case fails only after others.
  std::function<std::string(uint64_t seed, int64_t count)> run_command = {};
  /// Called after every case: share of the work done in [0, 1], what it is about.
  std::function<void(double done, const std::string& text)> progress = {};
};

/// Holds `candidate` against `reference` on cases drawn from `space`. Throws Error when the space or the reference
/// fails (a reference that is not finite included), never for what the candidate does.
Report check_operator(const Reference& reference, const Candidate& candidate, const Space& space,
                      const CheckOptions& options = {});

/// As check_operator, of one case: with witnesses, and made smaller if it fails.
Report check_one(const Reference& reference, const Candidate& candidate, const Space& space, const Settings& settings,
                 const CheckOptions& options = {});

/// The judgement of one case alone.
CaseReport check_case(const Reference& reference, const Candidate& candidate, const Space& space,
                      const Settings& settings, const CheckOptions& options = {});

}  // namespace deltatape::harness

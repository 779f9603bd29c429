// One run of `deltatape check --plugin`, and what its JSON says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace deltatape::known_bugs {

struct CheckRequest {
  std::filesystem::path plugin;
  double budget = 2.0;  // seconds
  uint64_t seed = 0;
  bool stop = true;     // at the first failing case
  bool shrink = false;  // it
  std::string dtypes = "f32,f64";
};

struct CheckAnswer {
  enum class Verdict : uint8_t {
    passed,
    failed,  // a case failed
    error,   // no verdict: the program ended otherwise, or its witnesses disagree; `message` says so
  };
  Verdict verdict = Verdict::error;
  std::string message = {};
  std::string tensor = {};    // that it names; empty if none
  std::string smallest = {};  // the case, after shrinking
  double seconds = 0.0;       // to the end of the first failing case
  int64_t cases = 0;
};

/// Runs the program named by the environment variable DELTATAPE_PROGRAM with two threads. One that takes far more than
/// its budget is ended.
CheckAnswer run_check(const CheckRequest& request);

}  // namespace deltatape::known_bugs

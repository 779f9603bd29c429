// What a check found: plain data that the writers of reports read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/settings.h"

namespace deltatape::harness {

enum class Verdict : uint8_t {
  fine,
  less_accurate,  // than the composed path at this dtype, by more than rounding explains; not by a wrong formula's size
  wrong,
};
/// `fine`, `less accurate`, `WRONG`.
std::string_view to_string(Verdict verdict);

/// How far one tensor is from the reference. Errors are relative to the largest element of the reference.
struct Measure {
  double error = 0.0;      // max |x - ref| / max |ref|; infinite where either side is not finite
  double rms_error = 0.0;  // rms(x - ref) / rms(ref)
  int64_t ulp = 0;         // the largest distance of an element whose reference is at least 1e-3 of the largest, in
                           // units in the last place of the candidate's dtype
  std::string worst;       // the worst element in words: `batch 0, time 65 (chunk 1, row 1), head 2, channel 17`
  double actual = 0.0;     // its value
  double expected = 0.0;
  std::vector<double> by_time = {};     // the largest error at each time within a sequence, relative as `error`
  std::vector<double> by_row = {};      // at each row of a chunk
  std::vector<double> by_channel = {};  // along the last dimension
};

/// One tensor of one case, judged.
struct Judgement {
  std::string tensor;
  Verdict verdict = Verdict::fine;
  std::string problem = {};  // where numbers do not say it: missing, a wrong shape, NaN, not repeatable
  Measure measure = {};
  double composed = 0.0;  // the error of the composed path at the same dtype
  double fine_limit = 0.0;
  double wrong_limit = 0.0;
  bool repeatable = true;  // the same bits in every run of the case
};

/// Where one tensor is off: the largest error per time and channel.
struct ErrorMap {
  std::string tensor;
  int64_t times = 0;
  int64_t channels = 0;
  std::vector<double> errors = {};  // [times, channels], relative to the largest element of the reference
};

struct CaseReport {
  Settings settings;
  std::string text;  // of the settings, to paste back
  enum class Status : uint8_t { passed, failed, unsupported } status = Status::passed;
  std::string message = {};  // of a fault or of an unsupported case
  std::vector<Judgement> judgements = {};
  std::string tensor = {};      // the one to look at: where the data's way first goes wrong; empty unless failed
  std::string stage = {};       // the first intermediate that differs, where the candidate gave intermediates
  std::optional<ErrorMap> map;  // of `tensor`
  double seconds = 0.0;
};

/// Two independent ways to the same number.
struct WitnessReport {
  std::string witness;  // `chunk form`, `central differences`
  std::string text;     // of the case
  std::string tensor;
  double error = 0.0;
  double limit = 0.0;
  bool ok = false;
};

struct Failure {
  CaseReport first;           // the first case that failed
  CaseReport smallest;        // after shrinking
  int64_t tried = 0;          // how many simpler cases were run
  std::string command = {};   // reproduces the smallest
  int64_t failing_cases = 0;  // of all that ran
  double seconds = 0.0;       // from the start of the check to the end of the first failing case
  std::string note = {};      // where the smallest does not fail by itself, or not every time
};

struct Report {
  std::string candidate;
  std::string reference;
  uint64_t seed = 0;
  double budget = 0.0;  // seconds; 0: none
  double seconds = 0.0;
  std::vector<CaseReport> cases = {};
  std::vector<WitnessReport> witnesses = {};
  std::optional<Failure> failure = {};

  /// Whether at least one case ran, none failed, and the witnesses agree.
  [[nodiscard]] bool passed() const;
  [[nodiscard]] int64_t count(CaseReport::Status status) const;
  /// `passed: 41 cases passed, 0 failed, 3 not supported` in one line.
  [[nodiscard]] std::string summary() const;
};

}  // namespace deltatape::harness

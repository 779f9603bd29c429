// Many cases: drawn for as long as the budget lasts, the witnesses called, the first failure made small.
#include "harness/check.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "harness/judge/witnesses.h"
#include "harness/report/rows.h"
#include "harness/shrink.h"
#include "harness/stopwatch.h"

namespace deltatape::harness {
namespace {

constexpr double kWitnessShare = 0.15;   // of the time
constexpr double kNearlyDone = 0.999;    // of the progress, while a case is made smaller
constexpr double kLeastShrinking = 2.0;  // seconds

class Check {
 public:
  Check(const Reference& reference, const Candidate& candidate, const Space& space, const CheckOptions& options)
      : reference_(reference), candidate_(candidate), space_(space), options_(options) {
    check(options.budget > 0.0 || options.cases > 0, "check_operator",
          "budget is {} and cases is {}, expected one of them to be above 0", options.budget, options.cases);
    report_.candidate = candidate.name;
    report_.reference = reference.name;
    report_.seed = options.seed;
    report_.budget = options.budget;
  }

  Report run() {
    for (uint64_t seed = options_.seed; goes_on(); ++seed) {
      run_case(space_.draw(seed));
    }
    return finished();
  }

  Report run_one(const Settings& settings) {
    report_.seed = static_cast<uint64_t>(settings.integer("seed"));
    run_case(settings);
    return finished();
  }

 private:
  Report finished() {
    if (report_.failure) {
      const Failure& failure = *report_.failure;
      const bool by_itself = show_smallest();
      if (by_itself && options_.command) {
        report_.failure->command = options_.command(failure.smallest.text);
      } else if (!by_itself && options_.run_command) {
        report_.failure->command = options_.run_command(report_.seed, static_cast<int64_t>(1 + index_of_failure_));
      }
    }
    report_.seconds = seconds();
    return std::move(report_);
  }

  [[nodiscard]] double seconds() const { return watch_.seconds(); }
  [[nodiscard]] bool goes_on() const {
    const auto done = static_cast<int64_t>(report_.cases.size());
    const bool stopped = options_.stop && report_.failure.has_value();
    return !stopped && (options_.cases == 0 || done < options_.cases) &&
           (options_.budget == 0.0 || done == 0 || seconds() < options_.budget);
  }
  [[nodiscard]] double share_done() const {
    const double cases =
        options_.cases == 0 ? 0.0 : static_cast<double>(report_.cases.size()) / static_cast<double>(options_.cases);
    return std::min(1.0, std::max(cases, options_.budget == 0.0 ? 0.0 : seconds() / options_.budget));
  }

  void run_case(const Settings& settings) {
    CaseReport result = check_case(reference_, candidate_, space_, settings, options_);
    if (result.status == CaseReport::Status::failed) {
      if (!report_.failure) {
        index_of_failure_ = report_.cases.size();
        report_.failure = Failure{.first = result, .smallest = result, .seconds = seconds()};
      }
      ++report_.failure->failing_cases;
    }
    keep_worst_map(result);
    report_.cases.push_back(std::move(result));
    if (report_.witnesses.empty() || witness_seconds_ < kWitnessShare * seconds()) {
      call_witnesses(settings);
    }
    if (options_.progress) {
      options_.progress(share_done(), report_.cases.back().text);
    }
  }

  /// Of the cases that passed only the worst one keeps its map; of those that failed, the failure that is shown.
  void keep_worst_map(CaseReport& result) {
    const bool passed = result.status == CaseReport::Status::passed;
    if (!passed || !result.map) {
      result.map.reset();
      return;
    }
    if (mapped_ < report_.cases.size()) {
      CaseReport& other = report_.cases[mapped_];
      if (!is_worse(*main_judgement(result), *main_judgement(other))) {
        result.map.reset();
        return;
      }
      other.map.reset();
    }
    mapped_ = report_.cases.size();
  }

  void call_witnesses(const Settings& settings) {
    const Stopwatch watch;
    for (WitnessReport& row : compare_witnesses(reference_, space_.make(settings), space_.text(settings))) {
      report_.witnesses.push_back(std::move(row));
    }
    witness_seconds_ += watch.seconds();
  }

  /// Makes the failing case small and looks whether it fails by itself, too: in a candidate that has forgotten all
  /// other cases. Returns whether it does.
  bool show_smallest() {
    Failure& failure = *report_.failure;
    shrink_failure(false);
    if (!candidate_.restart || fails_afresh(failure.smallest.settings)) {
      return true;
    }
    if (!fails_afresh(failure.first.settings)) {
      const bool restless = failure.first.status == CaseReport::Status::failed && not_repeatable(failure.first);
      failure.smallest = failure.first;
      failure.note =
          restless ? "does not show in every run" : "fails only after other cases: something is left over from them";
      return restless;
    }
    failure.smallest = failure.first;
    shrink_failure(true);
    return true;
  }

  static bool not_repeatable(const CaseReport& c) {
    return std::any_of(c.judgements.begin(), c.judgements.end(),
                       [](const Judgement& judgement) { return !judgement.repeatable; });
  }

  [[nodiscard]] bool fails_afresh(const Settings& settings) {
    constexpr int kAttempts = 3;  // races do not show every time
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      candidate_.restart();
      if (check_case(reference_, candidate_, space_, settings, options_).status == CaseReport::Status::failed) {
        return true;
      }
    }
    return false;
  }

  void shrink_failure(bool afresh) {
    Failure& failure = *report_.failure;
    const double limit = std::max(kLeastShrinking, 0.5 * options_.budget);
    if (!options_.shrink || failure.first.seconds > 0.5 * limit) {
      return;  // a kernel that hangs would hang again
    }
    const Stopwatch watch;
    const auto fails = [&](const Settings& settings) {
      if (options_.progress) {
        options_.progress(kNearlyDone, "smaller: " + space_.text(settings));
      }
      if (afresh) {
        candidate_.restart();
      }
      CaseReport result = check_case(reference_, candidate_, space_, settings, options_);
      // The same failure: a kernel that crashes where it was never meant to run, or another tensor, is another story.
      const bool failed = result.status == CaseReport::Status::failed && result.tensor == failure.first.tensor &&
                          result.judgements.empty() == failure.first.judgements.empty();
      if (failed) {
        failure.smallest = std::move(result);
      }
      return failed;
    };
    failure.tried += shrink(space_, failure.first.settings, fails, [&] { return watch.seconds() < limit; }).tried;
  }

  const Reference& reference_;
  const Candidate& candidate_;
  const Space& space_;
  const CheckOptions& options_;
  Stopwatch watch_;
  double witness_seconds_ = 0.0;
  size_t index_of_failure_ = 0;
  size_t mapped_ = std::numeric_limits<size_t>::max();  // which case has a map
  Report report_;
};

}  // namespace

Report check_operator(const Reference& reference, const Candidate& candidate, const Space& space,
                      const CheckOptions& options) {
  return Check(reference, candidate, space, options).run();
}

Report check_one(const Reference& reference, const Candidate& candidate, const Space& space, const Settings& settings,
                 const CheckOptions& options) {
  return Check(reference, candidate, space, options).run_one(settings);
}

}  // namespace deltatape::harness

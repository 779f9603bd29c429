#include "harness/check.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "harness/judge/judge.h"
#include "harness/judge/witnesses.h"
#include "harness/poison.h"
#include "harness/report/rows.h"
#include "harness/shrink.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr double kWitnessShare = 0.15;   // of the time
constexpr double kNearlyDone = 0.999;    // of the progress, while a case is made smaller
constexpr double kLeastShrinking = 2.0;  // seconds
constexpr std::string_view kNotRepeatable = "not repeatable";
constexpr double kSameWay = 0.1;  // errors of this share of the worst one count as one error's spreading

/// How many elements have other bits.
int64_t different_elements(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) {
    return std::max(a.numel(), b.numel());
  }
  const auto size = size_of(a.dtype());
  const auto* x = static_cast<const char*>(a.raw());
  const auto* y = static_cast<const char*>(b.raw());
  int64_t count = 0;
  for (int64_t i = 0; i < a.numel(); ++i, x += size, y += size) {
    count += std::memcmp(x, y, size) != 0 ? 1 : 0;
  }
  return count;
}

NamedTensors on_host(const NamedTensors& results) {
  NamedTensors host;
  host.reserve(results.size());
  for (const auto& [name, tensor] : results) {
    host.emplace_back(name, tensor.defined() ? contiguous(to(tensor.detach(), Device::cpu())) : tensor);
  }
  return host;
}

/// What the candidate makes of the case; an exception or a changed input is a fault.
Answer run_candidate(const Candidate& candidate, const Case& c) {
  const Case poisoned = among_poison(c);
  Answer answer;
  try {
    answer = candidate.run(poisoned);
    answer.results = on_host(answer.results);
  } catch (const std::exception& error) {
    return {.status = Answer::Status::fault, .message = std::string("it threw: ") + error.what()};
  } catch (...) {
    return {.status = Answer::Status::fault, .message = "it threw something that is no std::exception"};
  }
  const std::string changed = changed_tensor(c, poisoned);
  if (!changed.empty()) {
    return {.status = Answer::Status::fault, .message = "it wrote to its input " + changed};
  }
  return answer;
}

std::vector<std::string> promised(const Candidate& candidate, const Expectation& expectation) {
  std::vector<std::string> names;
  for (const Expected& expected : expectation.results()) {
    const bool listed = candidate.results.empty() || std::find(candidate.results.begin(), candidate.results.end(),
                                                               expected.name) != candidate.results.end();
    if (listed) {
      names.push_back(expected.name);
    }
  }
  return names;
}

class CaseCheck {
 public:
  CaseCheck(const Reference& reference, const Candidate& candidate, const Space& space, const Settings& settings,
            const CheckOptions& options)
      : reference_(reference), candidate_(candidate), options_(options), case_(space.make(settings)) {
    report_.settings = settings;
    report_.text = space.text(settings);
  }

  CaseReport run() {
    const Clock::time_point start = Clock::now();
    const Answer answer = run_candidate(candidate_, case_);
    report_.message = answer.message;
    if (answer.status == Answer::Status::answered) {
      judge_all(answer.results);
    } else {
      report_.status =
          answer.status == Answer::Status::fault ? CaseReport::Status::failed : CaseReport::Status::unsupported;
    }
    report_.seconds = seconds_since(start);
    return std::move(report_);
  }

 private:
  void judge_all(const NamedTensors& results) {
    Expectation expectation(reference_, case_);
    const bool more = std::any_of(results.begin(), results.end(),
                                  [&](const auto& result) { return expectation.find(result.first) == nullptr; });
    if (more && reference_.intermediates) {
      expectation.add_intermediates(reference_, case_);
    }
    if (reference_.tokens) {
      layout_.tokens = reference_.tokens(case_);
    }
    const std::string beyond = not_representable(expectation, results);
    if (!beyond.empty()) {
      report_.status = CaseReport::Status::unsupported;
      report_.message = beyond;
      return;
    }
    judge_with(expectation, results);
    if (!all_fine()) {  // a second opinion before crying wolf
      expectation.measure_forward(reference_, case_);
      judge_with(expectation, results);
    }
    compare_repeats(results);
    conclude(results, expectation);
  }

  /// What is larger than anything that the dtype of the result holds.
  [[nodiscard]] static std::string not_representable(const Expectation& expectation, const NamedTensors& results) {
    for (const auto& [name, tensor] : results) {
      const Expected* expected = expectation.find(name);
      if (expected != nullptr && tensor.defined() && expected->largest > largest_number(tensor.dtype())) {
        return fmt::format("{} is as large as {:.1e}, more than {} holds", name, expected->largest,
                           deltatape::to_string(tensor.dtype()));
      }
    }
    return {};
  }

  void judge_with(const Expectation& expectation, const NamedTensors& results) {
    report_.judgements.clear();
    std::vector<std::string> names = promised(candidate_, expectation);
    for (const auto& result : results) {
      if (std::find(names.begin(), names.end(), result.first) == names.end()) {
        names.push_back(result.first);
      }
    }
    for (const std::string& name : names) {
      const Expected* expected = expectation.find(name);
      if (expected == nullptr) {
        add_unknown(name);
      } else {
        layout_.dimensions = reference_.dimensions ? reference_.dimensions(name) : std::vector<std::string>();
        report_.judgements.push_back(judge(*expected, find(results, name), case_.dtype, layout_));
      }
    }
  }

  void add_unknown(const std::string& name) {
    if (!reference_.intermediates) {  // else it may be one that this case does not have
      Judgement judgement{.tensor = name, .verdict = Verdict::wrong, .problem = "the reference has no such result"};
      judgement.measure.error = std::numeric_limits<double>::infinity();
      report_.judgements.push_back(std::move(judgement));
    }
  }

  [[nodiscard]] bool all_fine() const {
    return std::all_of(report_.judgements.begin(), report_.judgements.end(),
                       [](const Judgement& judgement) { return judgement.verdict == Verdict::fine; });
  }

  void compare_repeats(const NamedTensors& results) {
    for (int64_t i = 1; i < options_.repeats; ++i) {
      const Answer again = run_candidate(candidate_, case_);
      if (again.status != Answer::Status::answered) {
        report_.message = again.message + " (when the case ran again)";
        report_.status = CaseReport::Status::failed;
        return;
      }
      for (Judgement& judgement : report_.judgements) {
        const Tensor first = find(results, judgement.tensor);
        const Tensor second = find(again.results, judgement.tensor);
        const int64_t different = !first.defined()    ? 0
                                  : !second.defined() ? first.numel()
                                                      : different_elements(first, second);
        if (different > 0 && judgement.problem.empty()) {
          judgement.verdict = Verdict::wrong;
          judgement.problem =
              fmt::format("{}: {} of {} elements differ between two runs", kNotRepeatable, different, first.numel());
        }
      }
    }
  }

  /// Status, the tensor to look at, the stage, the map.
  void conclude(const NamedTensors& results, const Expectation& expectation) {
    double worst = 0.0;
    for (const Judgement& judgement : report_.judgements) {
      if (fails(judgement)) {
        report_.status = CaseReport::Status::failed;
        worst = std::max(worst, excess(judgement));
      }
    }
    if (report_.judgements.empty() && report_.status == CaseReport::Status::passed) {
      report_.status = CaseReport::Status::unsupported;
      report_.message = "the case asks for none of its results";
    }
    if (report_.status == CaseReport::Status::passed) {
      const Judgement* most = main_judgement(report_);
      draw_map(most->tensor, results, expectation);
    }
    if (report_.status != CaseReport::Status::failed || worst == 0.0) {
      return;
    }
    std::vector<const Judgement*> failed;
    for (const Judgement& judgement : report_.judgements) {
      // An output is never wrong because of a gradient, so a wrong one counts however small its error is.
      const bool counts = !is_gradient(judgement.tensor) || excess(judgement) >= kSameWay * std::min(worst, kMost);
      if (fails(judgement) && counts) {
        failed.push_back(&judgement);
      }
    }
    std::stable_sort(failed.begin(), failed.end(),
                     [&](const Judgement* a, const Judgement* b) { return place(a->tensor) < place(b->tensor); });
    const auto intermediate = [&](const Judgement* judgement) {
      return is_intermediate(expectation, judgement->tensor);
    };
    const auto stage = std::find_if(failed.begin(), failed.end(), intermediate);
    report_.stage = stage == failed.end() ? "" : (*stage)->tensor;
    const auto tensor = std::find_if_not(failed.begin(), failed.end(), intermediate);
    report_.tensor = tensor == failed.end() ? report_.stage : (*tensor)->tensor;
    draw_map(report_.tensor, results, expectation);
  }

  /// Where this tensor is off.
  void draw_map(const std::string& tensor, const NamedTensors& results, const Expectation& expectation) {
    const Tensor actual = find(results, tensor);
    const Expected* expected = expectation.find(tensor);
    if (expected != nullptr && actual.defined() && actual.shape() == expected->value.shape()) {
      layout_.dimensions = reference_.dimensions ? reference_.dimensions(tensor) : std::vector<std::string>();
      report_.map = error_map(tensor, actual, expected->value, layout_);
    }
  }

  static bool is_intermediate(const Expectation& expectation, const std::string& name) {
    const auto& list = expectation.intermediates();
    return std::any_of(list.begin(), list.end(), [&](const Expected& expected) { return expected.name == name; });
  }

  /// `d` and the name of an input, a result or an intermediate.
  [[nodiscard]] bool is_gradient(const std::string& tensor) const {
    const std::string of = tensor.empty() ? tensor : tensor.substr(1);
    return tensor.front() == 'd' &&
           (find(case_.inputs, of).defined() ||
            std::find(reference_.order.begin(), reference_.order.end(), of) != reference_.order.end());
  }
  [[nodiscard]] bool fails(const Judgement& judgement) const {
    return judgement.verdict == Verdict::wrong ||
           (options_.accuracy_fails && judgement.verdict == Verdict::less_accurate);
  }
  /// How many times the limit; at most kMost, where it can no longer be compared.
  static double excess(const Judgement& judgement) {
    const double times = judgement.measure.error / judgement.fine_limit;
    return judgement.problem.empty() && times < kMost ? times : kMost;
  }
  [[nodiscard]] size_t place(const std::string& tensor) const {
    const auto found = std::find(reference_.order.begin(), reference_.order.end(), tensor);
    return static_cast<size_t>(found - reference_.order.begin());
  }

  static constexpr double kMost = 1e6;

  const Reference& reference_;
  const Candidate& candidate_;
  const CheckOptions& options_;
  Case case_;
  Layout layout_;
  CaseReport report_;
};

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

  [[nodiscard]] double seconds() const { return seconds_since(start_); }
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
    const Clock::time_point start = Clock::now();
    for (WitnessReport& row : compare_witnesses(reference_, space_.make(settings), space_.text(settings))) {
      report_.witnesses.push_back(std::move(row));
    }
    witness_seconds_ += seconds_since(start);
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
                       [](const Judgement& judgement) { return judgement.problem.starts_with(kNotRepeatable); });
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
    const Clock::time_point start = Clock::now();
    const auto fails = [&](const Settings& settings) {
      if (options_.progress) {
        options_.progress(kNearlyDone, "smaller: " + space_.text(settings));
      }
      if (afresh) {
        candidate_.restart();
      }
      CaseReport result = check_case(reference_, candidate_, space_, settings, options_);
      // The same kind of failure: a kernel that crashes where it was never meant to run is another story.
      const bool failed =
          result.status == CaseReport::Status::failed && result.judgements.empty() == failure.first.judgements.empty();
      if (failed) {
        failure.smallest = std::move(result);
      }
      return failed;
    };
    failure.tried += shrink(space_, failure.first.settings, fails, [&] { return seconds_since(start) < limit; }).tried;
  }

  const Reference& reference_;
  const Candidate& candidate_;
  const Space& space_;
  const CheckOptions& options_;
  Clock::time_point start_ = Clock::now();
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

CaseReport check_case(const Reference& reference, const Candidate& candidate, const Space& space,
                      const Settings& settings, const CheckOptions& options) {
  return CaseCheck(reference, candidate, space, settings, options).run();
}

}  // namespace deltatape::harness

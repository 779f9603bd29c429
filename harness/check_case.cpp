// One case: run, judged tensor by tensor, the one to look at named.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype_limits.h"
#include "core/error.h"
#include "harness/check.h"
#include "harness/judge/judge.h"
#include "harness/poison.h"
#include "harness/report/rows.h"
#include "harness/stopwatch.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

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
    const Stopwatch watch;
    const Answer answer = run_candidate(candidate_, case_);
    report_.message = answer.message;
    if (answer.status == Answer::Status::answered) {
      judge_all(answer.results);
    } else {
      report_.status =
          answer.status == Answer::Status::fault ? CaseReport::Status::failed : CaseReport::Status::unsupported;
    }
    report_.seconds = watch.seconds();
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
              fmt::format("not repeatable: {} of {} elements differ between two runs", different, first.numel());
          judgement.repeatable = false;
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
    return tensor.starts_with('d') &&
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

}  // namespace

CaseReport check_case(const Reference& reference, const Candidate& candidate, const Space& space,
                      const Settings& settings, const CheckOptions& options) {
  return CaseCheck(reference, candidate, space, settings, options).run();
}

}  // namespace deltatape::harness

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>

#include "core/error.h"
#include "harness/check.h"
#include "harness/files/case_set.h"
#include "harness/files/stored_case.h"
#include "harness/judge/witnesses.h"
#include "harness/kda/kda.h"
#include "tools/case_space.h"
#include "tools/cases_command.h"
#include "tools/command.h"
#include "tools/progress.h"
#include "tools/table.h"

namespace deltatape::tools {
namespace {

using harness::CaseReport;
using harness::CaseSet;
using harness::NamedTensors;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What a case can ask for. Intermediates are judged where they are there; that one is there cannot be asked for, since
// not every case has them.
constexpr std::array<const char*, 10> kResults = {"o",  "ht",    "dq",     "dk",       "dv",
                                                  "dg", "dbeta", "dA_log", "ddt_bias", "dh0"};

bool is_result(const std::string& name) { return std::find(kResults.begin(), kResults.end(), name) != kResults.end(); }

// What --results says.
std::vector<std::string> promised_results(const CheckCasesArguments& arguments) {
  if (arguments.results.empty()) {
    return {};
  }
  std::vector<std::string> names = split_at_commas(arguments.results);
  for (const std::string& name : names) {
    check(is_result(name), "--results", "'{}' is no result, expected some of {}", name, fmt::join(kResults, ","));
  }
  return names;
}

bool has(const NamedTensors& tensors, const std::string& name) { return harness::find(tensors, name).defined(); }

std::string results_among(const NamedTensors& tensors) {
  std::string names;
  for (const char* name : kResults) {
    names += has(tensors, name) ? (names.empty() ? "" : " ") + std::string(name) : "";
  }
  return names;
}

int64_t count_elements(const harness::Case& c) {
  int64_t count = 0;
  for (const auto& input : c.inputs) {
    count += input.second.numel();
  }
  return count;
}

class FolderCheck {
 public:
  explicit FolderCheck(const CheckCasesArguments& arguments)
      : arguments_(arguments), set_(harness::read_index(arguments.folder)) {
    report_.candidate = "results in " + arguments.folder;
    report_.reference = reference_.name;
    report_.seed = set_.seed;
    candidate_.name = report_.candidate;
    promised_ = promised_results(arguments);
    check_index();
    options_.repeats = 1;
    options_.accuracy_fails = arguments.strict;
  }

  int run() {
    read_all_results();
    {
      Progress progress(0, static_cast<int64_t>(set_.cases.size()));
      for (size_t i = 0; i < set_.cases.size(); ++i) {
        add(results_[i].empty() ? not_run(set_.cases[i]) : judged(set_.cases[i], results_[i]), set_.cases[i].name);
        progress.update(static_cast<int64_t>(i) + 1, set_.cases[i].name);
      }
    }
    if (report_.failure) {
      report_.failure->tried = report_.failure->failing_cases - 1;
      report_.failure->command =
          fmt::format("deltatape cases make --case '{}' --simpler --out simpler", report_.failure->smallest.text);
    }
    report_.seconds = seconds_since(start_);
    print_failures();
    return publish(report_, arguments_.files);
  }

 private:
  void check_index() const {
    for (const CaseSet::Entry& entry : set_.cases) {
      for (const std::string& name : entry.results) {
        check(is_result(name), "DIR", "{}: the case '{}' asks for '{}', expected some of {}", index_label(), entry.name,
              name, fmt::join(kResults, " "));
      }
    }
  }

  [[nodiscard]] std::string index_label() const {
    return (std::filesystem::path(arguments_.folder) / "cases.json").string();
  }

  void read_all_results() {
    bool any = false;
    for (const CaseSet::Entry& entry : set_.cases) {
      results_.push_back(harness::read_results(arguments_.folder, entry.name, reference_.order));
      any = any || !results_.back().empty();
    }
    const std::string& first = set_.cases.front().name;
    check(any, "DIR", "no case in {} has results, expected files such as {} or {}", arguments_.folder,
          (harness::results_folder(arguments_.folder, first) / "o.npy").string(),
          harness::results_file(arguments_.folder, first).string());
  }

  CaseReport not_run(const CaseSet::Entry& entry) {
    CaseReport result;
    result.settings = space_.parse(entry.text);
    result.text = entry.text;
    result.status = CaseReport::Status::unsupported;
    result.message = entry.name + " has no results";
    return result;
  }

  CaseReport judged(const CaseSet::Entry& entry, const NamedTensors& results) {
    const auto path = harness::case_path(arguments_.folder, set_.format, entry.name);
    const harness::StoredCase stored = harness::read_case(path, set_.format, space_);
    const std::string text = space_.text(stored.inputs.settings);
    check(text == entry.text, "DIR", "{} is the case '{}', expected '{}' as in cases.json", path.string(), text,
          entry.text);
    harness::check_answers(path, set_.format, reference_, stored);
    for (const std::string& name : entry.results) {
      check(has(stored.answers, name), "DIR", "{}: the case '{}' asks for '{}', expected some of {}", index_label(),
            entry.name, name, results_among(stored.answers));
    }
    check_belong(entry, stored, results);
    if (report_.witnesses.empty()) {
      report_.witnesses = harness::compare_witnesses(reference_, stored.inputs, text);
    }
    smallest_now_ = count_elements(stored.inputs);
    harness::Space space = space_;
    space.make([&](const harness::Settings&) { return stored.inputs; });  // the stored tensors, to the last bit
    candidate_.results = promised_.empty() ? entry.results : promised_;
    candidate_.run = [&](const harness::Case&) { return harness::Answer{.results = results}; };
    return harness::check_case(reference_, candidate_, space, stored.inputs.settings, options_);
  }

  // A result that this case does not have was written for another one, or by a kernel that runs with other options.
  void check_belong(const CaseSet::Entry& entry, const harness::StoredCase& stored, const NamedTensors& results) const {
    NamedTensors intermediates;
    if (std::any_of(results.begin(), results.end(), [](const auto& result) { return !is_result(result.first); })) {
      intermediates = reference_.intermediates(harness::widened(stored.inputs));
    }
    for (const auto& result : results) {
      const std::string& name = result.first;
      // A case without any intermediates, as with segment_ids, is not judged by them, and a kernel may have them.
      const bool belongs =
          has(stored.answers, name) || (!is_result(name) && (intermediates.empty() || has(intermediates, name)));
      check(belongs, "DIR", "{} is no result of this case, expected some of {}",
            harness::result_label(arguments_.folder, entry.name, name), results_among(stored.answers));
    }
  }

  void add(CaseReport result, const std::string& name) {
    if (result.status == CaseReport::Status::failed) {
      result.message = result.message.empty() ? name : name + ": " + result.message;
      failures_.add_row({name, result.tensor, result.text});
      if (!report_.failure) {
        report_.failure = harness::Failure{.first = result, .smallest = result, .seconds = seconds_since(start_)};
        smallest_ = smallest_now_;
      }
      if (smallest_now_ < smallest_) {
        report_.failure->smallest = result;
        smallest_ = smallest_now_;
      }
      ++report_.failure->failing_cases;
    }
    result.map.reset();  // only the failure that is shown needs one
    report_.cases.push_back(std::move(result));
  }

  void print_failures() const {
    if (!failures_.rows().empty()) {
      failures_.print(stdout);
      fmt::print("\n");
    }
  }

  const CheckCasesArguments& arguments_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  CaseSet set_;
  harness::Space space_ = harness::kda_space();
  harness::Reference reference_ = harness::kda_reference();
  std::vector<std::string> promised_;  // by --results; empty: what the index lists
  harness::Candidate candidate_;
  harness::CheckOptions options_;
  harness::Report report_;
  std::vector<NamedTensors> results_;
  Table failures_{{"failed", "tensor", "case"}};
  int64_t smallest_ = 0;  // elements of Failure::smallest
  int64_t smallest_now_ = 0;
};

}  // namespace

int check_cases(const CheckCasesArguments& arguments) {
  check_writable(arguments.files);
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  return FolderCheck(arguments).run();
}

}  // namespace deltatape::tools

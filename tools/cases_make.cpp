#include <fmt/format.h>

#include "harness/files/case_set.h"
#include "harness/files/new_folder.h"
#include "harness/files/stored_case.h"
#include "harness/kda/kda.h"
#include "harness/kda/kda_config.h"
#include "tools/case_space.h"
#include "tools/cases_command.h"
#include "tools/command.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"

namespace deltatape::tools {
namespace {

// The cases given by hand and, if that is wanted, those one step simpler, the boldest first.
std::vector<harness::Settings> given_cases(const MakeArguments& arguments, const harness::Space& space) {
  std::vector<harness::Settings> cases;
  for (const std::string& text : arguments.cases) {
    cases.push_back(naming("--case", [&] { return space.parse(text); }));
  }
  const size_t given = cases.size();
  for (size_t i = 0; arguments.simpler && i < given; ++i) {
    for (harness::Settings& settings : space.simpler(cases[i])) {
      if (static_cast<int64_t>(cases.size()) < arguments.count) {
        cases.push_back(std::move(settings));
      }
    }
  }
  return cases;
}

std::vector<harness::Settings> drawn_cases(const MakeArguments& arguments, const harness::Space& space) {
  std::vector<harness::Settings> cases;
  for (int64_t i = 0; i < arguments.count; ++i) {
    cases.push_back(space.draw(static_cast<uint64_t>(arguments.seed) + static_cast<uint64_t>(i)));
  }
  return cases;
}

}  // namespace

int make_cases(const MakeArguments& arguments) {
  harness::Space space = harness::kda_space();
  const std::string restriction = restrict_space(space, arguments.dtype, arguments.space);
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  const std::vector<harness::Settings> all =
      arguments.cases.empty() ? drawn_cases(arguments, space) : given_cases(arguments, space);
  const harness::Reference reference = harness::kda_reference();
  harness::CaseSet set;
  set.reference = reference.name;
  set.format = harness::parse_file_format("--format", arguments.format);
  if (arguments.cases.empty()) {
    set.space = restriction;
    set.seed = static_cast<uint64_t>(arguments.seed);
  }

  harness::NewFolder folder("--out", arguments.out);
  const StopSignals signals;
  Progress progress(0, static_cast<int64_t>(all.size()));
  for (const harness::Settings& settings : all) {
    if (signals.asked()) {
      progress.clear();
      fmt::print(stderr, "deltatape cases make: stopped after {} of {} cases; nothing is left of them\n",
                 set.cases.size(), all.size());
      return kFailed;
    }
    harness::CaseSet::Entry entry{.name = fmt::format("case_{:04}", set.cases.size()), .text = space.text(settings)};
    const harness::StoredCase stored = harness::answered(reference, space, settings, arguments.intermediates);
    for (const auto& answer : stored.answers) {
      entry.results.push_back(answer.first);
    }
    harness::write_case(harness::case_path(folder.temporary(), set.format, entry.name), set.format,
                        harness::kda_config(entry.name, entry.text, stored.inputs), stored);
    progress.update(static_cast<int64_t>(set.cases.size()) + 1, entry.text);
    set.cases.push_back(std::move(entry));
  }
  progress.clear();
  harness::write_index(folder.temporary(), set);
  folder.commit();
  const std::string origin = arguments.cases.empty() ? fmt::format(", from seed {}", arguments.seed) : "";
  fmt::print("{} cases in {}{}; {}/README.txt says where results go\n", set.cases.size(), arguments.out, origin,
             arguments.out);
  return kFine;
}

}  // namespace deltatape::tools

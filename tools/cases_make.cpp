#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "harness/files/case_set.h"
#include "harness/files/new_folder.h"
#include "harness/files/stored_case.h"
#include "harness/kda/kda.h"
#include "harness/kda/kda_config.h"
#include "tools/cases_command.h"
#include "tools/command.h"
#include "tools/progress.h"

namespace deltatape::tools {
namespace {

constexpr double kMostElements = 1e8;  // of all tensors of a case together

// A rough count, in floating point, where nothing overflows.
double count_elements(const harness::Settings& settings) {
  const auto size = [&](const char* name) { return static_cast<double>(settings.integer(name)); };
  const double heads = size("H") * size("group");
  const double states = size("B") + size("pieces");
  return heads * (size("K") + size("V") + size("chunk_size")) * size("B") * size("T") +
         heads * states * size("K") * size("V") + states;
}

// `f32,bf16` or `all` as a restriction of the axis.
std::string dtype_restriction(const std::string& list) {
  if (list == "all") {
    return "dtype=f64|f32|bf16|f16";
  }
  std::string values = list;
  std::replace(values.begin(), values.end(), ',', '|');
  return "dtype=" + values;
}

// An Error of `call` gets the option in front.
template <class Call>
auto naming(const char* option, Call&& call) {
  try {
    return call();
  } catch (const Error& error) {
    fail(option, "{}", error.what());
  }
}

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

harness::Space sized_kda_space() {
  harness::Space space = harness::kda_space();
  space.make([all = harness::kda_space()](const harness::Settings& settings) {
    const double elements = count_elements(settings);
    check(elements <= kMostElements, "case", "the tensors have about {:.0e} elements together, expected at most {:.0e}",
          elements, kMostElements);
    return all.make(settings);
  });
  return space;
}

int make_cases(const MakeArguments& arguments) {
  harness::Space space = sized_kda_space();
  const std::string dtypes = dtype_restriction(arguments.dtype);
  naming("--dtype", [&] { space.restrict(dtypes); });
  if (!arguments.space.empty()) {
    naming("--space", [&] { space.restrict(arguments.space); });
  }
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
    set.space = arguments.space.empty() ? dtypes : dtypes + "," + arguments.space;
    set.seed = static_cast<uint64_t>(arguments.seed);
  }

  harness::NewFolder folder("--out", arguments.out);
  Progress progress(0, static_cast<int64_t>(all.size()));
  for (const harness::Settings& settings : all) {
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
  fmt::print("{} cases in {}, from seed {}; {}/README.txt says where results go\n", set.cases.size(), arguments.out,
             arguments.seed, arguments.out);
  return kFine;
}

}  // namespace deltatape::tools

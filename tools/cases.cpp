// deltatape cases: writes input cases with float64 answers for other frameworks, and judges their results.
#include <memory>

#include "tools/cases_command.h"
#include "tools/command.h"

namespace deltatape::tools {
namespace {

void add_cases_make(CLI::App& cases, Action& action) {
  CLI::App& app = *cases.add_subcommand("make", "Write cases with float64 answers from the tape");
  auto arguments = std::make_shared<MakeArguments>();
  app.add_option("--out", arguments->out, "The folder, new or empty")->required()->type_name("DIR");
  CLI::Option* space =
      app.add_option("--space", arguments->space,
                     "Restrict axes: T=1..130,K=64|128,gate=standard (deltatape check --axes lists them)")
          ->type_name("AXES");
  app.add_option("--dtype", arguments->dtype, "f64, f32, bf16, f16 with commas, or all")
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--count", arguments->count, "How many cases")->check(integer_in(1, 10000))->capture_default_str();
  app.add_option("--seed", arguments->seed, "Of the first case; the next has the next one")
      ->check(integer_from(0))
      ->capture_default_str();
  CLI::Option* one = app.add_option("--case", arguments->cases, "This case, and no drawn ones: seed=7,T=3,..")
                         ->type_name("SETTINGS")
                         ->allow_extra_args(false)
                         ->excludes(space);
  app.add_flag("--simpler", arguments->simpler, "With --case: the simpler ones next to it, too (--count of all)")
      ->needs(one);
  app.add_option("--format", arguments->format, "npy: a folder per case; safetensors: a file per case")
      ->check(one_of({"npy", "safetensors"}))
      ->capture_default_str();
  app.add_flag("--intermediates", arguments->intermediates, "Write Aqk, Akk, w, u, h, .. of the chunk form, too");
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.footer(
      "Example:\n  deltatape cases make --space 'T=1..130,K=64|128' --count 50 --dtype bf16 --format safetensors --out "
      "cases");
  app.callback([&action, arguments] { action = [arguments] { return make_cases(*arguments); }; });
}

void add_cases_check(CLI::App& cases, Action& action) {
  CLI::App& app = *cases.add_subcommand("check", "Judge the results that were written beside the cases");
  auto arguments = std::make_shared<CheckCasesArguments>();
  app.add_option("DIR", arguments->folder, "What `deltatape cases make` wrote")->required()->type_name("PATH");
  app.add_option("--results", arguments->results,
                 "What must be there, with commas: o,ht; default: what cases.json lists")
      ->type_name("LIST");
  app.add_flag("--strict", arguments->strict, "Fail also what is only less accurate than the composed path");
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  add_report_options(app, arguments->files);
  app.footer(
      "A case without results counts as not supported. Exit codes: 0 passed, 1 a case failed, 2 wrong input.\n\n"
      "Example:\n  deltatape cases check cases --results o,ht --html report.html");
  app.callback([&action, arguments] { action = [arguments] { return check_cases(*arguments); }; });
}

}  // namespace

void add_cases(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("cases", "Check a kernel of another framework through files");
  app.require_subcommand(1);
  add_cases_make(app, action);
  add_cases_check(app, action);
  app.footer(
      "Example:\n  deltatape cases make --out cases\n  python3 examples/interop/check_numpy.py cases\n"
      "  deltatape cases check cases");
}

}  // namespace deltatape::tools

// The parts of the mutation score, without a known bug and with a program that only writes reports.
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/harness/known_bugs/check_run.h"
#include "tests/harness/known_bugs/score_table.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using namespace deltatape::known_bugs;
using test::TemporaryFolder;
using test::write_bytes;

namespace {

Score found(const std::string& tensor, bool at_once) {
  return {.bug = {.name = "bug_" + tensor, .about = "a | b", .form = "chunk", .tensors = {"dk", "dq"}},
          .flagged = true,
          .at_once = at_once,
          .seconds = 0.25,
          .tensor = tensor,
          .smallest = "T=3,K=1"};
}

/// Stands in for the product: ends with this code, after writing `report` to where --json says.
class FakeProgram {
 public:
  FakeProgram(const std::string& report, int code) {
    const char* const before = std::getenv("DELTATAPE_PROGRAM");
    before_ = before == nullptr ? "" : before;
    const std::string script = folder_ / "deltatape";
    write_bytes(folder_ / "report", report);
    write_bytes(script, "#!/bin/sh\necho \"$@\" > " + (folder_ / "arguments").string() +
                            "\nwhile [ $# -gt 1 ]; do [ \"$1\" = --json ] && cp " + (folder_ / "report").string() +
                            " \"$2\"; shift; done\necho 'no such axis' >&2\nexit " + std::to_string(code) + "\n");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    ::setenv("DELTATAPE_PROGRAM", script.c_str(), 1);
  }
  ~FakeProgram() { ::setenv("DELTATAPE_PROGRAM", before_.c_str(), 1); }
  FakeProgram(const FakeProgram&) = delete;
  FakeProgram& operator=(const FakeProgram&) = delete;
  [[nodiscard]] std::string arguments() const { return test::read_bytes(folder_ / "arguments"); }

 private:
  TemporaryFolder folder_;
  std::string before_;
};

}  // namespace

TEST_SUITE("known_bugs") {
  TEST_CASE("read_known_bugs: every edit of the project says what it is") {
    const std::filesystem::path folder = std::filesystem::path(DELTATAPE_SOURCE_DIR) / "tests/harness/known_bugs";
    const std::vector<KnownBug> bugs = read_known_bugs(folder);
    CHECK(bugs.size() >= 25);
    for (const KnownBug& bug : bugs) {
      CAPTURE(bug.name);
      CHECK((bug.form == "chunk" || bug.form == "recurrent"));
      CHECK(bug.about.size() < 110);
      for (const std::string& name : bug.tensors) {
        CAPTURE(name);
        CHECK(first_in_order({name}) == name);
      }
    }
  }

  TEST_CASE("read_known_bugs: an edit that lacks a line is named") {
    const TemporaryFolder folder;
    CHECK_THROWS_WITH(read_known_bugs(folder.path()), (folder.path().string() + " has no .edit file").c_str());
    write_bytes(folder / "x.edit", "about: x\nform: recurrent\nstates: kept\ntensors: o ht\n--- before a\nabout: y\n");
    const std::vector<KnownBug> bugs = read_known_bugs(folder.path());
    REQUIRE(bugs.size() == 1);
    CHECK(bugs[0].name == "x");
    CHECK(bugs[0].about == "x");
    CHECK(bugs[0].tensors == std::vector<std::string>{"o", "ht"});
    CHECK(bugs[0].correct_plugin() == "kda_plugin_recurrent_kept");
    write_bytes(folder / "x.edit", "about: x\nform: chunk\n--- before a\ntensors: o\n");
    CHECK_THROWS_WITH(
        read_known_bugs(folder.path()),
        ((folder / "x.edit").string() + " lacks one of the lines 'about:', 'form:' and 'tensors:'").c_str());
  }

  TEST_CASE("selected: one known bug by its name, all for no name") {
    const std::vector<KnownBug> bugs = {{.name = "a"}, {.name = "b"}};
    CHECK(selected(bugs, "").size() == 2);
    REQUIRE(selected(bugs, "b").size() == 1);
    CHECK(selected(bugs, "b")[0].name == "b");
    CHECK_THROWS_WITH(selected(bugs, "nonsense"), "there is no known bug 'nonsense'");
  }

  TEST_CASE("first_in_order: outputs before gradients, dh0 before the other gradients") {
    CHECK(first_in_order({}).empty());
    CHECK(first_in_order({"ddt_bias", "dA_log"}) == "dA_log");
    CHECK(first_in_order({"dv", "dh0", "dq"}) == "dh0");
    CHECK(first_in_order({"dh0", "ht", "o"}) == "o");
  }

  TEST_CASE("quick_problems: no verdict, not found, no row, no edit") {
    const std::map<std::string, bool> table = {{"bug_dk", true}, {"bug_dq", false}};
    const auto scores = [] { return std::vector<Score>{found("dk", true), found("dq", false)}; };
    CHECK(quick_problems(scores(), table).empty());

    auto not_found = scores();
    not_found[1].flagged = false;  // 2 s do not suffice for it
    CHECK(quick_problems(not_found, table).empty());
    not_found[0].flagged = false;
    CHECK(quick_problems(not_found, table) ==
          std::vector<std::string>{"bug_dk: not found, though the table says that 2 s suffice"});

    auto no_verdict = scores();  // fails whatever the table says
    no_verdict[1] = {.bug = no_verdict[1].bug, .no_verdict = true, .message = "exit code 2: there is no bug.so"};
    CHECK(quick_problems(no_verdict, table) ==
          std::vector<std::string>{"bug_dq: no verdict (exit code 2: there is no bug.so)"});

    auto more = scores();
    more.push_back(found("dv", true));
    CHECK(quick_problems(more, table) == std::vector<std::string>{"bug_dv: there is an edit and no row in the table"});
    CHECK(quick_problems({found("dk", true)}, table) ==
          std::vector<std::string>{"bug_dq: there is a row in the table and no edit"});
  }

  TEST_CASE("total: nine of ten right tensors, all flagged, no false alarm") {
    std::vector<Score> scores(9, found("dk", true));
    scores.push_back(found("dv", false));
    CHECK(total_of(scores, 0).line() == "known bugs: 10 of 10 flagged, 9 right tensor, 0 false alarms");
    CHECK(total_of(scores, 0).good());
    CHECK_FALSE(total_of(scores, 1).good());
    scores[0].tensor = "";
    CHECK_FALSE(total_of(scores, 0).good());
    scores[0] = found("dk", true);
    scores[9].flagged = false;
    CHECK(total_of(scores, 0).line() == "known bugs: 9 of 10 flagged, 9 right tensor, 0 false alarms");
    CHECK_FALSE(total_of(scores, 0).good());
  }

  TEST_CASE("table: what is written is read back, and the rest of the file stays") {
    const TemporaryFolder folder;
    const std::filesystem::path file = folder / "harness.md";
    const std::string marked = "# Before\n<!-- mutation-score -->\nold\n<!-- /mutation-score -->\nbehind\n";
    write_bytes(file, marked);
    CHECK_NOTHROW(check_markers(file));
    CHECK_THROWS_WITH(read_table(file), (file.string() + " has no row of a known bug between the markers").c_str());
    const std::vector<Score> scores = {found("dk", true), found("dv", false), found("dq", true)};
    write_between_markers(file, to_markdown(scores, "2 plugins", total_of(scores, 0)));
    const std::string text = test::read_bytes(file);
    CHECK(text.starts_with("# Before\n<!-- mutation-score -->\n| bug |"));
    CHECK(
        text.ends_with("\n`known bugs: 3 of 3 flagged, 2 right tensor, 0 false alarms`\n"
                       "<!-- /mutation-score -->\nbehind\n"));
    CHECK(test::contains(text, "| `bug_dv` | a \\| b | 0.25 s | no | dv (wrong) | dk dq | `T=3,K=1` |\n"));
    CHECK(read_table(file) == std::map<std::string, bool>{{"bug_dk", true}, {"bug_dq", true}, {"bug_dv", false}});

    write_bytes(file, "no markers\n");
    const std::string lacks =
        file.string() + " lacks the lines '<!-- mutation-score -->' and '<!-- /mutation-score -->'";
    CHECK_THROWS_WITH(check_markers(file), lacks.c_str());
    CHECK_THROWS_WITH(write_between_markers(file, "x"), lacks.c_str());
    CHECK(test::read_bytes(file) == "no markers\n");
  }

  TEST_CASE("run_check: reads the report of the product's command") {
    const CheckRequest request{.plugin = "bug.so", .budget = 2.0, .seed = 7};
    {
      const FakeProgram program(R"({"verdict": "failed", "cases": 4, "failure": {"tensor": "dk", "smallest": "T=3",
                                    "seconds": 0.5, "message": null}})",
                                1);
      const CheckAnswer answer = run_check(request);
      CAPTURE(answer.message);
      CHECK(answer.verdict == CheckAnswer::Verdict::failed);
      CHECK(answer.tensor == "dk");
      CHECK(answer.smallest == "T=3");
      CHECK(answer.seconds == 0.5);
      CHECK(answer.cases == 4);
      CHECK(program.arguments().starts_with(
          "check --plugin bug.so --budget 2s --dtype f32,f64 --seed 7 --threads 2 --json /"));
      CHECK(program.arguments().ends_with(" --stop --no-shrink\n"));
    }
    {
      const FakeProgram program(R"({"verdict": "passed", "cases": 9, "failure": null})", 0);
      CHECK(run_check(request).verdict == CheckAnswer::Verdict::passed);
    }
  }

  TEST_CASE("run_check: what is no verdict is an error") {
    const auto message_of = [](const std::string& report, int code) {
      const FakeProgram program(report, code);
      const CheckAnswer answer = run_check({.plugin = "bug.so"});
      CHECK(answer.verdict == CheckAnswer::Verdict::error);
      return answer.message;
    };
    CHECK(message_of("", 2) == "exit code 2: no such axis");
    CHECK(message_of(R"({"verdict": "passed", "cases": 9, "failure": null})", 1) == "exit code 1: no such axis");
    CHECK(message_of(R"({"verdict": "failed", "cases": 9, "failure": null, "summary": "witnesses disagree"})", 1) ==
          "witnesses disagree");
    CHECK(test::contains(message_of("{\"verdict\"", 1), "the report cannot be read: "));
    CHECK(test::contains(message_of("{}", 0), "the report cannot be read: "));
  }
}

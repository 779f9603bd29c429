#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

namespace deltatape {
namespace {

using test::contains;
using test::run_program;
using test::TemporaryFolder;

/// One line on stderr that has all the parts, nothing on stdout.
void check_wrong(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) {
  std::vector<std::string> words = {"check"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const auto result = run_program(words);
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(result.error_lines() == 1);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(contains(result.err, part));
  }
}

TEST_SUITE("check command") {
  TEST_CASE("check: one of our kernels passes, and all reports are written") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto result = run_program({"check", "--impl", "fused-chunk", "--cases", "6", "--seed", "3", "--space",
                                     "T=1..40,K=1..9", "--json", (folder / "report.json").string(), "--html",
                                     (folder / "report.html").string(), "--junit", (folder / "report.xml").string()});
    CAPTURE(result.out);
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    const auto report = nlohmann::json::parse(test::read_bytes(folder / "report.json"));
    CHECK(report["verdict"] == "passed");
    CHECK(report["cases"] == 6);
    CHECK(report["seed"] == 3);
    CHECK(report["failure"].is_null());
    CHECK(!report["witnesses"].empty());
    CHECK(contains(test::read_bytes(folder / "report.html"), "</html>"));
    CHECK(contains(test::read_bytes(folder / "report.xml"), "<testsuite"));
    const std::string summary = report["summary"].get<std::string>() + "\n";
    REQUIRE(result.out.size() > summary.size());
    CHECK(result.out.substr(result.out.size() - summary.size()) == summary);
  }

  TEST_CASE("check: one case by its text") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto result = run_program({"check", "--impl", "chunk", "--case", "seed=4,T=5,K=3,h0=yes,ht=yes,loss=both",
                                     "--json", (folder / "report.json").string()});
    CHECK(result.exit_code == 0);
    const auto report = nlohmann::json::parse(test::read_bytes(folder / "report.json"));
    CHECK(report["cases"] == 1);
    CHECK(report["rows"][0]["case"] == "seed=4,T=5,K=3,h0=yes,ht=yes,loss=both");
    CHECK(report["rows"].size() == 8);  // o ht dq dk dv dg dbeta dh0
  }

  TEST_CASE("check: the axes are listed") {
    if (test::program_path().empty()) {
      return;
    }
    const auto result = run_program({"check", "--axes"});
    CHECK(result.exit_code == 0);
    for (const char* axis : {"dtype", "packing", "lower_bound", "norms"}) {
      CHECK(contains(result.out, axis));
    }
  }

  TEST_CASE("check: wrong options are one line and exit code 2") {
    if (test::program_path().empty()) {
      return;
    }
    check_wrong({}, {"expected one of --plugin and --impl"});
    check_wrong({"--impl", "chunk", "--plugin", "x.so"}, {"expected one of --plugin and --impl"});
    check_wrong({"--impl", "magic"}, {"--impl", "'magic'", "fused-chunk"});
    check_wrong({"--impl", "chunk", "--budget", "soon"}, {"--budget", "'soon'", "60s, 2m or 500ms"});
    check_wrong({"--impl", "chunk", "--budget", "0s"}, {"--budget", "'0s'"});
    check_wrong({"--impl", "chunk", "--dtype", "f8"}, {"dtype", "'f8'", "bf16"});
    check_wrong({"--impl", "chunk", "--space", "W=3"}, {"'W' is no axis", "chunk_size"});
    check_wrong({"--impl", "chunk", "--case", "T=many"}, {"T is 'many'", "an integer"});
    check_wrong({"--impl", "chunk", "--case", "T=-5"}, {"T is -5", "expected"});
    check_wrong({"--impl", "chunk", "--case", "K=0"}, {"K is 0", "expected"});
    check_wrong({"--impl", "chunk", "--json", "/no/such/folder/x.json"}, {"--json", "/no/such/folder/x.json"});
    check_wrong({"--plugin", "no-such-library.so"}, {"no-such-library.so"});
  }
}

}  // namespace
}  // namespace deltatape

// The command line itself: help, options, exit codes. Every case runs the program.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;

namespace {

// Wrong input: exit code 2 and one line on stderr with these words; nothing on stdout.
void check_wrong_input(const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
  const auto result = run_program(arguments);
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.error_lines() == 1);
  CHECK(result.out.empty());
  for (const std::string& word : words) {
    CHECK_MESSAGE(contains(result.err, word), "expected: " << word);
  }
}

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("help on every level, with an example") {
    if (test::program_path().empty()) {
      return;
    }
    const auto top = run_program({"--help"});
    CHECK(top.exit_code == 0);
    CHECK(contains(top.out, "Example:"));
    for (const char* command : {"train", "generate", "kda", "layer", "gradcheck", "check", "bench", "model", "info"}) {
      CHECK(contains(top.out, command));
      const auto help = run_program({command, "--help"});
      CHECK(help.exit_code == 0);
      CHECK(contains(help.out, std::string("Example:\n  deltatape ") + command));
      CHECK(help.err.empty());
    }
    CHECK(run_program({"--version"}).exit_code == 0);
  }

  TEST_CASE("wrong subcommands and options are told in one line, with exit code 2") {
    if (test::program_path().empty()) {
      return;
    }
    check_wrong_input({}, {"no subcommand", "train"});
    check_wrong_input({"tarin"}, {"'tarin' is not a subcommand", "train"});
    check_wrong_input({"info", "--verbose"}, {"--verbose"});
    check_wrong_input({"generate", "--model", "x"}, {"--prompt"});
    check_wrong_input({"generate", "--model", "no-such-folder", "--prompt", "x"}, {"no-such-folder", "expected"});
    check_wrong_input({"train"}, {"--text", "--task"});
    check_wrong_input({"train", "--text", "no-such-file"}, {"no-such-file does not exist"});
    check_wrong_input({"train", "--task", "sudoku"}, {"--task", "'sudoku'", "palindrome"});
    check_wrong_input({"train", "--task", "mqar", "--steps", "0"}, {"--steps", "'0'", "integer of 1 or more"});
    check_wrong_input({"train", "--task", "mqar", "--lr", "fast"}, {"--lr", "'fast'", "number"});
    check_wrong_input({"train", "--task", "mqar", "--impl", "magic"},
                      {"--impl", "'magic'", "composed", "auto", "fused"});
    check_wrong_input({"model", "no-such-case", "--impl", "magic"}, {"--impl", "'magic'", "composed"});
    check_wrong_input({"train", "--task", "mqar", "--schedule", "cosine", "--warmup-steps", "10", "--steps", "3"},
                      {"--warmup-steps is 10, expected at most --steps = 3"});
    check_wrong_input({"train", "--task", "mqar", "--threads", "1025"}, {"--threads", "from 0 to 1024"});
    check_wrong_input({"generate", "--model", "x", "--prompt", "x", "--top-p", "0"}, {"--top-p", "above 0"});
    check_wrong_input({"train", "--task", "mqar", "--device", "abacus"}, {"--device", "abacus"});
    check_wrong_input({"train", "--task", "mqar", "--resume"}, {"--resume", "--out"});
    check_wrong_input({"train", "--task", "mqar", "--quick"}, {"--quick", "--demo"});
    check_wrong_input({"gradcheck", "--shape", "1,2,3"}, {"--shape", "'1,2,3'", "B,T,H,HV,K,V"});
    check_wrong_input({"gradcheck", "--shape", "1,2,2,3,4,4"}, {"--shape", "HV is 3", "multiple of H"});
    check_wrong_input({"gradcheck", "--shape", "2,2,1,1,4,4", "--varlen"}, {"--shape", "B is 2", "expected 1"});
    check_wrong_input({"gradcheck", "--impl", "magic"}, {"--impl", "'magic'", "recurrent"});
    check_wrong_input({"gradcheck", "--impl", "chunk,fused"}, {"--impl", "'fused'", "fused-chunk"});
    check_wrong_input({"kda"}, {"CASE"});
    check_wrong_input({"kda", "no-such-case"}, {"no-such-case", "expected"});
    check_wrong_input({"layer", "no-such-case"}, {"no-such-case", "expected"});
    check_wrong_input({"model", "no-such-case"}, {"no-such-case", "expected"});
    check_wrong_input({"info", "--json", "/no/such/folder/info.json"}, {"--json", "/no/such/folder/info.json"});
  }

  TEST_CASE("info: the printed table and its JSON have the same entries") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto result = run_program({"info", "--json", (folder / "info.json").string()});
    CHECK(result.exit_code == 0);
    const auto info = nlohmann::json::parse(test::read_bytes(folder / "info.json"));
    for (const char* key : {"version", "compiler", "blas", "instruction_set", "chosen", "vector_bits", "threads",
                            "processors", "cuda", "devices"}) {
      CHECK(info.contains(key));
      CHECK(contains(result.out, key));
    }
    CHECK(info["devices"][0] == "cpu");
    CHECK(test::count_entries(folder.path()) == 1);
  }

  TEST_CASE("gradcheck: a few cases pass, and the last line counts them") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto result = run_program({"gradcheck", "--seeds", "2", "--shape", "1,5,1,2,3,4", "--report",
                                     (folder / "report.html").string(), "--json", (folder / "rows.json").string()});
    CAPTURE(result.out);
    CHECK(result.exit_code == 0);
    const auto rows = nlohmann::json::parse(test::read_bytes(folder / "rows.json"));
    const std::string last = std::to_string(rows.size()) + " comparisons passed, 0 failed\n";
    REQUIRE(result.out.size() > last.size());
    CHECK(result.out.substr(result.out.size() - last.size()) == last);
    const std::string report = test::read_bytes(folder / "report.html");
    CHECK(contains(report, "comparisons passed, 0 failed"));
    CHECK_FALSE(contains(report, "http"));  // self-contained
  }

  TEST_CASE("gradcheck: every dtype against the recurrence, packed sequences") {
    if (test::program_path().empty()) {
      return;
    }
    for (const char* dtype : {"f32", "bf16", "f16"}) {
      const auto result = run_program({"gradcheck", "--seeds", "2", "--dtype", dtype, "--varlen"});
      CAPTURE(result.out);
      CHECK(result.exit_code == 0);
    }
  }
}

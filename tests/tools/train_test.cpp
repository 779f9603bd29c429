// Training runs of the program: the files it writes, resuming, stopping. Every case runs the program.
#include <doctest/doctest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX kill is not in <csignal>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "io/checkpoint.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

constexpr const char* kSmallModel = R"({"model_type":"kda","hidden_size":16,"num_heads":2,"head_dim":8,
  "num_hidden_layers":1,"intermediate_size":32,"vocab_size":256})";

// A folder with a text, a model's config and nothing else.
struct Workplace {
  Workplace() {
    std::string text;
    for (int i = 0; i < 200; ++i) {
      text += "line " + std::to_string(i * 7919 % 1000) + " of a text to learn from\n";
    }
    test::write_bytes(folder / "text", text);
    test::write_bytes(folder / "small.json", kSmallModel);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder / name).string(); }
  [[nodiscard]] std::vector<std::string> train(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"train", "--text",       path("text"), "--config", path("small.json"),
                                          "--out", path(out),      "--seq-len",  "20",       "--batch",
                                          "2",     "--eval-every", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  TemporaryFolder folder;
};

std::vector<nlohmann::json> metrics(const fs::path& folder) {
  std::vector<nlohmann::json> lines;
  const std::string text = test::read_bytes(folder / "metrics.jsonl");
  size_t start = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
    lines.push_back(nlohmann::json::parse(text.substr(start, end - start)));
    lines.back().erase("tokens_per_s");
    start = end + 1;
  }
  return lines;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("train: writes every file of the contract, and generate reads them") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto result = run_program(place.train("run", {"--steps", "3", "--check-gradients", "2"}));
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "validation loss"));
    auto names = names_in(place.path("run"));
    names.erase("loss.png");  // needs gnuplot
    CHECK(names == std::set<std::string>{"config.json", "train.json", "model.safetensors", "checkpoint.safetensors",
                                         "metrics.jsonl", "metrics.csv"});
    const auto lines = metrics(place.path("run"));
    REQUIRE(lines.size() == 3);
    for (size_t i = 0; i < lines.size(); ++i) {
      CHECK(lines[i]["step"] == i + 1);
      CHECK(std::isfinite(lines[i]["loss"].get<double>()));
      CHECK(lines[i]["grad_norm"].get<double>() > 0.0);
      CHECK(lines[i].contains("lr"));
      CHECK(lines[i].contains("val_loss") == (i > 0));
    }
    const auto options = nlohmann::json::parse(test::read_bytes(place.path("run") + "/train.json"));
    CHECK(options["steps"] == 3);
    CHECK(options["seq_len"] == 20);

    const auto text = run_program({"generate", "--model", place.path("run"), "--prompt", "line ", "--max-tokens", "9",
                                   "--seed", "4", "--top-k", "5", "--json", place.path("tokens.json")});
    CAPTURE(text.err);
    CHECK(text.exit_code == 0);
    CHECK(text.out.size() == 5 + 9 + 1);
    CHECK(text.out.substr(0, 5) == "line ");
    CHECK(nlohmann::json::parse(test::read_bytes(place.path("tokens.json")))["tokens"].size() == 14);
    const auto again = run_program({"generate", "--model", place.path("run"), "--prompt", "line ", "--max-tokens", "9",
                                    "--seed", "4", "--top-k", "5"});
    CHECK(again.out == text.out);
  }

  TEST_CASE("train: half a run and the other half resumed are one run, to the bit") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    REQUIRE(run_program(place.train("whole", {"--steps", "6"})).exit_code == 0);
    REQUIRE(run_program(place.train("halves", {"--steps", "3"})).exit_code == 0);
    const auto resumed = run_program({"train", "--out", place.path("halves"), "--resume", "--steps", "6"});
    CAPTURE(resumed.err);
    REQUIRE(resumed.exit_code == 0);
    for (const char* file : {"model.safetensors", "checkpoint.safetensors"}) {
      CHECK(test::read_bytes(fs::path(place.path("whole")) / file) ==
            test::read_bytes(fs::path(place.path("halves")) / file));
    }
    const auto whole = metrics(place.path("whole"));
    const auto halves = metrics(place.path("halves"));
    REQUIRE(whole.size() == 6);
    REQUIRE(halves.size() == 6);
    for (size_t i = 0; i < 6; ++i) {
      CHECK(whole[i]["loss"] == halves[i]["loss"]);
      CHECK(whole[i]["grad_norm"] == halves[i]["grad_norm"]);
    }
  }

  TEST_CASE("train: --impl composed and fused give the same losses up to rounding, auto those of fused") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    for (const std::string impl : {"composed", "fused", "auto"}) {
      const auto result = run_program(place.train(impl, {"--steps", "3", "--impl", impl, "--check-gradients", "3"}));
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
    }
    const auto composed = metrics(place.path("composed"));
    const auto fused = metrics(place.path("fused"));
    const auto automatic = metrics(place.path("auto"));
    REQUIRE(composed.size() == 3);
    REQUIRE(fused.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      for (const char* key : {"loss", "grad_norm"}) {
        const double expected = composed[i][key].get<double>();
        CHECK(std::fabs(fused[i][key].get<double>() - expected) <= 1e-3 * expected);
      }
    }
    CHECK(automatic == fused);
  }

  TEST_CASE("train: a run cannot be resumed with another text, model or seed") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    REQUIRE(run_program(place.train("run", {"--steps", "2"})).exit_code == 0);
    const std::string before = test::read_bytes(place.path("run") + "/checkpoint.safetensors");
    const auto resume = [&](std::vector<std::string> more) {
      std::vector<std::string> arguments = {"train", "--out", place.path("run"), "--resume", "--steps", "4"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return run_program(arguments);
    };
    CHECK(resume({"--seed", "5"}).exit_code == 2);
    CHECK(resume({"--config", place.path("small.json")}).exit_code == 2);
    test::write_bytes(place.path("text"), std::string(500, 'x'));
    const auto task = resume({"--task", "stack"});
    CHECK(task.exit_code == 2);
    CHECK(contains(task.err, "--task is stack, the run was begun with --text"));
    const auto other_text = resume({});
    CHECK(other_text.exit_code == 2);
    CHECK(contains(other_text.err, "other data"));
    CHECK(test::read_bytes(place.path("run") + "/checkpoint.safetensors") == before);
  }

  TEST_CASE("train: resuming with an edited train.json or metrics.jsonl changes nothing") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    REQUIRE(run_program(place.train("run", {"--steps", "2"})).exit_code == 0);
    const std::string path = place.path("run") + "/train.json";
    const std::string options = test::read_bytes(path);
    const auto check_refused = [&](const std::string& words) {
      const auto result = run_program({"train", "--out", place.path("run"), "--resume", "--steps", "4"});
      CAPTURE(result.err);
      CHECK(result.exit_code == 2);
      CHECK(contains(result.err, words));
    };
    for (const auto& [key, value, words] :
         {std::tuple("batch", nlohmann::json(0), "train.json: 'batch' is 0, expected an integer of 1 or more"),
          std::tuple("seq_len", nlohmann::json(2.5), "train.json: 'seq_len' is 2.5, expected an integer"),
          std::tuple("schedule", nlohmann::json("linear"), "train.json: 'schedule' is 'linear', expected constant")}) {
      auto changed = nlohmann::json::parse(options);
      changed[key] = value;
      test::write_bytes(path, changed.dump());
      check_refused(words);
    }
    test::write_bytes(path, options);
    test::write_bytes(place.path("run") + "/metrics.jsonl", "[1]\n");
    check_refused("no record of a step");
    CHECK(test::read_bytes(path) == options);
  }

  TEST_CASE("train: a new run in a folder removes its own temporary files only, and keeps the model until it saves") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const fs::path run = place.path("run");
    fs::create_directory(run);
    test::write_bytes(run / "model.safetensors", "old");
    test::write_bytes(run / "model.safetensors.12.partial", "");
    test::write_bytes(run / "thesis.partial", "mine");
    const auto result = run_program(place.train("run", {"--steps", "20", "--lr", "1e30", "--warmup-steps", "0"}));
    CHECK(result.exit_code == 1);
    CHECK(test::read_bytes(run / "model.safetensors") == "old");
    CHECK_FALSE(fs::exists(run / "model.safetensors.12.partial"));
    CHECK(test::read_bytes(run / "thesis.partial") == "mine");
  }

  TEST_CASE("train: wrong input leaves no folder behind") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    test::write_bytes(place.path("bad.json"), R"({"hidden_size":"wide"})");
    test::write_bytes(place.path("tiny.json"), R"({"hidden_size":16,"num_heads":1,"head_dim":8,"vocab_size":7})");
    const auto check_refused = [&](const std::vector<std::string>& more, const std::string& word) {
      std::vector<std::string> arguments = {"train", "--text", place.path("text"), "--out", place.path("out")};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const auto result = run_program(arguments);
      CAPTURE(result.err);
      CHECK(result.exit_code == 2);
      CHECK(result.error_lines() == 1);
      CHECK(contains(result.err, word));
      CHECK_FALSE(fs::exists(place.path("out")));
    };
    check_refused({"--config", place.path("bad.json")}, "hidden_size");
    check_refused({"--config", place.path("tiny.json")}, "vocab_size is 7");
    check_refused({"--config", place.path("none.json")}, "none.json");
    check_refused({"--seq-len", "100000"}, "expected at least 1000010");
    check_refused({"--resume"}, "checkpoint.safetensors does not exist");
  }

  TEST_CASE("train: a loss that is not finite ends the run with exit code 1") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto result = run_program(place.train("run", {"--steps", "20", "--lr", "1e30", "--warmup-steps", "0"}));
    CAPTURE(result.err);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.err, "expected finite numbers"));
    CHECK_FALSE(fs::exists(place.path("run") + "/model.safetensors"));
  }

  TEST_CASE("train: SIGTERM saves, and the resumed run ends where an unbroken one does") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const TemporaryFolder streams;
    const pid_t child = test::start_program(place.train("run", {"--steps", "100000"}), streams.path());
    for (int i = 0; i < 3000 && metrics(place.path("run")).size() < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ::kill(child, SIGTERM);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    for (const std::string& name : names_in(place.path("run"))) {
      CHECK_FALSE(contains(name, "partial"));
    }
    const auto state = io::load_checkpoint(place.path("run") + "/checkpoint.safetensors");
    CHECK(state.step == static_cast<int64_t>(metrics(place.path("run")).size()));

    const std::string more = std::to_string(state.step + 2);
    REQUIRE(run_program({"train", "--out", place.path("run"), "--resume", "--steps", more}).exit_code == 0);
    REQUIRE(run_program(place.train("whole", {"--steps", more})).exit_code == 0);
    CHECK(test::read_bytes(place.path("run") + "/model.safetensors") ==
          test::read_bytes(place.path("whole") + "/model.safetensors"));
  }

  TEST_CASE("train: the synthetic tasks run and report right answers") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    for (const char* task : {"palindrome", "mqar", "stack"}) {
      const auto result = run_program({"train", "--task", task, "--config", place.path("small.json"), "--steps", "2",
                                       "--seq-len", "16", "--batch", "2"});
      CAPTURE(result.err);
      CHECK(result.exit_code == 0);
      CHECK(contains(result.out, "right answers"));
    }
  }
}

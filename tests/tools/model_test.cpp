// `deltatape model` on the golden cases, where they are at hand. Every case runs the program.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

// Empty when there is no program or no golden data.
fs::path gold() {
  const char* source = std::getenv("DELTATAPE_SOURCE_DIR");
  const fs::path folder = fs::path(source != nullptr ? source : ".") / "../shared/gold";
  return !test::program_path().empty() && fs::exists(folder) ? folder : fs::path();
}

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("model: golden cases, composed and fused [slow]") {
    if (gold().empty()) {
      return;
    }
    using Words = std::vector<std::string>;
    for (const Words& words : {Words{"f64", "composed"}, Words{"f32", "composed"}, Words{"f64", "fused"}}) {
      const TemporaryFolder folder;
      const auto result =
          run_program({"model", (gold() / "model_gva_tied").string(), (gold() / "model_packed/").string(), "--dtype",
                       words[0], "--impl", words[1], "--check", "--out", (folder / "out").string(), "--json",
                       (folder / "rows.json").string()});
      CAPTURE(result.out);
      CAPTURE(result.err);
      CHECK(result.exit_code == 0);
      const auto rows = nlohmann::json::parse(test::read_bytes(folder / "rows.json"));
      CHECK(rows.size() > 60);
      for (const char* name : {"logits.npy", "loss.npy", "grads.safetensors", "train_losses.npy",
                               "train_grad_norms.npy", "final.safetensors", "greedy_ids.npy"}) {
        CHECK(fs::exists(folder / "out" / "model_packed" / name));
      }
    }
  }

  TEST_CASE("model: --check finds a changed number and a missing file [slow]") {
    if (gold().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const fs::path copy = folder / "case";
    fs::copy(gold() / "model_packed", copy);
    for (const auto& entry : fs::directory_iterator(copy)) {
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    }
    fs::permissions(copy, fs::perms::owner_write, fs::perm_options::add);
    std::string losses = test::read_bytes(copy / "train_losses.npy");
    losses[losses.size() - 3] = static_cast<char>(losses[losses.size() - 3] ^ 1);
    test::write_bytes(copy / "train_losses.npy", losses);
    fs::remove(copy / "logits.npy");
    const auto result = run_program({"model", copy.string(), "--dtype", "f64", "--check"});
    CAPTURE(result.out);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "FAILED (no reference)"));
    size_t failed = 0;
    for (size_t at = result.out.find("FAILED"); at != std::string::npos; at = result.out.find("FAILED", at + 1)) {
      ++failed;
    }
    CHECK(failed == 2);
  }

  TEST_CASE("model: a case that is not one is wrong input") {
    if (gold().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto result =
        run_program({"model", (gold() / "tiny_t1").string(), "--check", "--out", (folder / "out").string()});
    CHECK(result.exit_code == 2);
    CHECK(contains(result.err, "'kind' is 'operator', expected 'model'"));
    CHECK_FALSE(fs::exists(folder / "out"));
  }

  TEST_CASE("model: a wrong type in config.json and a broken reference are told before anything is written") {
    if (gold().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const fs::path copy = folder / "case";
    fs::create_directory(copy);
    for (const auto& entry : fs::directory_iterator(gold() / "model_packed")) {
      test::write_bytes(copy / entry.path().filename(), test::read_bytes(entry.path()));
    }
    const auto check_refused = [&](const std::string& words) {
      const auto result = run_program({"model", copy.string(), "--check", "--out", (folder / "out").string()});
      CAPTURE(result.err);
      CHECK(result.exit_code == 2);
      CHECK(result.error_lines() == 1);
      CHECK(contains(result.err, words));
      CHECK_FALSE(fs::exists(folder / "out"));
    };
    const std::string config = test::read_bytes(copy / "config.json");
    auto changed = nlohmann::json::parse(config);
    changed["varlen"] = "yes";
    test::write_bytes(copy / "config.json", changed.dump());
    check_refused("config.json: 'varlen' is \"yes\", expected true or false");
    test::write_bytes(copy / "config.json", config);
    test::write_bytes(copy / "loss.npy", "broken");
    check_refused("loss.npy");
  }
}

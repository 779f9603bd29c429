// The program with `--device cuda`, on the host twin.
#ifdef DELTATAPE_TWIN_PROGRAM
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

namespace deltatape::test {
namespace {

constexpr const char* kSmallModel = R"({"model_type":"kda","hidden_size":8,"num_heads":1,"head_dim":8,
  "num_hidden_layers":1,"intermediate_size":8,"vocab_size":256})";

struct Workplace {
  Workplace() {
    setenv("DELTATAPE_PROGRAM", DELTATAPE_TWIN_PROGRAM, 1);
    std::string text;
    for (int i = 0; i < 40; ++i) {
      text += "line " + std::to_string(i * 7919 % 1000) + " of a text to learn from\n";
    }
    write_bytes(folder / "text", text);
    write_bytes(folder / "small.json", kSmallModel);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder / name).string(); }
  // The losses and gradient norms of a run.
  std::vector<double> train(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {
        "train",     "--text", path("text"), "--config", path("small.json"), "--out", path(out), "--steps", "3",
        "--seq-len", "12",     "--batch",    "2",        "--eval-every",     "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    run(arguments);
    return numbers_of(out);
  }
  // The same when half a run is made and then the rest.
  std::vector<double> train_in_parts(const std::string& out, const std::vector<std::string>& more) const {
    train(out, more);
    run({"train", "--out", path(out), "--resume", "--steps", "6"});
    return numbers_of(out);
  }
  static void run(const std::vector<std::string>& arguments) {
    const ProgramResult result = run_program(arguments);
    CAPTURE(result.err);
    REQUIRE(result.exit_code == 0);
  }
  std::vector<double> numbers_of(const std::string& out) const {
    std::vector<double> numbers;
    const std::string lines = read_bytes(folder / out / "metrics.jsonl");
    size_t start = 0;
    for (size_t end = lines.find('\n'); end != std::string::npos; end = lines.find('\n', start)) {
      const auto line = nlohmann::json::parse(lines.substr(start, end - start));
      for (const char* key : {"loss", "grad_norm", "val_loss"}) {
        if (line.contains(key)) {
          numbers.push_back(line.at(key));
        }
      }
      start = end + 1;
    }
    return numbers;
  }
  TemporaryFolder folder;
};

TEST_SUITE("program") {
  TEST_CASE("train --device cuda follows the CPU; with --cuda-graph it gives the same numbers") {
    const Workplace place;
    for (const std::string impl : {"composed", "fused"}) {
      CAPTURE(impl);
      const std::vector<double> cpu = place.train("cpu-" + impl, {"--impl", impl});
      const std::vector<double> cuda = place.train("cuda-" + impl, {"--impl", impl, "--device", "cuda"});
      const std::vector<double> graph =
          place.train("graph-" + impl, {"--impl", impl, "--device", "cuda", "--cuda-graph"});
      REQUIRE(cpu.size() == cuda.size());
      for (size_t i = 0; i < cpu.size(); ++i) {
        CHECK(cuda[i] == doctest::Approx(cpu[i]).epsilon(1e-4));
      }
      CHECK(graph == cuda);
    }
  }

  TEST_CASE("train --cuda-graph resumed is the plain run resumed, to the bit") {
    const Workplace place;
    const std::vector<double> plain = place.train_in_parts("plain", {"--device", "cuda"});
    const std::vector<double> graph = place.train_in_parts("graph", {"--device", "cuda", "--cuda-graph"});
    CHECK(plain.size() >= 12);  // loss and norm of six steps
    CHECK(graph == plain);
    const auto model = [&](const std::string& run) { return read_bytes(place.folder / run / "model.safetensors"); };
    CHECK(model("graph") == model("plain"));
  }

  TEST_CASE("train --cuda-graph where not all targets count") {
    const Workplace place;
    const auto run = [&](const std::string& out, const std::vector<std::string>& more) {
      std::vector<std::string> arguments = {"train",
                                            "--task",
                                            "palindrome",
                                            "--config",
                                            place.path("small.json"),
                                            "--out",
                                            place.path(out),
                                            "--steps",
                                            "3",
                                            "--seq-len",
                                            "20",
                                            "--batch",
                                            "2",
                                            "--eval-every",
                                            "0",
                                            "--device",
                                            "cuda"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const ProgramResult result = run_program(arguments);
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      return read_bytes(place.folder / out / "model.safetensors");
    };
    const std::string plain = run("plain", {});
    CHECK(run("graph", {"--cuda-graph"}) == plain);
  }

  TEST_CASE("train --cuda-graph needs a GPU") {
    const Workplace place;
    const ProgramResult result = run_program({"train", "--text", place.path("text"), "--cuda-graph"});
    CHECK(result.exit_code == 2);
    CHECK(result.err.find("--cuda-graph: --device is cpu, expected cuda") != std::string::npos);
  }

  TEST_CASE("generate and info on a device") {
    const Workplace place;
    place.train("run", {});
    const auto generated = [&](const std::string& device) {
      const ProgramResult result = run_program({"generate", "--model", place.path("run"), "--prompt", "line ",
                                                "--max-tokens", "12", "--temperature", "0", "--device", device});
      CAPTURE(result.err);
      REQUIRE(result.exit_code == 0);
      return result.out;
    };
    CHECK(generated("cuda") == generated("cpu"));
    const ProgramResult info = run_program({"info"});
    CHECK(info.out.find("cuda:1") != std::string::npos);
    CHECK(info.out.find("host twin, sm 90") != std::string::npos);
  }
}

}  // namespace
}  // namespace deltatape::test
#endif

// `deltatape bench kda` on a small shape. Every case runs the program.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;

TEST_SUITE("command") {
  TEST_CASE("bench kda: a row per implementation and pass, with finite rates") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string json = (folder / "rows.json").string();
    const auto result =
        run_program({"bench", "kda", "--shape", "1,40,1,2,8,6", "--impl", "chunk,fused-chunk", "--l2norm",
                     "--beta-sigmoid", "--safe-gate", "--varlen", "--repeat", "1", "--json", json});
    CAPTURE(result.err);
    REQUIRE(result.exit_code == 0);
    const auto rows = nlohmann::json::parse(test::read_bytes(json));
    REQUIRE(rows.size() == 6);
    const char* passes[] = {"fwd", "bwd", "fwd+bwd"};
    for (size_t i = 0; i < rows.size(); ++i) {
      CHECK(rows[i]["impl"] == (i < 3 ? "chunk" : "fused-chunk"));
      CHECK(rows[i]["pass"] == passes[i % 3]);
      CHECK(rows[i]["shape"] == "1,40,1,2,8,6");
      CHECK(rows[i]["dtype"] == "f32");
      CHECK(rows[i]["device"] == "cpu");
      CHECK(rows[i]["threads"].get<int64_t>() >= 1);
      CHECK(rows[i]["ms_median"].get<double>() >= rows[i]["ms_min"].get<double>());
      CHECK(rows[i]["share_of_gemm"].get<double>() > 0.0);
      CHECK(rows[i]["tokens_per_s"].get<double>() > 0.0);
      CHECK(rows[i]["peak_bytes"].get<int64_t>() >= 0);
      // Both figures are useful work over the same time.
      CHECK(rows[i]["gflops"].get<double>() / rows[i]["gemm_gflops"].get<double>() ==
            doctest::Approx(rows[i]["share_of_gemm"].get<double>()));
    }
  }

  TEST_CASE("bench kda: wrong input is told in one line that names the option") {
    if (test::program_path().empty()) {
      return;
    }
    const auto error = [](const std::vector<std::string>& more) {
      std::vector<std::string> arguments{"bench", "kda"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const auto result = run_program(arguments);
      CHECK(result.exit_code == 2);
      CHECK(result.out.empty());
      return result.err;
    };
    CHECK(contains(error({"--shape", "1,2,3"}), "--shape: '1,2,3' has 3 sizes, expected 6: B,T,H,HV,K,V"));
    CHECK(contains(error({"--shape", "2,8,1,1,4,4", "--varlen"}), "--shape: B is 2, expected 1 with --varlen"));
    CHECK(contains(error({"--impl", "fast"}), "--impl: 'fast' is not one of"));
    CHECK(contains(error({"--gate", "standard", "--safe-gate"}), "safe_gate is true and the gate standard"));
    CHECK(contains(error({"--chunk-size", "8"}), "--chunk-size"));
  }
}

// `deltatape layer` on cases that the tests write, and on golden ones where these are at hand. Every case runs the
// program.
#include <doctest/doctest.h>

#include "io/npy.h"
#include "tests/support/gold_folder.h"
#include "tests/tools/case_writer.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;
namespace fs = std::filesystem;

TEST_SUITE("command") {
  TEST_CASE("layer: written cases pass in every dtype, whatever they are stored in") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string dense = (folder / "dense").string();
    const std::string packed = (folder / "packed.npz").string();
    test::write_folder(test::layer_case("dense", false), dense);
    test::write_npz(test::layer_case("packed", true), packed);
    for (const std::string impl : {"composed", "fused"}) {
      for (const std::string dtype : {"f64", "f32", "f16"}) {
        const auto result = run_program({"layer", dense, packed, "--impl", impl, "--dtype", dtype, "--check"});
        CAPTURE(impl);
        CAPTURE(dtype);
        CAPTURE(result.out);
        CAPTURE(result.err);
        CHECK(result.exit_code == 0);
      }
    }
    const auto result = run_program({"layer", dense, packed, "--out", (folder / "out").string()});
    CHECK(result.exit_code == 0);
    for (const char* name :
         {"y.npy", "dx.npy", "grad.A_log.npy", "grad.f_proj.0.weight.npy", "grad.q_conv1d.weight.npy"}) {
      CHECK(fs::exists(folder / "out" / "dense" / name));
      CHECK(io::load_npy(folder / "out" / "packed" / name).dtype() == DType::f64);
    }
  }

  TEST_CASE("layer: --check finds a changed gradient and one that is missing") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const fs::path path = folder / "dense";
    test::write_folder(test::layer_case("dense", false), path);
    Tensor gradient = io::load_npy(path / "grad.dt_bias.npy");
    gradient.mutable_data<double>()[3] += 0.1;
    io::save_npy(path / "grad.dt_bias.npy", gradient);
    fs::remove(path / "grad.o_norm.weight.npy");
    const auto result = run_program({"layer", path.string(), "--check"});
    CAPTURE(result.out);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "grad.dt_bias"));
    CHECK(contains(result.out, "[3]"));
    CHECK(contains(result.out, "FAILED (no reference)"));
  }

  TEST_CASE("layer: bad input is told in one line, and leaves nothing behind") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const fs::path path = folder / "dense";
    const test::StoredCase stored = test::layer_case("dense", false);
    const auto check_refused = [&](const std::string& words) {
      const auto result = run_program({"layer", path.string(), "--check", "--out", (folder / "out").string()});
      CAPTURE(result.err);
      CHECK(result.exit_code == 2);
      CHECK(result.error_lines() == 1);
      CHECK(contains(result.err, words));
      CHECK(result.out.empty());
      CHECK_FALSE(fs::exists(folder / "out"));
      test::write_folder(stored, path);
    };
    test::write_folder(stored, path);
    const auto config = [&](const char* key, const nlohmann::json& value, const std::string& words) {
      auto changed = stored.config;
      changed[key] = value;
      test::write_bytes(path / "config.json", changed.dump());
      check_refused(words);
    };
    config("kind", "operator", "'kind' is 'operator', expected 'layer'");
    config("hidden_size", nullptr, "dense/config.json has no 'hidden_size', expected an integer");
    config("hidden_size", 13, "dense/x.npy has shape [2, 20, 12], expected [B, T, hidden_size] = [2, 20, 13]");
    config("lower_bound", 2.0, "dense/config.json: KimiDeltaAttention: lower_bound is 2");
    config("head_v_dim", 5, "'head_v_dim' is 5, expected head_dim * expand_v = 6");
    config("conv_bias", true, "dense/q_conv1d.bias.npy is missing");
    config("varlen", true, "dense/cu_seqlens.npy is missing");
    io::save_npy(path / "o_norm.weight.npy", from_vector<float>({1, 2}));
    check_refused("dense/o_norm.weight.npy has shape [2], expected the parameter's = [6]");
    fs::remove(path / "x.npy");
    check_refused("dense/x.npy is missing");
  }

  TEST_CASE("layer: golden cases [slow]") {
    const auto names = test::gold_cases("layer");
    if (test::program_path().empty() || names.empty()) {
      MESSAGE("no golden data beside the project, nothing compared");
      return;
    }
    std::vector<std::string> cases = {"layer", "--check"};
    for (const std::string& name : names) {
      cases.push_back((test::gold_root() / name).string());
    }
    const auto run = [&cases](const std::vector<std::string>& options) {
      std::vector<std::string> arguments = cases;
      arguments.insert(arguments.end(), options.begin(), options.end());
      const auto result = run_program(arguments);
      CAPTURE(options[1]);
      CAPTURE(options[3]);
      CAPTURE(result.out);
      CAPTURE(result.err);
      CHECK(result.exit_code == 0);
    };
    for (const std::string impl : {"composed", "fused"}) {
      for (const std::string dtype : {"f64", "f32", "f16"}) {
        run({"--impl", impl, "--dtype", dtype});
      }
      // Ten roundings to bf16 stand behind y, so the limits of the operator do not hold (docs/command.md).
      run({"--impl", impl, "--dtype", "bf16", "--rtol", "2.5e-2"});
    }
  }
}

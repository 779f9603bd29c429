// `deltatape kda` on cases that the tests write, on the stored one, and on golden ones where these are at hand. Every
// case runs the program.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "io/npy.h"
#include "tests/support/gold_folder.h"
#include "tests/tools/case_writer.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

const std::array<std::string, 4> kImplementations = {"recurrent", "chunk", "fused-recurrent", "fused-chunk"};
const std::array<std::string, 4> kDTypes = {"f64", "f32", "bf16", "f16"};

// A written case with all its parts, and the paths that a test uses.
struct Workplace {
  Workplace() : stored(test::full_operator_case("full")) { test::write_folder(stored, folder / "full"); }

  [[nodiscard]] std::string path(const std::string& name) const { return (folder / name).string(); }
  [[nodiscard]] fs::path file(const std::string& name) const { return folder / "full" / name; }
  void set(const char* key, const nlohmann::json& value) const {
    auto config = stored.config;
    config[key] = value;
    test::write_bytes(file("config.json"), config.dump());
  }

  TemporaryFolder folder;
  test::StoredCase stored;
};

test::ProgramResult run_kda(const std::vector<std::string>& cases, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"kda"};
  arguments.insert(arguments.end(), cases.begin(), cases.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(arguments);
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

// Exit code 2, one line on stderr with these words, nothing on stdout and nothing written.
void check_refused(const Workplace& place, const std::vector<std::string>& more,
                   const std::vector<std::string>& words) {
  std::vector<std::string> options = {"--impl", "chunk", "--out", place.path("out")};
  options.insert(options.end(), more.begin(), more.end());
  const auto result = run_kda({place.path("full")}, options);
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.error_lines() == 1);
  CHECK(result.out.empty());
  CHECK_FALSE(fs::exists(place.folder / "out"));
  for (const std::string& word : words) {
    CHECK_MESSAGE(contains(result.err, word), "expected: " << word);
  }
}

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("kda: every implementation and dtype passes on a written case") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    for (const std::string& impl : kImplementations) {
      for (const std::string& dtype : kDTypes) {
        const auto result = run_kda({place.path("full")}, {"--impl", impl, "--dtype", dtype, "--check"});
        CAPTURE(impl);
        CAPTURE(dtype);
        CAPTURE(result.out);
        CAPTURE(result.err);
        CHECK(result.exit_code == 0);
        CHECK(count(result.out, " ok\n") == 10);  // o ht dq dk dv dg dbeta dA_log ddt_bias dh0
      }
    }
  }

  TEST_CASE("kda: the stored case gives the stored numbers, by default with fused-chunk in f32") {
    if (test::program_path().empty()) {
      return;
    }
    const std::string stored = DELTATAPE_SOURCE_DIR "/tests/data/operator_small";
    for (const char* impl : {"recurrent", "chunk"}) {
      const auto result = run_kda({stored}, {"--impl", impl, "--dtype", "f64", "--check"});
      CAPTURE(result.out);
      CHECK(result.exit_code == 0);
      CHECK(count(result.out, " ok\n") == 10);
    }
    const auto result = run_kda({stored}, {"--check"});
    CAPTURE(result.out);
    CHECK(result.exit_code == 0);
    const auto same = run_kda({stored}, {"--check", "--impl", "fused-chunk", "--dtype", "f32"});
    CHECK(same.out == result.out);
  }

  TEST_CASE("kda: a folder, a .npz and a .safetensors give the same table") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    test::write_npz(place.stored, place.folder / "full.npz");
    test::write_safetensors(place.stored, place.folder / "full.safetensors");
    const auto folder = run_kda({place.path("full")}, {"--impl", "chunk", "--check"});
    CHECK(folder.exit_code == 0);
    for (const char* name : {"full.npz", "full.safetensors", "full/", "full/."}) {
      const auto other = run_kda({place.path(name)}, {"--impl", "chunk", "--check"});
      CAPTURE(other.err);
      CHECK(other.exit_code == 0);
      CHECK(other.out == folder.out);
    }
  }

  TEST_CASE("kda: --out has every result in f64, and reads back as it was written") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto result =
        run_kda({place.path("full")}, {"--impl", "chunk", "--dtype", "f32", "--out", place.path("out")});
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "rms"));
    CHECK(test::count_entries(place.folder / "out") == 10);
    for (const char* name : {"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"}) {
      const fs::path file = place.folder / "out" / (std::string(name) + ".npy");
      REQUIRE(fs::exists(file));
      CHECK(io::load_npy(file).dtype() == DType::f64);
      fs::copy_file(file, place.file(std::string(name) + ".npy"), fs::copy_options::overwrite_existing);
    }
    const auto again =
        run_kda({place.path("full")}, {"--impl", "chunk", "--dtype", "f32", "--check", "--rtol", "0", "--atol", "0"});
    CAPTURE(again.out);
    CHECK(again.exit_code == 0);
  }

  TEST_CASE("kda: several cases are one table, and --out gets a folder each") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    kda::Options options;
    test::write_folder(test::operator_case("plain", test::make_case({}, options, 1)), place.folder / "plain");
    const auto result =
        run_kda({place.path("full"), place.path("plain")},
                {"--impl", "chunk", "--check", "--out", place.path("out"), "--json", place.path("rows.json")});
    CAPTURE(result.out);
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(fs::exists(place.folder / "out" / "full" / "dA_log.npy"));
    CHECK(fs::exists(place.folder / "out" / "plain" / "o.npy"));
    CHECK_FALSE(fs::exists(place.folder / "out" / "plain" / "ht.npy"));
    const auto rows = nlohmann::json::parse(test::read_bytes(place.folder / "rows.json"));
    CHECK(rows.size() == 17);
    for (const auto& row : rows) {
      CHECK(row.size() == 7);
      CHECK(row["verdict"] == "ok");
      CHECK((row["case"] == "full" || row["case"] == "plain"));
      CHECK(row["relative_error"].is_number());
      CHECK(row["max_abs_error"].is_number());
      CHECK(row["tolerance"].is_number());
      CHECK(row["index"].is_string());
      CHECK(row["tensor"].is_string());
    }
    fs::remove_all(place.folder / "out");
    test::write_folder(place.stored, place.folder / "copy" / "full");
    const auto twice =
        run_kda({place.path("full"), place.path("copy/full")}, {"--impl", "chunk", "--out", place.path("out")});
    CHECK(twice.exit_code == 2);
    CHECK(contains(twice.err, "two cases are called 'full'"));
    CHECK_FALSE(fs::exists(place.folder / "out"));
  }

  TEST_CASE("kda: --check finds a changed number, a missing tensor, a wrong shape, NaN and a result too many") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    Tensor dk = io::load_npy(place.file("dk.npy"));
    dk.mutable_data<double>()[7] += 0.1;
    io::save_npy(place.file("dk.npy"), dk);
    fs::remove(place.file("dv.npy"));
    io::save_npy(place.file("dbeta.npy"), from_vector<double>({1, 2}));
    Tensor dg = io::load_npy(place.file("dg.npy"));
    dg.mutable_data<double>()[11] = std::nan("");
    io::save_npy(place.file("dg.npy"), dg);
    for (const char* dtype : {"f64", "f32"}) {
      const auto result = run_kda({place.path("full")}, {"--impl", "chunk", "--dtype", dtype, "--check"});
      CAPTURE(result.out);
      CHECK(result.exit_code == 1);
      CHECK(count(result.out, "FAILED") == 4);
      CHECK(contains(result.out, "FAILED (no reference)"));
      CHECK(contains(result.out, "FAILED (shape [2, 19, 2], expected [2])"));
      CHECK(contains(result.out, "[0, 1, 0, 2]"));  // element 7 of [2, 19, 1, 5]
      CHECK(contains(result.out, "[0, 1, 0, 1]"));  // element 11 of [2, 19, 2, 5]
      CHECK(count(result.out, " ok\n") == 6);
    }
    // In 16 bits the numbers are computed again; what is not there stays a failure.
    const auto result = run_kda({place.path("full")}, {"--impl", "chunk", "--dtype", "bf16", "--check"});
    CAPTURE(result.out);
    CHECK(result.exit_code == 1);
    CHECK(count(result.out, "FAILED") == 2);
    // A gradient without an upstream gradient to compute it from.
    fs::remove(place.file("do.npy"));
    fs::remove(place.file("dht.npy"));
    const auto forward = run_kda({place.path("full")}, {"--impl", "chunk", "--check"});
    CHECK(forward.exit_code == 1);
    CHECK(contains(forward.out, "FAILED (missing)"));
  }

  TEST_CASE("kda: a case without upstream gradients runs forward only") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    for (const char* name : {"do", "dht", "dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"}) {
      fs::remove(place.file(std::string(name) + ".npy"));
    }
    for (const std::string& impl : kImplementations) {
      const auto result = run_kda({place.path("full")}, {"--impl", impl, "--check"});
      CAPTURE(result.out);
      CHECK(result.exit_code == 0);
      CHECK(count(result.out, " ok\n") == 2);
    }
  }

  TEST_CASE("kda: keys that are missing have their defaults") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    test::StoredCase stored = test::operator_case("plain", test::make_case({.B = 1, .T = 9}, {}, 5));
    stored.config = nlohmann::json::object();
    test::write_folder(stored, folder / "plain");
    const auto result = run_kda({(folder / "plain").string()}, {"--impl", "chunk", "--dtype", "f64", "--check"});
    CAPTURE(result.out);
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
  }

  TEST_CASE("kda: --rtol, --atol and --max-ulp replace the limits") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto code = [&](const std::vector<std::string>& options) {
      std::vector<std::string> all = {"--impl", "chunk", "--check"};
      all.insert(all.end(), options.begin(), options.end());
      return run_kda({place.path("full")}, all).exit_code;
    };
    CHECK(code({}) == 0);
    CHECK(code({"--rtol", "1e-12", "--atol", "1e-12"}) == 1);
    CHECK(code({"--rtol", "1e-12", "--atol", "1"}) == 0);
    CHECK(code({"--rtol", "1e-2", "--atol", "0"}) == 0);
    CHECK(code({"--max-ulp", "0", "--atol", "0"}) == 1);
    CHECK(code({"--max-ulp", "1000000000", "--atol", "0"}) == 0);
    const auto result = run_kda({place.path("full")}, {"--impl", "chunk", "--check", "--max-ulp", "0", "--atol", "0"});
    CHECK(contains(result.out, "units in the last place"));
    check_refused(place, {"--max-ulp", "1", "--rtol", "1"}, {"--max-ulp", "--rtol"});
    check_refused(place, {"--rtol", "-1"}, {"--rtol", "'-1'"});
    check_refused(place, {"--max-ulp", "1.5"}, {"--max-ulp", "'1.5'"});
  }

  TEST_CASE("kda: segments of a packed row are sequences of their own") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto packed = test::make_case({.B = 1, .T = 40, .lengths = {17, 3, 20}}, {}, 11, test::Decay::mild,
                                        test::Keys::random, false);
    test::StoredCase stored = test::operator_case("packed", packed);
    test::StoredCase segments;
    segments.config = stored.config;
    segments.config["varlen"] = false;
    for (const auto& named : stored.tensors) {
      if (named.first != "cu_seqlens") {
        segments.tensors.push_back(named);
      }
    }
    std::vector<int64_t> ids(40, 4);  // an id that comes back is a new segment
    std::fill(ids.begin() + 17, ids.begin() + 20, -2);
    segments.tensors.emplace_back("segment_ids", from_vector(ids, {1, 40}));
    test::write_folder(segments, folder / "packed");
    for (const std::string& impl : kImplementations) {
      const auto result = run_kda({(folder / "packed").string()}, {"--impl", impl, "--dtype", "f64", "--check"});
      CAPTURE(impl);
      CAPTURE(result.out);
      CAPTURE(result.err);
      CHECK(result.exit_code == 0);
    }
  }

  TEST_CASE("kda: bad input is told in one line that names the file, and leaves nothing behind") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto config = [&](const char* key, const nlohmann::json& value, const std::vector<std::string>& words) {
      place.set(key, value);
      check_refused(place, {}, words);
      test::write_folder(place.stored, place.folder / "full");
    };
    const auto tensor = [&](const char* name, const Tensor& value, const std::vector<std::string>& words) {
      io::save_npy(place.file(name), value);
      check_refused(place, {}, words);
      test::write_folder(place.stored, place.folder / "full");
    };
    const auto missing = [&](const char* name, const std::vector<std::string>& words) {
      fs::remove(place.file(name));
      check_refused(place, {}, words);
      test::write_folder(place.stored, place.folder / "full");
    };
    config("kind", "layer", {"full/config.json: 'kind' is 'layer', expected 'operator'"});
    config("use_gate", "yes", {"full/config.json: 'use_gate' is \"yes\", expected true or false"});
    config("chunk_size", 48, {"full/config.json: chunk_size is 48, expected 16, 32 or 64"});
    config("chunk_size", 16.5, {"full/config.json: 'chunk_size' is 16.5, expected an integer"});
    config("lower_bound", 1.0, {"full/config.json: lower_bound is 1, expected a finite number below 0"});
    config("safe_gate", true, {"full/config.json: safe_gate is true and the gate standard"});
    config("use_beta_sigmoid", false, {"full/config.json: allow_neg_eigval is true and use_beta_sigmoid false"});
    config("use_gate", false, {"full", "A_log is given and the gate is none"});
    config("output_final_state", false, {"full/config.json: 'output_final_state' is false, and ", "dht.npy is there"});
    config("has_h0", false, {"full/config.json: 'has_h0' is false, and ", "h0.npy is there"});
    config("T", 20, {"full/config.json: 'T' is 20, expected 19 as in ", "q.npy"});
    config("state_v_first", true, {"full/h0.npy has shape [2, 2, 5, 3], expected [N, HV, V, K] = [2, 2, 3, 5]"});
    missing("q.npy", {"full/q.npy is missing"});
    missing("A_log.npy", {"'has_A_log' is true, and ", "A_log.npy is missing"});
    missing("config.json", {"full/config.json does not exist"});
    tensor("k.npy", from_vector<float>({1, 2}), {"full/k.npy has shape [2], expected [B, T, H, K] = [2, 19, 1, 5]"});
    tensor("do.npy", from_vector<float>({1, 2}), {"full/do.npy has shape [2], expected [B, T, HV, V]"});
    tensor("g.npy", from_vector<int64_t>({1, 2}), {"full/g.npy is i64[2] cpu, expected floating-point numbers"});
    tensor("segment_ids.npy", from_vector<int64_t>({1, 2}), {"full/segment_ids.npy has shape [2], expected [B, T]"});
    fs::remove(place.file("segment_ids.npy"));
    test::write_bytes(place.file("config.json"), "{\"kind\": ");
    check_refused(place, {}, {"full/config.json is not JSON"});
    test::write_folder(place.stored, place.folder / "full");
    test::write_bytes(place.file("v.npy"), "broken");
    check_refused(place, {}, {"full/v.npy"});
    test::write_folder(place.stored, place.folder / "full");

    check_refused(place, {"--impl", "magic"}, {"--impl", "'magic'", "fused-chunk"});
    check_refused(place, {"--dtype", "f8"}, {"--dtype", "'f8'", "bf16"});
    check_refused(place, {"--device", "abacus"}, {"--device", "abacus"});
    check_refused(place, {"--json", "/no/such/folder/rows.json"}, {"--json", "/no/such/folder/rows.json"});
    check_refused(place, {place.path("none")}, {"none does not exist"});
    for (const char* name : {"case.txt", "case.npz", "case.safetensors"}) {
      test::write_bytes(place.folder / name, "text");
      check_refused(place, {place.path(name)}, {name});
    }
    const auto own = run_kda({place.path("full")}, {"--impl", "chunk", "--out", place.path("full")});
    CHECK(own.exit_code == 2);
    CHECK(contains(own.err, "--out"));
    CHECK(contains(own.err, "is a case itself"));
    check_refused(place, {"--check", "--out", place.path("case.txt")}, {"--out"});
  }

  TEST_CASE("kda: golden cases in every implementation and dtype [slow]") {
    const auto names = test::gold_cases("operator");
    if (test::program_path().empty() || names.empty()) {
      MESSAGE("no golden data beside the project, nothing compared");
      return;
    }
    std::vector<std::string> cases;
    cases.reserve(names.size());
    for (const std::string& name : names) {
      cases.push_back((test::gold_root() / name).string());
    }
    for (const std::string& impl : kImplementations) {
      for (const std::string& dtype : kDTypes) {
        const auto result = run_kda(cases, {"--impl", impl, "--dtype", dtype, "--check"});
        CAPTURE(impl);
        CAPTURE(dtype);
        CAPTURE(result.out);
        CAPTURE(result.err);
        CHECK(result.exit_code == 0);
      }
    }
  }
}

// `deltatape cases make` and `deltatape cases check`: the results that are judged come from `deltatape kda --out`.
#include <doctest/doctest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX kill is not in <csignal>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/npy.h"
#include "io/safetensors.h"
#include "ops/convert.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using test::contains;
using test::run_program;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

const std::string kSmall = "T=1..20,K=2..5,V=1..4,B=1..2,H=1,packing=rows|cu_seqlens,loss=both";

// A folder of cases, and the results of our own kernel beside them.
struct Workplace {
  explicit Workplace(const std::string& file_format = "npy", const std::string& dtype = "f64") : format(file_format) {
    const auto made = run_program({"cases", "make", "--space", kSmall, "--count", "4", "--dtype", dtype, "--format",
                                   format, "--out", path("set")});
    CAPTURE(made.err);
    REQUIRE(made.exit_code == 0);
    for (int i = 0; i < 4; ++i) {
      const auto ran = run_program({"kda", path("set/" + stored(i)), "--dtype", dtype, "--out", results(i).string()});
      CAPTURE(ran.err);
      REQUIRE(ran.exit_code == 0);
      if (format == "safetensors") {  // the command writes .npy files
        io::TensorMap tensors;
        for (const auto& file : fs::directory_iterator(results(i))) {
          tensors[file.path().stem().string()] = io::load_npy(file.path());
        }
        io::save_safetensors(path("set/" + name(i) + ".results.safetensors"), tensors);
      }
    }
  }

  static std::string name(int i) { return "case_000" + std::to_string(i); }
  [[nodiscard]] std::string stored(int i) const { return name(i) + (format == "npy" ? "" : ".safetensors"); }
  [[nodiscard]] std::string path(const std::string& part) const { return (folder / part).string(); }
  [[nodiscard]] fs::path file(const std::string& part) const { return folder / "set" / part; }
  [[nodiscard]] fs::path results(int i) const {
    return format == "npy" ? folder / "set" / name(i) / "results" : folder / "unpacked" / name(i);
  }
  [[nodiscard]] test::ProgramResult check(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"cases", "check", path("set")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }

  TemporaryFolder folder;
  std::string format;
};

void spoil(const fs::path& file, double factor) {
  Tensor x = to(io::load_npy(file), DType::f64);
  for (int64_t i = 0; i < x.numel(); ++i) {
    x.mutable_data<double>()[i] *= factor;
  }
  io::save_npy(file, x);
}

// The last line on stderr: before it there may be lines of progress.
std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t start = text.rfind('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1,
                     end + 1 - (start == std::string::npos ? 0 : start + 1));
}

void check_refused(const test::ProgramResult& result, const std::vector<std::string>& words) {
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  for (const std::string& word : words) {
    CHECK_MESSAGE(contains(last_line(result.err), word), "expected: " << word);
  }
}

}  // namespace

TEST_SUITE("command") {
  TEST_CASE("cases: what our kernel makes of made cases passes, in both formats and every dtype") {
    if (test::program_path().empty()) {
      return;
    }
    for (const char* format : {"npy", "safetensors"}) {
      for (const char* dtype : {"f64", "f32", "bf16", "f16"}) {
        CAPTURE(format);
        CAPTURE(dtype);
        const Workplace place(format, dtype);
        const auto result = place.check({"--json", place.path("report.json"), "--html", place.path("report.html"),
                                         "--junit", place.path("report.xml")});
        CAPTURE(result.out);
        CAPTURE(result.err);
        CHECK(result.exit_code == 0);
        CHECK(contains(result.out, "passed: 4 cases passed, 0 failed"));
        for (const char* file : {"report.json", "report.html", "report.xml"}) {
          CHECK(fs::file_size(place.path(file)) > 0);
        }
      }
    }
  }

  TEST_CASE("cases make: a case is one that `kda --check` takes, with an index and a text beside it") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string out = (folder / "set").string();
    const auto made = run_program({"cases", "make", "--case", "seed=4,T=6,K=3,V=2,ht=yes,packing=segment_ids,pieces=2",
                                   "--case", "T=3,dtype=f64", "--intermediates", "--out", out});
    CAPTURE(made.err);
    REQUIRE(made.exit_code == 0);
    CHECK(contains(made.out, "2 cases in " + out));
    CHECK(test::count_entries(folder.path()) == 1);
    CHECK(test::count_entries(folder / "set") == 4);
    CHECK(fs::exists(folder / "set" / "README.txt"));
    const auto index = nlohmann::json::parse(test::read_bytes(folder / "set" / "cases.json"));
    CHECK(index["version"] == 1);
    CHECK(index["cases"][0]["name"] == "case_0000");
    CHECK(index["cases"][0]["results"] == nlohmann::json({"o", "ht", "dq", "dk", "dv", "dg", "dbeta"}));
    const auto config = nlohmann::json::parse(test::read_bytes(folder / "set" / "case_0000" / "config.json"));
    CHECK(config["case"] == index["cases"][0]["case"]);
    CHECK(config["dtype"] == "f32");
    CHECK(config["seed"] == 4);
    CHECK(io::load_npy(folder / "set" / "case_0000" / "q.npy").dtype() == DType::f32);
    CHECK(io::load_npy(folder / "set" / "case_0001" / "q.npy").dtype() == DType::f64);
    CHECK(io::load_npy(folder / "set" / "case_0000" / "dq.npy").dtype() == DType::f64);
    CHECK(fs::exists(folder / "set" / "case_0001" / "intermediates" / "Akk.npy"));
    const auto checked = run_program({"kda", out + "/case_0000", out + "/case_0001", "--dtype", "f64", "--check"});
    CAPTURE(checked.out);
    CHECK(checked.exit_code == 0);
  }

  TEST_CASE("cases make: the same seed gives the same files; --simpler adds neighbours") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const auto make = [&](const std::string& name, const std::vector<std::string>& more) {
      std::vector<std::string> arguments = {"cases", "make", "--out", (folder / name).string()};
      arguments.insert(arguments.end(), more.begin(), more.end());
      REQUIRE(run_program(arguments).exit_code == 0);
    };
    make("a", {"--space", kSmall, "--count", "3", "--seed", "5"});
    make("b", {"--space", kSmall, "--count", "2", "--seed", "6"});
    CHECK(test::read_bytes(folder / "a" / "case_0001" / "q.npy") ==
          test::read_bytes(folder / "b" / "case_0000" / "q.npy"));
    CHECK(test::read_bytes(folder / "a" / "case_0002" / "dg.npy") ==
          test::read_bytes(folder / "b" / "case_0001" / "dg.npy"));
    make("c", {"--case", "T=9,K=4,h0=yes", "--simpler", "--count", "6"});
    const auto index = nlohmann::json::parse(test::read_bytes(folder / "c" / "cases.json"));
    CHECK(index["cases"].size() == 6);
    CHECK(index["cases"][0]["case"] == "seed=0,T=9,K=4,h0=yes");
    CHECK(index["cases"][1]["case"] != index["cases"][0]["case"]);
  }

  TEST_CASE("cases make: wrong options end with 2 and leave nothing") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string out = (folder / "set").string();
    const auto refused = [&](const std::vector<std::string>& more, const std::vector<std::string>& words) {
      std::vector<std::string> arguments = {"cases", "make", "--out", out};
      arguments.insert(arguments.end(), more.begin(), more.end());
      check_refused(run_program(arguments), words);
      CHECK(test::count_entries(folder.path()) == 0);
    };
    refused({"--space", "cheese=1"}, {"--space", "cheese"});
    refused({"--space", "T=9..3"}, {"--space", "T is '9..3'"});
    refused({"--dtype", "f8"}, {"--dtype", "f8"});
    refused({"--format", "npz"}, {"--format", "npz"});
    refused({"--count", "0"}, {"--count"});
    refused({"--case", "T=x"}, {"--case", "T is 'x'"});
    refused({"--case", "T=3", "--space", "T=3"}, {"--space", "--case"});
    refused({"--simpler"}, {"--case"});
    refused({"--case", "T=100000000,K=200,V=200"}, {"elements"});
    refused({"--case", "T=3,chunk_size=5"}, {"chunk_size"});
    check_refused(run_program({"cases", "make"}), {"--out"});
    check_refused(run_program({"cases"}), {"cases"});
    test::write_bytes(folder / "set", "a file");
    check_refused(run_program({"cases", "make", "--count", "1", "--out", out}), {"--out", out, "is a file"});
    fs::remove(folder / "set");
    fs::create_directory(folder / "set");
    test::write_bytes(folder / "set" / "mine", "x");
    check_refused(run_program({"cases", "make", "--count", "1", "--out", out}), {"--out", out, "has files in it"});
    CHECK(test::count_entries(folder.path()) == 1);
    CHECK(test::count_entries(folder / "set") == 1);
  }

  TEST_CASE("cases check: a wrong, a missing and a misshapen result fail and are named") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    spoil(place.results(1) / "dk.npy", 1.001);
    auto result = place.check();
    CAPTURE(result.out);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "case_0001"));
    CHECK_FALSE(contains(result.out, "case_0002"));
    CHECK(contains(result.out, "dk"));
    CHECK(contains(result.out, "deltatape cases make --case 'seed=1,"));
    CHECK(contains(result.out, "3 cases passed, 1 failed"));
    fs::remove(place.results(1) / "dk.npy");
    io::save_npy(place.results(2) / "dv.npy", from_vector<double>({1.0}));
    result = place.check();
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "missing"));
    CHECK(contains(result.out, "2 cases passed, 2 failed"));
    CHECK(place.check({"--results", "o,ht,dq"}).exit_code == 1);  // what is there is judged, promised or not
    fs::remove(place.results(2) / "dv.npy");
    CHECK(place.check({"--results", "o,ht,dq"}).exit_code == 0);
    spoil(place.results(0) / "o.npy", std::nan(""));
    result = place.check({"--results", "o,ht,dq"});
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "NaN"));
  }

  TEST_CASE("cases check: forward alone, less accurate with --strict, the first stage that differs") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    for (int i = 0; i < 4; ++i) {
      for (const char* name : {"dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"}) {
        fs::remove(place.results(i) / (std::string(name) + ".npy"));
      }
    }
    CHECK(place.check().exit_code == 1);
    CHECK(place.check({"--results", "o,ht"}).exit_code == 0);
    check_refused(place.check({"--results", "o,cheese"}), {"--results", "cheese"});
    spoil(place.results(3) / "o.npy", 1.0 + 2e-14);
    CHECK(place.check({"--results", "o,ht"}).exit_code == 0);
    CHECK(place.check({"--results", "o,ht", "--strict"}).exit_code == 1);

    const TemporaryFolder folder;
    const std::string set = (folder / "set").string();
    REQUIRE(
        run_program({"cases", "make", "--case", "T=20,K=4,V=3,dtype=f64", "--intermediates", "--out", set}).exit_code ==
        0);
    const fs::path results = folder / "set" / "case_0000" / "results";
    fs::copy(folder / "set" / "case_0000" / "intermediates", results);
    for (const char* name : {"o", "dq", "dk", "dv", "dg", "dbeta"}) {
      fs::copy(folder / "set" / "case_0000" / (std::string(name) + ".npy"), results / (std::string(name) + ".npy"));
    }
    CHECK(run_program({"cases", "check", set}).exit_code == 0);
    for (const char* name : {"Akk", "u", "o", "dq"}) {
      spoil(results / (std::string(name) + ".npy"), 1.1);
    }
    const auto result = run_program({"cases", "check", set});
    CAPTURE(result.out);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "Akk"));
  }

  TEST_CASE("cases check: a result that a case does not have is wrong input") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string set = (folder / "set").string();
    REQUIRE(run_program({"cases", "make", "--case", "T=5,K=3,V=2,dtype=f64", "--case",
                         "T=5,K=3,V=2,dtype=f64,packing=segment_ids,pieces=2", "--case", "T=5,loss=none", "--out", set})
                .exit_code == 0);
    const auto result = [&](const std::string& name, const std::string& file) {
      return folder / "set" / name / "results" / file;
    };
    const auto stored = [&](const std::string& name) { return io::load_npy(folder / "set" / "case_0000" / name); };
    for (const char* name : {"case_0000", "case_0001", "case_0002"}) {
      fs::create_directory(result(name, ""));
      fs::copy(folder / "set" / name / "o.npy", result(name, "o.npy"));
    }
    const auto refused = [&](const fs::path& file) {
      io::save_npy(file, stored("q.npy"));
      for (const char* names : {"o", "o,dA_log"}) {
        check_refused(run_program({"cases", "check", set, "--results", names}),
                      {file.string() + " is no result of this case, expected some of o"});
      }
      fs::remove(file);
      CHECK(run_program({"cases", "check", set, "--results", "o"}).exit_code == 0);
    };
    refused(result("case_0000", "dA_log.npy"));
    refused(result("case_0000", "ht.npy"));
    refused(result("case_0002", "dq.npy"));
    refused(result("case_0002", "dAqk.npy"));
    io::save_npy(result("case_0001", "Aqk.npy"), stored("q.npy"));  // one with segment_ids: not judged
    CHECK(run_program({"cases", "check", set, "--results", "o"}).exit_code == 0);

    fs::remove_all(result("case_0000", ""));
    io::save_safetensors(folder / "set" / "case_0000.results.safetensors", {{"dA_log", stored("q.npy")}});
    check_refused(run_program({"cases", "check", set}),
                  {"case_0000.results.safetensors: dA_log is no result of this case"});
  }

  TEST_CASE("cases check: what must be there is what the index lists, unless --results says it") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto whole = nlohmann::json::parse(test::read_bytes(place.file("cases.json")));
    const auto list = [&](int i, const nlohmann::json& names) {
      auto index = whole;
      index["cases"][static_cast<size_t>(i)]["results"] = names;
      test::write_bytes(place.file("cases.json"), index.dump());
    };
    for (const char* name : {"dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"}) {
      fs::remove(place.results(1) / (std::string(name) + ".npy"));
    }
    CHECK(place.check().exit_code == 1);
    list(1, {"o"});
    CHECK(place.check().exit_code == 0);
    CHECK(place.check({"--results", "o,dq"}).exit_code == 1);
    fs::remove(place.results(1) / "o.npy");
    io::save_npy(place.results(1) / "g_cumsum.npy", from_vector<double>({1.0}));  // so that it has a result
    const auto result = place.check();
    CHECK(result.exit_code == 1);
    CHECK(contains(result.out, "missing"));

    list(2, {"o", "cheese"});
    const std::string start = place.file("cases.json").string() + ": the case 'case_0002' asks for ";
    check_refused(place.check(), {start + "'cheese', expected some of o ht dq"});
    list(2, {"o", "Aqk"});
    check_refused(place.check(), {start + "'Aqk', expected some of o ht dq"});
    check_refused(place.check({"--results", "o,Aqk"}), {"--results", "'Aqk' is no result, expected some of o,ht,dq"});
    list(2, nlohmann::json::array());
    check_refused(place.check(), {"case_0002", "asks for no results"});
  }

  TEST_CASE("cases check: what the index asks of a case is something that the case has") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    const std::string set = (folder / "set").string();
    REQUIRE(run_program({"cases", "make", "--case", "T=3,K=2,V=2,loss=none", "--out", set}).exit_code == 0);
    auto index = nlohmann::json::parse(test::read_bytes(folder / "set" / "cases.json"));
    index["cases"][0]["results"] = {"o", "dq"};
    test::write_bytes(folder / "set" / "cases.json", index.dump());
    fs::create_directory(folder / "set" / "case_0000" / "results");
    fs::copy(folder / "set" / "case_0000" / "o.npy", folder / "set" / "case_0000" / "results" / "o.npy");
    check_refused(run_program({"cases", "check", set}), {"asks for 'dq', expected some of o"});
  }

  TEST_CASE("cases check: a name in a file never reaches the terminal as a command to it") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    fs::remove_all(place.results(1));
    const std::string name = "o\n\x1b[31m\x7f\r\xc2\x9b\xc3\xa4";
    io::save_safetensors(place.file("case_0001.results.safetensors"), {{name, from_vector<float>({1.0F})}});
    const auto result = place.check();
    check_refused(result, {"case_0001.results.safetensors: o ?[31m???\xc3\xa4 is no result"});
    CHECK(std::count_if(result.err.begin(), result.err.end(), [](char c) { return c < ' ' && c >= 0; }) ==
          std::count(result.err.begin(), result.err.end(), '\n'));
  }

  TEST_CASE("cases make: into the current folder and through a link; SIGTERM leaves nothing") {
    if (test::program_path().empty()) {
      return;
    }
    const TemporaryFolder folder;
    fs::create_directory(folder / "here");
    fs::create_directory_symlink("here", folder / "link");
    const auto made = run_program({"cases", "make", "--case", "T=1", "--out", (folder / "link").string()});
    CAPTURE(made.err);
    CHECK(made.exit_code == 0);
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(test::count_entries(folder / "here") == 3);
    fs::create_symlink("nothing", folder / "dangling");
    check_refused(run_program({"cases", "make", "--case", "T=1", "--out", (folder / "dangling").string()}),
                  {"--out", "dangling is a link to nothing"});
    CHECK(test::count_entries(folder.path()) == 3);

    const TemporaryFolder place;
    const TemporaryFolder streams;
    const pid_t child = test::start_program(
        {"cases", "make", "--space", "T=1..9", "--count", "10000", "--out", (place / "set").string()}, streams.path());
    const auto partial = place / ("set." + std::to_string(child) + ".partial");
    for (int i = 0; i < 3000 && !fs::exists(partial / "case_0001"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(child, SIGTERM);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    CHECK(test::count_entries(place.path()) == 0);
    const std::string last = last_line(test::read_bytes(streams / "stderr"));
    CHECK(contains(last, "deltatape cases make: stopped after "));
    CHECK(contains(last, " of 10000 cases; nothing is left of them"));
  }

  TEST_CASE("cases check: a case without results counts as not run; none at all is wrong input") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    fs::remove_all(place.results(0));
    fs::remove_all(place.results(3));
    auto result = place.check();
    CAPTURE(result.out);
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "0 failed, 2 not supported"));
    fs::remove_all(place.results(1));
    fs::remove_all(place.results(2));
    check_refused(place.check(), {place.path("set"), "has results", "case_0000/results/o.npy"});
  }

  TEST_CASE("cases check: what was altered or broken ends with 2 and one line that names the file") {
    if (test::program_path().empty()) {
      return;
    }
    const Workplace place;
    const auto with = [&](const fs::path& file, const std::string& bytes, const std::vector<std::string>& words) {
      const std::string old = test::read_bytes(file);
      test::write_bytes(file, bytes);
      const auto result = place.check();
      CHECK(result.exit_code == 2);
      check_refused(result, words);
      test::write_bytes(file, old);
    };
    const auto cut = [](const fs::path& file) {
      const std::string bytes = test::read_bytes(file);
      return bytes.substr(0, bytes.size() - 3);
    };
    const fs::path q = place.file("case_0002/q.npy");
    const fs::path o = place.file("case_0002/o.npy");
    const fs::path result = place.results(2) / "o.npy";
    with(q, cut(q), {q.string()});
    with(q, test::read_bytes(place.file("case_0002/k.npy")), {q.string(), "was altered"});
    with(o, test::read_bytes(result).substr(0, 50), {o.string()});
    with(o, test::read_bytes(place.file("case_0002/do.npy")), {o.string(), "was altered"});
    with(result, cut(result), {result.string()});
    with(result, "", {result.string()});
    using namespace std::string_literals;
    with(result, "\x93NUMPY\1\0\xff\xff{'shape': (999999999999,)}"s, {result.string()});
    with(place.file("case_0002/config.json"), "{", {"case_0002/config.json", "is not JSON"});
    with(place.file("cases.json"), "[]", {"cases.json", "expected an object"});
    with(place.file("cases.json"), cut(place.file("cases.json")), {"cases.json", "is not JSON"});
    const std::string config = test::read_bytes(place.file("case_0001/config.json"));
    with(place.file("case_0002/config.json"), config, {"case_0002"});
    check_refused(run_program({"cases", "check", place.path("nowhere")}), {"nowhere/cases.json", "does not exist"});
    CHECK(place.check().exit_code == 0);  // everything is as it was
  }
}

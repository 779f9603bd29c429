#include "harness/files/case_set.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using harness::CaseSet;
using test::TemporaryFolder;

CaseSet some_set() {
  CaseSet set;
  set.reference = "the tape";
  set.format = harness::FileFormat::safetensors;
  set.space = "T=1..3";
  set.seed = 7;
  set.cases = {{.name = "case_0000", .text = "seed=7,T=2", .results = {"o", "dq"}},
               {.name = "case_0001", .text = "seed=8", .results = {"o"}}};
  return set;
}

TEST_CASE("harness files: the index of a set of cases comes back") {
  const TemporaryFolder folder;
  harness::write_index(folder.path(), some_set());
  const CaseSet read = harness::read_index(folder.path());
  CHECK(read.reference == "the tape");
  CHECK(read.format == harness::FileFormat::safetensors);
  CHECK(read.space == "T=1..3");
  CHECK(read.seed == 7);
  REQUIRE(read.cases.size() == 2);
  CHECK(read.cases[0].name == "case_0000");
  CHECK(read.cases[0].text == "seed=7,T=2");
  CHECK(read.cases[0].results == std::vector<std::string>{"o", "dq"});
  CHECK(harness::case_path("set", read.format, "case_0000") == "set/case_0000.safetensors");
  CHECK(harness::case_path("set", harness::FileFormat::npy, "case_0000") == "set/case_0000");
  const std::string text = test::read_bytes(folder / "README.txt");
  CHECK(text.find("case_0000.results.safetensors") != std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') <= 25);
}

TEST_CASE("harness files: a broken index is named with what is wrong") {
  const TemporaryFolder folder;
  const std::string label = (folder / "cases.json").string();
  CHECK_ERROR(harness::read_index(folder.path()), "read_index: " + label + " does not exist, expected a file");
  harness::write_index(folder.path(), some_set());
  const auto whole = nlohmann::json::parse(test::read_bytes(label));
  const auto refused = [&](const std::string& key, const nlohmann::json& value) {
    auto index = whole;
    index[nlohmann::json::json_pointer(key)] = value;
    test::write_bytes(label, index.dump());
    return test::error_of([&] { harness::read_index(folder.path()); });
  };
  const std::string start = "read_index: " + label;
  CHECK(refused("/version", 2) == start + " has version 2, expected 1");
  CHECK(refused("/version", "1") == start + " has version \"1\", expected 1");
  CHECK(refused("/operator", "gla") == start + " is for the operator 'gla', expected kda");
  CHECK(refused("/format", "npz") == start + ": the format is 'npz', expected npy or safetensors");
  CHECK(refused("/seed", -1) == start + " has no integer of 0 or more under 'seed'");
  CHECK(refused("/space", 1) == start + " has no text under 'space'");
  CHECK(refused("/cases", nlohmann::json::array()) == start + " has no cases under 'cases'");
  CHECK(refused("/cases/0", 1) == start + " has number among its cases, expected an object");
  CHECK(refused("/cases/0/name", "../up") == start + " has the case name '../up', expected letters, digits, _ and -");
  CHECK(refused("/cases/0/name", "case_0001") == start + " has the case 'case_0001' twice");
  CHECK(refused("/cases/0/results", "o") == start + ": the case 'case_0000' has no list under 'results'");
  CHECK(refused("/cases/0/results", nlohmann::json::array()) ==
        start + ": the case 'case_0000' asks for no results, expected at least one");
  CHECK(refused("/cases/0/results/0", 1) ==
        start + ": the case 'case_0000' has number among its results, expected a name");
  CHECK(refused("/cases/0/case", 1) == start + " has no text under 'case'");
  const std::string text = whole.dump();
  for (size_t length = 0; length < text.size(); length += 7) {
    test::write_bytes(label, text.substr(0, length));
    CHECK(test::error_of([&] { harness::read_index(folder.path()); }).find(start + " is not JSON: ") == 0);
  }
}

}  // namespace
}  // namespace deltatape

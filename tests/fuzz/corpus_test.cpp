// Every file of the fuzzers' corpus through the same functions, in every build.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/fuzz/readers.h"
#include "tests/io/temporary_folder.h"

using namespace deltatape;
namespace fs = std::filesystem;

namespace {

struct Counts {
  size_t accepted = 0;
  size_t refused = 0;
};

Counts run_corpus(const std::string& format, bool (*target)(std::string_view)) {
  const char* source = std::getenv("DELTATAPE_SOURCE_DIR");
  const fs::path folder = fs::path(source != nullptr ? source : DELTATAPE_SOURCE_DIR) / "tests/fuzz/corpus" / format;
  REQUIRE(fs::is_directory(folder));
  Counts counts;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string path = entry.path().string();
    CAPTURE(path);
    bool accepted = false;
    CHECK_NOTHROW(accepted = target(test::read_bytes(entry.path())));
    ++(accepted ? counts.accepted : counts.refused);
  }
  return counts;
}

void check_corpus(const std::string& format, bool (*target)(std::string_view)) {
  const Counts counts = run_corpus(format, target);
  CHECK(counts.accepted >= 5);  // the seeds that are whole files
  CHECK(counts.refused >= 5);   // and those that are not
}

}  // namespace

TEST_SUITE("fuzz") {
  TEST_CASE("fuzz: the corpus of .npy files") { check_corpus("npy", test::fuzz_npy); }
  TEST_CASE("fuzz: the corpus of .npz files") { check_corpus("npz", test::fuzz_npz); }
  TEST_CASE("fuzz: the corpus of .safetensors files") { check_corpus("safetensors", test::fuzz_safetensors); }
  TEST_CASE("fuzz: the corpus of indices of cases") { check_corpus("case", test::fuzz_case); }
}

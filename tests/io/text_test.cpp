#include "io/text.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

using namespace deltatape;
using test::error_of;
using test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

io::Text load(const std::vector<fs::path>& paths) { return io::load_text(paths); }

}  // namespace

TEST_CASE("load_text: files below a folder in the order of their paths, the same whatever order they are given in") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "b" / "c");
  test::write_bytes(folder / "z.txt", "4");
  test::write_bytes(folder / "b" / "c" / "x", "2");
  test::write_bytes(folder / "b" / "y", "3");
  test::write_bytes(folder / "a.txt", "1");
  CHECK(load({folder.path()}).bytes == "1234");
  CHECK(load({folder / "z.txt", folder / "b", folder / "a.txt"}).bytes == "1234");
  CHECK(load({folder / "z.txt", folder.path()}).bytes == "1234");
}

TEST_CASE("load_text: links, hidden and binary files in a folder are left out; a given file is used as it is") {
  const TemporaryFolder folder;
  fs::create_directories(folder / ".hidden");
  test::write_bytes(folder / ".hidden" / "a", "no");
  test::write_bytes(folder / ".secret", "no");
  test::write_bytes(folder / "plain", "yes\xff");
  test::write_bytes(folder / "binary", std::string("a\0b", 3));
  fs::create_symlink(folder / "plain", folder / "link");
  fs::create_directory_symlink(folder.path(), folder / "loop");
  const io::Text text = load({folder.path()});
  CHECK(text.bytes == "yes\xff");
  CHECK(text.files.size() == 1);
  REQUIRE(text.left_out.size() == 1);
  CHECK(text.left_out[0].filename() == "binary");
  CHECK(load({folder / "binary"}).bytes == std::string("a\0b", 3));
}

TEST_CASE("load_text: missing paths and empty folders are errors that name them") {
  const TemporaryFolder folder;
  CHECK(error_of([&] { load({folder / "none"}); }).find("none does not exist") != std::string::npos);
  CHECK(error_of([&] { load({folder.path()}); }).find("no text was found") != std::string::npos);
  CHECK(error_of([&] { load({}); }).find("no text was found") != std::string::npos);
}

TEST_CASE("split_text: the last tenth is for validation") {
  const std::string text = "0123456789abcdefghijKL345";
  const io::TextSplit split = io::split_text(text);
  CHECK(split.validation == "45");
  CHECK(split.training.size() == 23);
  CHECK(io::split_text("123456789").validation.empty());
}

TEST_CASE("random_windows: pieces of the text, every start possible, the same for the same generator") {
  const std::string text = "abcdefgh";
  Generator generator(3);
  Generator again(3);
  const Tensor windows = io::random_windows(text, 200, 5, generator);
  CHECK(windows.shape() == Shape{200, 5});
  CHECK(windows.to_vector<int64_t>() == io::random_windows(text, 200, 5, again).to_vector<int64_t>());
  std::vector<int> starts(8, 0);
  const auto values = windows.to_vector<int64_t>();
  for (size_t i = 0; i < 200; ++i) {
    ++starts[static_cast<size_t>(values[i * 5] - 'a')];
    for (size_t t = 1; t < 5; ++t) {
      CHECK(values[i * 5 + t] == values[i * 5] + static_cast<int64_t>(t));
    }
  }
  for (size_t start = 0; start < 8; ++start) {
    CHECK((starts[start] > 0) == (start < 4));
  }
  CHECK(error_of([&] { io::random_windows("abcd", 1, 5, generator); }).find("expected at least 5") !=
        std::string::npos);
}

TEST_CASE("spread_windows: all windows of a short text, evenly spread ones of a long text") {
  CHECK(io::spread_windows("abcdefg", 9, 3, 2).to_vector<int64_t>() ==
        std::vector<int64_t>{'a', 'b', 'c', 'c', 'd', 'e', 'e', 'f', 'g'});
  const Tensor spread = io::spread_windows(std::string(100, 'x') + std::string(100, 'y'), 4, 10, 10);
  CHECK(spread.shape() == Shape{4, 10});
  CHECK(spread.to_vector<int64_t>().front() == 'x');
  CHECK(spread.to_vector<int64_t>().back() == 'y');
  CHECK(error_of([&] { io::spread_windows("ab", 1, 3, 1); }).find("expected at least 3") != std::string::npos);
}

TEST_CASE("unigram_cross_entropy: add-one smoothing over 256 bytes") {
  // Training "aab": p(a) = 3/259, p(b) = 2/259, any other byte 1/259.
  const double expected = -(std::log(3.0 / 259.0) + std::log(2.0 / 259.0) + 2 * std::log(1.0 / 259.0)) / 4.0;
  CHECK(std::abs(io::unigram_cross_entropy("aab", "abc\xff") - expected) < 1e-14);
  CHECK(std::abs(io::unigram_cross_entropy("", "xyz") - std::log(256.0)) < 1e-12);
  CHECK(error_of([&] { io::unigram_cross_entropy("a", ""); }).find("text is empty") != std::string::npos);
}

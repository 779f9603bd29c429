#include "io/npz.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

using namespace deltatape;
using test::error_of;
using test::TemporaryFolder;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// An archive with two arrays and a text; `pressed` is long enough to be worth deflating.
std::string archive_bytes() {
  const TemporaryFolder folder;
  io::save_npz(folder / "a.npz",
               {{"pressed", from_vector(std::vector<float>(500, 1.5F))}, {"small", from_vector<int64_t>({1, 2})}},
               {{"config.json", "{\"kind\": \"operator\"}"}});
  return test::read_bytes(folder / "a.npz");
}

// The error of loading these bytes as a file a.npz; every one names the file.
std::string load_error(const std::string& bytes) {
  const TemporaryFolder folder;
  test::write_bytes(folder / "a.npz", bytes);
  std::string error = error_of([&] { io::load_npz(folder / "a.npz"); });
  CHECK_MESSAGE(contains(error, "a.npz"), error);
  return error;
}

// Where the directory's entry for a member starts. Fields: method at 10, sizes at 20 (packed) and 24, name at 46.
size_t directory_entry(const std::string& bytes, const std::string& member) {
  for (size_t at = bytes.find("PK\1\2"); at != std::string::npos; at = bytes.find("PK\1\2", at + 1)) {
    if (bytes.compare(at + 46, member.size(), member) == 0) {
      return at;
    }
  }
  FAIL("no member " << member);
  return 0;
}

template <class Number>
std::string with_number(std::string bytes, size_t at, Number number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
  return bytes;
}

// A .npy array of version 1.0.
std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data) {
  const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\1\0", 8) + static_cast<char>(header.size()) + '\0' + header + data;
}

// Loads an archive whose only member is `member`: its name is that of a text, so that it can hold anything, and is then
// renamed in both places where the archive has it.
io::Npz load_member(const std::string& content) {
  const TemporaryFolder folder;
  io::save_npz(folder / "a.npz", {}, {{"a.npX", content}});
  std::string bytes = test::read_bytes(folder / "a.npz");
  for (size_t at = bytes.find("a.npX"); at != std::string::npos; at = bytes.find("a.npX", at)) {
    bytes.replace(at, 5, "a.npy");
  }
  test::write_bytes(folder / "a.npz", bytes);
  return io::load_npz(folder / "a.npz");
}

}  // namespace

TEST_CASE("npz: what is saved is loaded, arrays and texts") {
  const TemporaryFolder folder;
  const Tensor matrix = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  io::save_npz(folder / "a.npz",
               {{"d", from_vector<double>({1.5, -0.0, 1e300})},
                {"t", matrix.as_view({3, 2}, {1, 3}, 0)},
                {"h", from_vector<Float16>({Float16(0.5F)})},
                {"n", from_vector<int64_t>({INT64_MIN, INT64_MAX})},
                {"b", from_vector<bool>({true, false})},
                {"none", from_vector<float>({}, {0, 3})},
                {"scalar", from_vector<double>({42.0}, {})}},
               {{"config.json", "{}"}, {"empty", ""}});
  const io::Npz loaded = io::load_npz(folder / "a.npz");
  CHECK(loaded.tensors.size() == 7);
  CHECK(loaded.tensors.at("d").to_vector<double>() == std::vector<double>{1.5, -0.0, 1e300});
  CHECK(loaded.tensors.at("t").shape() == Shape{3, 2});
  CHECK(loaded.tensors.at("t").to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(loaded.tensors.at("h").dtype() == DType::f16);
  CHECK(loaded.tensors.at("n").to_vector<int64_t>() == std::vector<int64_t>{INT64_MIN, INT64_MAX});
  CHECK(loaded.tensors.at("b").dtype() == DType::boolean);
  CHECK(loaded.tensors.at("none").shape() == Shape{0, 3});
  CHECK(loaded.tensors.at("scalar").item() == 42.0);
  CHECK(loaded.texts == std::map<std::string, std::string>{{"config.json", "{}"}, {"empty", ""}});
  CHECK(test::count_entries(folder.path()) == 1);
}

TEST_CASE("npz: files that NumPy wrote") {
  const auto data = std::filesystem::path(DELTATAPE_SOURCE_DIR) / "tests" / "data" / "numpy";
  for (const char* name : {"savez.npz", "savez_compressed.npz"}) {
    CAPTURE(name);
    const io::Npz loaded = io::load_npz(data / name);
    CHECK(loaded.tensors.size() == 5);
    CHECK(loaded.tensors.at("q").dtype() == DType::f32);
    CHECK(loaded.tensors.at("q").to_vector<float>() == std::vector<float>{1.5F, -2, 3, 4, 5, 6.25F});
    CHECK(loaded.tensors.at("cu_seqlens").to_vector<int64_t>() == std::vector<int64_t>{0, 2, 5});
    CHECK(loaded.tensors.at("f").to_vector<double>() == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(loaded.tensors.at("h").to_vector<double>() == std::vector<double>{0.5, -65504});
    CHECK(loaded.tensors.at("s").item() == 7.0);
  }
  CHECK(io::load_npz(data / "savez.npz").texts.at("config.json") == "{\"name\": \"a\"}");
  // An array of one string, as np.savez(..., **{"config.json": np.array(text)}) writes it.
  CHECK(io::load_npz(data / "savez_compressed.npz").texts.at("config.json") == "{\"name\": \"ä€😀\"}");
}

TEST_CASE("npz: an array of one string is a text, other text is refused") {
  CHECK(load_member(npy_bytes("|S4", "()", std::string("ab\0\0", 4))).texts.at("a") == "ab");
  CHECK(load_member(npy_bytes("<U2", "(1,)", std::string("x\0\0\0\xac\x20\0\0", 8))).texts.at("a") == "x€");
  const auto error = [](const std::string& content) { return error_of([&] { load_member(content); }); };
  CHECK(contains(error(npy_bytes("|S1", "(2,)", "ab")), "a.npz: 'a.npy' has shape [2] of text, expected one text"));
  CHECK(contains(error(npy_bytes("|S1", "(4611686018427387904, 4)", "ab")),
                 "a.npz: 'a.npy': the shape [4611686018427387904, 4] has more elements than memory can hold"));
  CHECK(contains(error(npy_bytes("<U2", "()", "abcd")), "has 4 bytes of data, expected 8"));
  CHECK(contains(error(npy_bytes("<U1", "()", "\xff\xff\xff\x7f")), "expected Unicode"));
  CHECK(contains(error(npy_bytes("<Ux", "()", "abcd")), "'<Ux', expected a length"));
}

TEST_CASE("npz: a member that is no array is told by file and member") {
  CHECK(contains(error_of([] { load_member("text"); }), "a.npz: 'a.npy' ends after 4 bytes"));
  CHECK(contains(error_of([] { load_member("This is text, not an array."); }),
                 "a.npz: 'a.npy' does not start with NPY's magic number"));
  CHECK(contains(error_of([] { load_member(npy_bytes("<f4", "(99999999999,)", "abcd")); }),
                 "a.npz: 'a.npy' has 4 bytes of data, expected 399999999996 for shape [99999999999] of <f4"));
}

TEST_CASE("npz: a file cut off at any byte is refused") {
  const std::string whole = archive_bytes();
  CHECK(load_error("") != "(no Error was thrown)");
  for (size_t length = 1; length < whole.size(); ++length) {
    CHECK_MESSAGE(load_error(whole.substr(0, length)) != "(no Error was thrown)", length);
  }
}

TEST_CASE("npz: a damaged byte anywhere never crashes, and in the data it is noticed") {
  const std::string whole = archive_bytes();
  const TemporaryFolder folder;
  for (size_t place = 0; place < whole.size(); ++place) {
    std::string damaged = whole;
    damaged[place] = std::string(
        "\0"
        "9\xff",
        3)[place % 3];
    test::write_bytes(folder / "b.npz", damaged);
    error_of([&] { io::load_npz(folder / "b.npz"); });
  }
  // The last byte of the text's content stands before the next member's header.
  const size_t next = whole.find("PK\3\4", 4);
  std::string damaged = whole;
  damaged[next - 2] = static_cast<char>(damaged[next - 2] ^ 1);
  CHECK(contains(load_error(damaged), "a.npz: 'config.json'"));
}

TEST_CASE("npz: sizes that cannot be are refused before memory is taken") {
  const std::string whole = archive_bytes();
  const size_t pressed = directory_entry(whole, "pressed.npy");
  CHECK(contains(load_error(with_number(whole, pressed + 24, uint32_t{0x7fffffff})),
                 "'pressed.npy' has 2147483647 bytes"));
  const size_t small = directory_entry(whole, "small.npy");
  CHECK(load_error(with_number(whole, small + 24, uint32_t{1000})) != "(no Error was thrown)");
  CHECK(load_error(with_number(whole, small + 20, uint32_t{0x7fffffff})) != "(no Error was thrown)");
}

TEST_CASE("npz: what a .npz does not have") {
  const std::string whole = archive_bytes();
  const size_t small = directory_entry(whole, "small.npy");
  CHECK(contains(load_error(with_number(whole, small + 10, uint16_t{12})), "'small.npy' is compressed by method 12"));
  CHECK(contains(load_error(with_number(whole, small + 8, uint16_t{1})), "'small.npy' is encrypted"));
  CHECK(contains(load_error("This is text, not an archive."), "a.npz is not a .npz file: "));
  // Twice the same name.
  const TemporaryFolder folder;
  io::save_npz(folder / "a.npz", {{"a", from_vector<float>({1})}, {"b", from_vector<float>({2})}});
  std::string twice = test::read_bytes(folder / "a.npz");
  for (size_t at = twice.find("b.npy"); at != std::string::npos; at = twice.find("b.npy", at)) {
    twice.replace(at, 5, "a.npy");
  }
  CHECK(contains(load_error(twice), "'a.npy' is there twice, expected once"));
}

TEST_CASE("npz: files that are not there, and failed saving") {
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { io::load_npz(folder / "none.npz"); }), "none.npz does not exist"));
  CHECK(contains(error_of([&] { io::load_npz(folder.path()); }), "is a folder, expected a regular file"));
  const Tensor x = from_vector<float>({1});
  CHECK_ERROR(io::save_npz(folder / "a.npz", {{"x", empty({2}, DType::bf16)}}),
              "save_npz: tensor is bf16, which NPY does not have, expected f64, f32, f16, i64, i32 or bool");
  CHECK_ERROR(io::save_npz(folder / "a.npz", {{"x", x}}, {{"y.npy", ""}}),
              "save_npz: a text is called 'y.npy', expected a name that does not end in .npy");
  CHECK(contains(error_of([&] { io::save_npz(folder / "no" / "a.npz", {{"x", x}}); }), "cannot be written"));
  CHECK(test::count_entries(folder.path()) == 0);
}

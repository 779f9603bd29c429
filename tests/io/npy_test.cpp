#include "io/npy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

using namespace deltatape;
using test::error_of;
using test::TemporaryFolder;

namespace {

// A .npy file of version 1.0 with this header text, whatever it says.
std::string npy_bytes(const std::string& header, const std::string& data, char major = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += major;
  bytes += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) {
    bytes += static_cast<char>((header.size() >> (8 * i)) & 0xff);
  }
  return bytes + header + data;
}

std::string header_for(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

// The error of loading a file with this header and data.
std::string load_error(const std::string& header, const std::string& data, char major = 1) {
  const TemporaryFolder folder;
  test::write_bytes(folder / "a.npy", npy_bytes(header, data, major));
  return error_of([&] { io::load_npy(folder / "a.npy"); });
}

template <class T>
void round_trip(const std::vector<T>& values, const Shape& shape) {
  const TemporaryFolder folder;
  const Tensor saved = from_vector(values, shape);
  io::save_npy(folder / "a.npy", saved);
  const Tensor loaded = io::load_npy(folder / "a.npy");
  CHECK(loaded.dtype() == saved.dtype());
  CHECK(loaded.shape() == shape);
  CHECK(loaded.to_vector<double>() == saved.to_vector<double>());
  CHECK(test::count_entries(folder.path()) == 1);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("npy: what is saved is loaded, for every dtype and rank") {
  round_trip<double>({1.5, -0.0, 1e300, 4}, {2, 2});
  round_trip<float>({1.25F, -3.5F, 7}, {3});
  round_trip<Float16>({Float16(0.5F), Float16(-65504.0F)}, {1, 2, 1});
  round_trip<int64_t>({INT64_MIN, INT64_MAX}, {2});
  round_trip<int32_t>({-1, 7}, {2, 1});
  round_trip<bool>({true, false, true}, {3});
  round_trip<double>({42.0}, {});
  round_trip<float>({}, {0, 3});
  round_trip<float>({1, 2}, {1, 1, 1, 1, 1, 1, 1, 2});
}

TEST_CASE("npy: the data starts at a multiple of 64 bytes and the header is numpy's") {
  const TemporaryFolder folder;
  io::save_npy(folder / "a.npy", from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3}));
  const std::string bytes = test::read_bytes(folder / "a.npy");
  CHECK(bytes.size() == 128 + 48);
  CHECK(bytes.substr(10, 59) == "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }");
  CHECK(bytes[127] == '\n');
}

TEST_CASE("npy: a strided tensor is saved in row-major order") {
  const TemporaryFolder folder;
  const Tensor matrix = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  io::save_npy(folder / "a.npy", matrix.as_view({3, 2}, {1, 3}, 0));
  CHECK(io::load_npy(folder / "a.npy").to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("npy: Fortran order") {
  const TemporaryFolder folder;
  const std::string data("\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0\0\0\6\0\0\0", 24);
  test::write_bytes(folder / "a.npy", npy_bytes(header_for("<i4", "(2, 3)", "True"), data));
  const Tensor loaded = io::load_npy(folder / "a.npy");
  CHECK(loaded.is_contiguous());
  CHECK(loaded.to_vector<int64_t>() == std::vector<int64_t>{1, 3, 5, 2, 4, 6});
}

TEST_CASE("npy: small integers become i64, bools stay bools whatever byte they are") {
  const TemporaryFolder folder;
  const auto load = [&](const std::string& descr, const std::string& data, const std::string& shape) {
    test::write_bytes(folder / "a.npy", npy_bytes(header_for(descr, shape), data));
    return io::load_npy(folder / "a.npy");
  };
  CHECK(load("|u1", "\x01\xff", "(2,)").to_vector<int64_t>() == std::vector<int64_t>{1, 255});
  CHECK(load("|i1", "\x01\xff", "(2,)").to_vector<int64_t>() == std::vector<int64_t>{1, -1});
  CHECK(load("<u2", "\xff\xff", "(1,)").to_vector<int64_t>() == std::vector<int64_t>{65535});
  CHECK(load("<i2", "\xff\xff", "(1,)").to_vector<int64_t>() == std::vector<int64_t>{-1});
  CHECK(load("<u4", "\xff\xff\xff\xff", "(1,)").to_vector<int64_t>() == std::vector<int64_t>{4294967295});
  CHECK(load("|u1", "\x05", "()").dtype() == DType::i64);
  CHECK(load("|b1", std::string("\0\2\1", 3), "(3,)").to_vector<int64_t>() == std::vector<int64_t>{0, 1, 1});
}

TEST_CASE("npy: versions 2.0 and 3.0 have a longer header length") {
  for (const char major : {'\2', '\3'}) {
    const TemporaryFolder folder;
    test::write_bytes(folder / "a.npy", npy_bytes(header_for("|u1", "(2,)"), "\x07\x08", major));
    CHECK(io::load_npy(folder / "a.npy").to_vector<int64_t>() == std::vector<int64_t>{7, 8});
  }
}

TEST_CASE("npy: a file cut off at any byte is refused, and so is one with a byte too many") {
  const TemporaryFolder folder;
  io::save_npy(folder / "a.npy", from_vector<float>({1, 2, 3}));
  const std::string whole = test::read_bytes(folder / "a.npy");
  for (size_t length = 0; length < whole.size(); ++length) {
    test::write_bytes(folder / "b.npy", whole.substr(0, length));
    const std::string error = error_of([&] { io::load_npy(folder / "b.npy"); });
    CHECK_MESSAGE(contains(error, "b.npy"), length << ": " << error);
  }
  test::write_bytes(folder / "b.npy", whole + "x");
  CHECK(contains(error_of([&] { io::load_npy(folder / "b.npy"); }), "has 13 bytes of data, expected 12 for shape [3]"));
}

TEST_CASE("npy: a damaged byte anywhere never crashes") {
  const TemporaryFolder folder;
  io::save_npy(folder / "a.npy", from_vector<float>({1, 2, 3}));
  const std::string whole = test::read_bytes(folder / "a.npy");
  for (size_t place = 0; place < 76; ++place) {
    for (const char value : {'\0', '9', '(', '\'', '\xff'}) {
      std::string damaged = whole;
      damaged[place] = value;
      test::write_bytes(folder / "b.npy", damaged);
      error_of([&] { io::load_npy(folder / "b.npy"); });
    }
  }
}

TEST_CASE("npy: malformed headers give an error that says what was expected") {
  CHECK(contains(load_error(header_for(">f4", "(1,)"), "1234"), "'>f4' (big-endian), expected little-endian"));
  CHECK(contains(load_error(header_for("<c8", "(1,)"), "12345678"), "'<c8', expected one of f8 f4"));
  CHECK(contains(load_error(header_for("<f4", "(-1,)"), "1234"), "'-1,), }"));
  CHECK(contains(load_error(header_for("<f4", "(1,1,1,1,1,1,1,1,1)"), "1234"), "more than 8 dimensions"));
  CHECK(contains(load_error(header_for("<f4", "(4611686018427387904, 4)"), "1234"), "more elements than memory"));
  CHECK(contains(load_error(header_for("<f4", "(0, 4611686018427387904, 4)"), ""), "more elements than memory"));
  CHECK(
      contains(load_error(header_for("|i1", "(0, 4611686018427387904)"), ""), "more elements than memory"));  // as i64
  CHECK(contains(load_error(header_for("<f4", "(99999999999999999999,)"), "1234"), "expected a size"));
  CHECK(
      contains(load_error(header_for("<f4", "(1099511627776,)"), "1234"), "has 4 bytes of data, expected 4398046511"));
  CHECK(contains(load_error(header_for("<f4", "(1,)", "0"), "1234"), "expected True or False"));
  CHECK(contains(load_error("{'descr': '<f4', 'shape': (1,)}", "1234"), "lacks one of"));
  CHECK(contains(load_error("{'descr': '<f4', 'descr': '<f4'}", "1234"), "once each"));
  CHECK(contains(load_error("{'descr': [('x', '<f4')]}", "1234"), "where a quoted word is expected"));
  CHECK(contains(load_error("", ""), "where '{' is expected"));
  CHECK(contains(load_error(header_for("<f4", "(1,)"), "1234", 4), "NPY version 4.0, expected 1.0, 2.0 or 3.0"));
}

TEST_CASE("npy: files that are not there, not files, not NPY") {
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { io::load_npy(folder / "none.npy"); }), "none.npy does not exist"));
  CHECK(contains(error_of([&] { io::load_npy(folder.path()); }), "is a folder, expected a regular file"));
  CHECK(contains(error_of([&] { io::save_npy(folder.path(), from_vector<float>({1})); }),
                 "is a folder, expected a regular file or a new name"));
  CHECK(contains(error_of([&] { io::save_npy("/dev/null", from_vector<float>({1})); }),
                 "/dev/null is a special file, expected a regular file or a new name"));
  test::write_bytes(folder / "text.npy", "This is text, not an array.");
  CHECK(contains(error_of([&] { io::load_npy(folder / "text.npy"); }), "does not start with NPY's magic number"));
}

TEST_CASE("npy: saving fails without leaving a file behind") {
  const TemporaryFolder folder;
  CHECK(contains(error_of([&] { io::save_npy(folder / "a.npy", empty({2}, DType::bf16)); }), "tensor is bf16"));
  CHECK(contains(error_of([&] { io::save_npy(folder / "a.npy", Tensor()); }), "tensor is undefined"));
  CHECK(
      contains(error_of([&] { io::save_npy(folder / "no" / "a.npy", from_vector<float>({1})); }), "cannot be written"));
  CHECK(test::count_entries(folder.path()) == 0);
}

TEST_CASE("npy: golden files, where they are at hand") {
  const char* source = std::getenv("DELTATAPE_SOURCE_DIR");
  const auto gold = std::filesystem::path(source != nullptr ? source : ".") / "../shared/gold/tiny_t1";
  if (!std::filesystem::exists(gold)) {
    return;
  }
  const Tensor q = io::load_npy(gold / "q.npy");
  CHECK(q.dtype() == DType::f32);
  CHECK(q.rank() == 4);
  const Tensor o = io::load_npy(gold / "o.npy");
  CHECK(o.dtype() == DType::f64);
  for (const double value : o.to_vector<double>()) {
    CHECK(std::isfinite(value));
  }
}

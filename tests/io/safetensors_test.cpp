#include "io/safetensors.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

using namespace deltatape;
using test::error_of;
using test::TemporaryFolder;

namespace {

std::string file_bytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

std::string load_error(const std::string& header, const std::string& data = "") {
  const TemporaryFolder folder;
  test::write_bytes(folder / "a.safetensors", file_bytes(header, data));
  return error_of([&] { io::load_safetensors(folder / "a.safetensors"); });
}

std::string one_entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"x":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("safetensors: what is saved is loaded, with its metadata") {
  const TemporaryFolder folder;
  io::TensorMap tensors;
  tensors["b.f64"] = from_vector<double>({1, 2, 3, 4}, {2, 2});
  tensors["a.f32"] = from_vector<float>({1.5F}, {});
  tensors["c.bf16"] = from_vector<BFloat16>({BFloat16(1.0F), BFloat16(-2.0F), BFloat16(3.0F)});
  tensors["d.f16"] = from_vector<Float16>({Float16(0.25F)});
  tensors["e.i64"] = from_vector<int64_t>({INT64_MIN});
  tensors["f.i32"] = from_vector<int32_t>({-5, 6});
  tensors["g.bool"] = from_vector<bool>({true, false}, {2});
  tensors["h.empty"] = empty({0, 7});
  io::save_safetensors(folder / "a.safetensors", tensors, {{"format", "pt"}, {"note", "line\nbreak"}});
  const io::SafeTensors loaded = io::load_safetensors(folder / "a.safetensors");
  CHECK(loaded.metadata == io::Metadata{{"format", "pt"}, {"note", "line\nbreak"}});
  REQUIRE(loaded.tensors.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor& other = loaded.tensors.at(name);
    CHECK(other.dtype() == tensor.dtype());
    CHECK(other.shape() == tensor.shape());
    CHECK(other.to_vector<double>() == tensor.to_vector<double>());
  }
  CHECK(test::count_entries(folder.path()) == 1);
}

TEST_CASE("safetensors: the bytes are those of the reference format") {
  const TemporaryFolder folder;
  io::save_safetensors(folder / "a.safetensors",
                       {{"w", from_vector<float>({1, 2}, {1, 2})}, {"b", from_vector<float>({3})}}, {{"format", "pt"}});
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                       R"("w":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  const float data[] = {3, 1, 2};
  CHECK(test::read_bytes(folder / "a.safetensors") ==
        file_bytes(header, std::string(reinterpret_cast<const char*>(data), sizeof data)));
}

TEST_CASE("safetensors: a strided view is saved in row-major order") {
  const TemporaryFolder folder;
  const Tensor matrix = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  io::save_safetensors(folder / "a.safetensors", {{"t", matrix.as_view({3, 2}, {1, 3}, 0)}});
  const io::SafeTensors loaded = io::load_safetensors(folder / "a.safetensors");
  CHECK(loaded.tensors.at("t").to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("safetensors: tensors may lie in any order, and at odd offsets") {
  const TemporaryFolder folder;
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                             R"("b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})";
  const float value = 2.5F;
  std::string data = "\x07";
  data.append(reinterpret_cast<const char*>(&value), 4);
  test::write_bytes(folder / "a.safetensors", file_bytes(header, data));
  const io::SafeTensors loaded = io::load_safetensors(folder / "a.safetensors");
  CHECK(loaded.tensors.at("a").item() == 2.5);
  CHECK(loaded.tensors.at("b").item() == 1.0);
}

TEST_CASE("safetensors: a file cut off at any byte is refused, and so is one with a byte too many") {
  const TemporaryFolder folder;
  io::save_safetensors(folder / "a.safetensors", {{"w", from_vector<float>({1, 2})}, {"b", from_vector<float>({3})}});
  const std::string whole = test::read_bytes(folder / "a.safetensors");
  for (size_t length = 0; length < whole.size(); ++length) {
    test::write_bytes(folder / "b.safetensors", whole.substr(0, length));
    const std::string error = error_of([&] { io::load_safetensors(folder / "b.safetensors"); });
    CHECK_MESSAGE(contains(error, "b.safetensors"), length << ": " << error);
  }
  test::write_bytes(folder / "b.safetensors", whole + "x");
  CHECK(
      contains(error_of([&] { io::load_safetensors(folder / "b.safetensors"); }), "has 13 bytes of data, expected 12"));
}

TEST_CASE("safetensors: hostile headers are refused before anything is allocated") {
  CHECK(contains(load_error("[1,2]"), "is a JSON array, expected an object"));
  CHECK(contains(load_error("{\"x\":"), "is not JSON"));
  CHECK(contains(load_error(R"({"x":3})"), "'x' has no dtype"));
  CHECK(contains(load_error(one_entry("F8", "[1]", "[0,1]"), "1"), "dtype \"F8\", expected one of F64 F32"));
  CHECK(contains(load_error(one_entry("F32", "[-1]", "[0,4]"), "1234"), "has -1 in shape"));
  CHECK(contains(load_error(one_entry("F32", "[1.5]", "[0,4]"), "1234"), "has 1.5 in shape"));
  CHECK(contains(load_error(one_entry("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "1234"), "at most 8 sizes"));
  CHECK(
      contains(load_error(one_entry("F32", "[4611686018427387904,4]", "[0,4]"), "1234"), "more elements than memory"));
  CHECK(contains(load_error(one_entry("F32", "[0,4611686018427387904,4]", "[0,0]")), "more elements than memory"));
  CHECK(contains(load_error(one_entry("F32", "[1]", "[4,0]"), "1234"), "expected 4 bytes"));
  CHECK(contains(load_error(one_entry("F32", "[1]", "[0]"), "1234"), "expected [begin, end]"));
  CHECK(contains(load_error(one_entry("F32", "[1]", "[0,18446744073709551615]"), "1234"), "in data_offsets"));
  CHECK(contains(load_error(one_entry("F32", "[1099511627776]", "[0,4398046511104]"), "1234"),
                 "has 4 bytes of data, expected 4398046511104"));
  CHECK(contains(load_error(one_entry("F32", "[1]", "[4,8]"), "12345678"), "starts at byte 4, expected 0"));
  CHECK(contains(load_error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                            R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                            "123456"),
                 "starts at byte 2, expected 4"));
  CHECK(contains(load_error(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                            R"("a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"),
                 "the name 'a' twice"));
  CHECK(contains(load_error(R"({"a":{"dtype":"F32","shape":[0],"shape":[1],"data_offsets":[0,0]}})"), "twice"));
  CHECK(contains(load_error(R"({"__metadata__":{"a":1}})"), "expected text"));
  CHECK(contains(load_error(R"({"__metadata__":"a"})"), "expected an object"));
  CHECK(contains(load_error(std::string(100000, '[')), "nested more than 3 levels"));
  CHECK(contains(load_error(std::string("{\"\xff\":{}}")), "is not JSON"));
}

TEST_CASE("safetensors: two entries may share names of their fields, and of their tensors with metadata") {
  CHECK(load_error(R"({"__metadata__":{"a":"1"},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                   R"("b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})") == "(no Error was thrown)");
}

TEST_CASE("safetensors: a header length beyond the limit or the file is refused") {
  const TemporaryFolder folder;
  const auto error_for = [&](uint64_t length) {
    std::string bytes(16, ' ');
    std::memcpy(bytes.data(), &length, 8);
    test::write_bytes(folder / "a.safetensors", bytes);
    return error_of([&] { io::load_safetensors(folder / "a.safetensors"); });
  };
  CHECK(contains(error_for(UINT64_MAX), "expected at most 100000000"));
  CHECK(contains(error_for(99'000'000), "ends after 16 bytes"));
}

TEST_CASE("safetensors: saving fails without touching the old file") {
  const TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  io::save_safetensors(path, {{"w", from_vector<float>({1})}});
  const std::string before = test::read_bytes(path);
  CHECK(contains(error_of([&] { io::save_safetensors(path, {{"w", Tensor()}}); }), "undefined"));
  CHECK(contains(error_of([&] { io::save_safetensors(path, {{"__metadata__", empty({1})}}); }), "reserves"));
  CHECK(contains(error_of([&] { io::save_safetensors(path, {{"\xff", empty({1})}}); }), "UTF-8"));
  CHECK(test::read_bytes(path) == before);
  CHECK(test::count_entries(folder.path()) == 1);
}

TEST_CASE("safetensors: golden models are read and written byte for byte, where they are at hand") {
  const char* source = std::getenv("DELTATAPE_SOURCE_DIR");
  const auto gold = std::filesystem::path(source != nullptr ? source : ".") / "../shared/gold/model_dense";
  if (!std::filesystem::exists(gold)) {
    return;
  }
  for (const char* name : {"model.safetensors", "grads.safetensors"}) {
    const TemporaryFolder folder;
    const io::SafeTensors loaded = io::load_safetensors(gold / name);
    io::save_safetensors(folder / "copy.safetensors", loaded.tensors, loaded.metadata);
    CHECK(test::read_bytes(folder / "copy.safetensors") == test::read_bytes(gold / name));
  }
}

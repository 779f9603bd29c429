#include "harness/files/tensor_files.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "harness/files/new_folder.h"
#include "io/npy.h"
#include "ops/convert.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using harness::FileFormat;
using harness::NewFolder;
using harness::TensorFiles;
using test::TemporaryFolder;
namespace fs = std::filesystem;

harness::NamedTensors some_tensors() {
  const Tensor x = from_vector(std::vector<double>{1.0, -2.5, 0.1, 3.0}, {2, 2});
  return {{"wide", x},
          {"narrow", to(x, DType::bf16)},
          {"half", to(x, DType::f16)},
          {"borders", from_vector(std::vector<int64_t>{0, 3, 3})},
          {"nothing", from_vector(std::vector<float>{}, {0, 3})},
          {"stages/w", to(x, DType::f32)}};
}

TEST_CASE("harness files: tensors and config come back from both formats") {
  const TemporaryFolder folder;
  for (const FileFormat format : {FileFormat::npy, FileFormat::safetensors}) {
    const fs::path path = folder / std::string(harness::to_string(format));
    CHECK(harness::parse_file_format("test", harness::to_string(format)) == format);
    harness::write_tensor_files(path, format, "{}", some_tensors());
    const TensorFiles files("test", path, format);
    CHECK(files.config() == "{}");
    CHECK(files.names() == std::vector<std::string>{"borders", "half", "narrow", "nothing", "wide"});
    for (const auto& named : some_tensors()) {
      const std::string& name = named.first;
      const Tensor& tensor = named.second;
      CAPTURE(files.label(name));
      REQUIRE(files.has(name));
      const Tensor stored = files.load(name);
      const bool widened = format == FileFormat::npy && tensor.dtype() == DType::bf16;
      CHECK(stored.dtype() == (widened ? DType::f32 : tensor.dtype()));
      CHECK(stored.shape() == tensor.shape());
      CHECK(stored.to_vector<double>() == tensor.to_vector<double>());
    }
    CHECK_FALSE(files.has("q"));
    CHECK_ERROR(files.load("q"), "test: " + files.label("q") + " is missing, expected a tensor");
  }
  CHECK_ERROR(harness::parse_file_format("--format", "npz"),
              "--format: the format is 'npz', expected npy or safetensors");
}

TEST_CASE("harness files: a case without a config is named") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "case");
  const std::string config = (folder / "case" / "config.json").string();
  CHECK_ERROR(TensorFiles("test", folder / "case", FileFormat::npy),
              "test: " + config + " does not exist, expected a file");
  io::save_safetensors(folder / "case.safetensors", {});
  CHECK_ERROR(TensorFiles("test", folder / "case.safetensors", FileFormat::safetensors),
              "test: " + (folder / "case.safetensors").string() +
                  " has no 'config' in its metadata, expected the case's config");
}

TEST_CASE("harness files: a new folder is there as a whole or not at all") {
  const TemporaryFolder folder;
  {
    const NewFolder left("test", folder / "out");
    test::write_bytes(left.temporary() / "file", "x");
  }
  CHECK(test::count_entries(folder.path()) == 0);
  fs::create_directory(folder / "out");  // an empty one may be there
  {
    NewFolder made("test", folder / "out/");
    test::write_bytes(made.temporary() / "file", "x");
    made.commit();
  }
  CHECK(test::count_entries(folder.path()) == 1);
  CHECK(test::count_entries(folder / "out") == 1);
  CHECK(test::read_bytes(folder / "out" / "file") == "x");
  CHECK_ERROR(NewFolder("test", folder / "out"),
              "test: " + (folder / "out").string() + " has files in it, expected a new or an empty folder");
  CHECK_ERROR(NewFolder("test", folder / "out" / "file"),
              "test: " + (folder / "out" / "file").string() + " is a file, expected a new folder");
  CHECK(test::count_entries(folder.path()) == 1);
}

TEST_CASE("harness files: an empty folder that is there stays the same folder, links lead to it") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  fs::create_directory_symlink("out", folder / "link");
  struct ::stat before {};
  REQUIRE(::stat((folder / "out").c_str(), &before) == 0);
  { const NewFolder left("test", folder / "link"); }
  CHECK(test::count_entries(folder / "out") == 0);
  {
    NewFolder made("test", folder / "link/");
    test::write_bytes(made.temporary() / "file", "x");
    fs::create_directory(made.temporary() / "deep");
    test::write_bytes(made.temporary() / "deep" / "file", "y");
    made.commit();
  }
  struct ::stat after {};
  REQUIRE(::stat((folder / "out").c_str(), &after) == 0);
  CHECK(before.st_ino == after.st_ino);
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(test::count_entries(folder.path()) == 2);
  CHECK(test::count_entries(folder / "out") == 2);
  CHECK(test::read_bytes(folder / "out" / "deep" / "file") == "y");
  CHECK(test::read_bytes(folder / "out" / "file") == "x");

  fs::create_symlink("nothing", folder / "dangling");
  const std::string problem = " is a link to nothing, expected a new or an empty folder";
  CHECK_ERROR(NewFolder("test", folder / "dangling"), "test: " + (folder / "dangling").string() + problem);
  CHECK_ERROR(NewFolder("test", folder / "dangling/"), "test: " + (folder / "dangling/").string() + problem);
  CHECK(test::count_entries(folder.path()) == 3);
}

TEST_CASE("harness files: what cannot be moved up is not left half moved") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  {
    NewFolder made("test", folder / "out");
    for (const char* name : {"a", "b", "c"}) {
      fs::create_directory(made.temporary() / name);
      test::write_bytes(made.temporary() / name / "file", name);
    }
    fs::create_directory(folder / "out" / "b");  // somebody else's
    test::write_bytes(folder / "out" / "b" / "file", "theirs");
    const std::string error = test::error_of([&] { made.commit(); });
    CHECK(error.find("test: " + (folder / "out" / "b").string() + " cannot be made: ") == 0);
  }
  CHECK(test::count_entries(folder / "out") == 1);
  CHECK(test::read_bytes(folder / "out" / "b" / "file") == "theirs");
}

}  // namespace
}  // namespace deltatape

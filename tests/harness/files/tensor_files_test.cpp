#include "harness/files/tensor_files.h"

#include <doctest/doctest.h>

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
    CHECK(test::count_entries(folder / "out") == 0);
    made.commit();
  }
  CHECK(test::count_entries(folder.path()) == 1);
  CHECK(test::read_bytes(folder / "out" / "file") == "x");
  CHECK_ERROR(NewFolder("test", folder / "out"),
              "test: " + (folder / "out").string() + " has files in it, expected a new or an empty folder");
  CHECK_ERROR(NewFolder("test", folder / "out" / "file"),
              "test: " + (folder / "out" / "file").string() + " is a file, expected a new folder");
  CHECK(test::count_entries(folder.path()) == 1);
}

}  // namespace
}  // namespace deltatape

#include "tests/fuzz/readers.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "harness/files/case_set.h"
#include "harness/space.h"
#include "io/elements.h"
#include "io/memory_reader.h"
#include "io/npy_bytes.h"
#include "io/npz.h"
#include "io/safetensors.h"

namespace deltatape::test {
namespace {

// A fuzzer keeps what ends the program, whatever is thrown or returned.
void require(bool condition, const char* what) {
  if (!condition) {
    std::fprintf(stderr, "fuzz: %s\n", what);
    std::abort();
  }
}

// Reads every element, as bytes and as numbers.
void read_all(const Tensor& tensor) {
  require(tensor.defined() && tensor.is_contiguous(), "a reader gave a tensor that is not dense");
  const auto bytes = static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype());
  const std::string copy(static_cast<const char*>(tensor.raw()), bytes);
  require(copy.size() == bytes, "bytes are missing");
  require(tensor.to_vector<double>().size() == static_cast<size_t>(tensor.numel()), "elements are missing");
  for (size_t i = 0; tensor.dtype() == DType::boolean && i < bytes; ++i) {
    require(copy[i] == 0 || copy[i] == 1, "a bool is neither 0 nor 1");
  }
}

// Written back as .npy, the tensor reads the same.
void write_back(const Tensor& tensor) {
  const auto bytes = static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype());
  const std::string file = io::npy_header("fuzz", tensor) + std::string(static_cast<const char*>(tensor.raw()), bytes);
  io::MemoryReader reader("fuzz", "written back", file);
  const Tensor again = io::read_npy(reader).tensor;
  require(again.dtype() == tensor.dtype() && again.shape() == tensor.shape(), "written back, the type differs");
  require(bytes == 0 || std::memcmp(again.raw(), tensor.raw(), bytes) == 0, "written back, elements differ");
}

harness::Space every_kind_of_axis() {
  harness::Space space;
  space.choice("dtype", "", {"f32", "f64"}).integer("T", "", 1, 130).number("scale", "", {0.0, 0.25}).flag("h0", "");
  return space;
}

// The text of settings stands for the same settings.
void write_back(const harness::Space& space, const std::string& text) {
  harness::Settings settings;
  try {
    settings = space.parse(text);
  } catch (const Error&) {
    return;
  }
  require(space.parse(space.text(settings)) == settings, "written back, the settings differ");
}

}  // namespace

bool fuzz_npy(std::string_view bytes) {
  io::NpyArray array;
  try {
    io::MemoryReader reader("load_npy", "bytes", bytes);
    array = io::read_npy(reader);
  } catch (const Error&) {
    return false;
  }
  if (!array.text) {
    read_all(array.tensor);
    write_back(array.tensor);
  }
  return true;
}

bool fuzz_npz(std::string_view bytes) {
  io::Npz archive;
  try {
    archive = io::read_npz(bytes, "bytes");
  } catch (const Error&) {
    return false;
  }
  for (const auto& [name, tensor] : archive.tensors) {
    read_all(tensor);
  }
  return true;
}

bool fuzz_safetensors(std::string_view bytes) {
  io::SafeTensors file;
  try {
    io::MemoryReader reader("load_safetensors", "bytes", bytes);
    file = io::read_safetensors(reader);
  } catch (const Error&) {
    return false;
  }
  size_t total = 0;
  for (const auto& [name, tensor] : file.tensors) {
    read_all(tensor);
    total += static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype());
  }
  require(total <= bytes.size(), "there are more elements than bytes");
  return true;
}

bool fuzz_case(std::string_view bytes) {
  harness::CaseSet set;
  try {
    set = harness::parse_index("bytes", std::string(bytes));
  } catch (const Error&) {
    return false;
  }
  const harness::Space space = every_kind_of_axis();
  require(!set.cases.empty(), "an index without cases");
  for (const harness::CaseSet::Entry& entry : set.cases) {
    require(!entry.results.empty(), "a case without results");
    require(entry.name.find_first_of("/.") == std::string::npos, "the name of a case is a path");
    write_back(space, entry.text);
  }
  return true;
}

}  // namespace deltatape::test

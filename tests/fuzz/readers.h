// What the fuzz targets do with their bytes; a test does the same with every file of the kept corpus.
#pragma once

#include <string_view>

namespace deltatape::test {

/// Each reads the bytes as a file of its format. Either the reader throws Error, or every element of every tensor is
/// read, and what is written back reads the same. Any other exception goes on to the caller; a wrong result ends the
/// program. Returns whether the reader took the bytes.
bool fuzz_npy(std::string_view bytes);
bool fuzz_npz(std::string_view bytes);
bool fuzz_safetensors(std::string_view bytes);

}  // namespace deltatape::test

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

/// Reads the bytes as the index of a set of cases (`cases.json`), and the text of every case in it as settings of a
/// space with an axis of each kind: either an Error, or the text of the settings stands for the same settings again.
bool fuzz_case(std::string_view bytes);

}  // namespace deltatape::test

#pragma once

#include <string_view>

namespace deltatape {

/// What the library that runs was compiled for: on x86-64 the level, "x86-64" (SSE2), "x86-64-v3" (AVX2, FMA) or
/// "x86-64-v4" (AVX-512), elsewhere the name of the architecture, "aarch64" or "other". A portable build has several
/// such libraries, and the loader chooses.
std::string_view instruction_set();

/// Width in bits of the SIMD registers that it uses.
int vector_bits();

}  // namespace deltatape

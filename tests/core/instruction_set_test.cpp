#include "core/instruction_set.h"

#include <doctest/doctest.h>

using namespace deltatape;

TEST_CASE("instruction_set: the library's is that of this program, and fits the width of the vectors") {
  // Programs that include internal headers count on the first.
#ifdef __AVX512F__
  CHECK(vector_bits() == 512);
#elif defined(__AVX__)
  CHECK(vector_bits() == 256);
#else
  CHECK(vector_bits() == 128);
#endif
  CHECK((instruction_set() != "x86-64-v4" || vector_bits() == 512));
  CHECK((instruction_set() != "x86-64-v3" || vector_bits() >= 256));
  CHECK(!instruction_set().empty());
}

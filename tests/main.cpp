// The test program. Every tensor of it lies between guard zones and starts as NaN.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>

int main(int argc, char** argv) {
  setenv("DELTATAPE_CHECK_MEMORY", "1", 0);  // read by the library when the first tensor is allocated
  return doctest::Context(argc, argv).run();
}

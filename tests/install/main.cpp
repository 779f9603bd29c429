#include <cstdio>

#include "deltatape.h"

int main() {
  std::printf("deltatape %s\n", std::string(deltatape::version()).c_str());
  return 0;
}

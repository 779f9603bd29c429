#include <cstdio>
#include <string>

#include "deltatape.h"

int main() {
  std::printf("deltatape %s\n", std::string(deltatape::version()).c_str());
  std::printf("instruction_set %s\n", std::string(deltatape::instruction_set()).c_str());
  return 0;
}

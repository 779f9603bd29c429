// The README's program is the one that is compiled and run.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

std::string read(const std::string& name) {
  const char* folder = std::getenv("DELTATAPE_SOURCE_DIR");
  std::ifstream file(std::string(folder != nullptr ? folder : DELTATAPE_SOURCE_DIR) + "/" + name);
  REQUIRE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("README: its training loop is examples/readme_loop.cpp to the letter") {
  CHECK(read("README.md").find("```cpp\n" + read("examples/readme_loop.cpp") + "```\n") != std::string::npos);
}

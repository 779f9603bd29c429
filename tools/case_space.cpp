#include "tools/case_space.h"

#include <algorithm>

#include "harness/kda/kda.h"

namespace deltatape::tools {
namespace {

constexpr double kMostElements = 1e8;  // of all tensors of a case together

// A rough count, in floating point, where nothing overflows.
double count_elements(const harness::Settings& settings) {
  const auto size = [&](const char* name) { return static_cast<double>(settings.integer(name)); };
  const double heads = size("H") * size("group");
  const double states = size("B") + size("pieces");
  return heads * (size("K") + size("V") + size("chunk_size")) * size("B") * size("T") +
         heads * states * size("K") * size("V") + states;
}

std::string dtype_restriction(const std::string& list) {
  if (list == "all") {
    return "dtype=f64|f32|bf16|f16";
  }
  std::string values = list;
  std::replace(values.begin(), values.end(), ',', '|');
  return "dtype=" + values;
}

}  // namespace

harness::Space sized_kda_space() {
  harness::Space space = harness::kda_space();
  space.make([all = harness::kda_space()](const harness::Settings& settings) {
    const double elements = count_elements(settings);
    check(elements <= kMostElements, "case", "the tensors have about {:.0e} elements together, expected at most {:.0e}",
          elements, kMostElements);
    return all.make(settings);
  });
  return space;
}

std::string restrict_space(harness::Space& space, const std::string& dtypes, const std::string& axes) {
  std::string restriction = dtype_restriction(dtypes);
  naming("--dtype", [&] { space.restrict(restriction); });
  if (axes.empty()) {
    return restriction;
  }
  naming("--space", [&] { space.restrict(axes); });
  return restriction + "," + axes;
}

}  // namespace deltatape::tools

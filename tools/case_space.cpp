#include "tools/case_space.h"

#include <algorithm>

namespace deltatape::tools {
namespace {

std::string dtype_restriction(const std::string& list) {
  if (list == "all") {
    return "dtype=f64|f32|bf16|f16";
  }
  std::string values = list;
  std::replace(values.begin(), values.end(), ',', '|');
  return "dtype=" + values;
}

}  // namespace

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

#include "harness/shrink.h"

#include <algorithm>

namespace deltatape::harness {

Shrunk shrink(const Space& space, const Settings& settings, const std::function<bool(const Settings&)>& fails,
              const std::function<bool()>& goes_on) {
  Shrunk result{.settings = settings};
  std::vector<Settings> seen = {settings};  // mended settings may come back
  bool smaller = true;
  while (smaller) {
    smaller = false;
    for (const Settings& step : space.simpler(result.settings)) {
      if (!goes_on()) {
        return result;
      }
      if (std::find(seen.begin(), seen.end(), step) != seen.end()) {
        continue;
      }
      seen.push_back(step);
      ++result.tried;
      if (fails(step)) {
        result.settings = step;
        smaller = true;
        break;
      }
    }
  }
  return result;
}

}  // namespace deltatape::harness

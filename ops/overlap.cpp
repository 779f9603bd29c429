#include "ops/overlap.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace deltatape {

bool elements_are_distinct(const Tensor& x) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (int d = 0; d < x.rank(); ++d) {
    if (x.shape()[d] == 0) {
      return true;
    }
    if (x.shape()[d] > 1) {
      dims.emplace_back(std::abs(x.strides()[d]), x.shape()[d]);
    }
  }
  std::sort(dims.begin(), dims.end());
  int64_t reach = 0;  // the farthest element that the dimensions so far lead to
  for (const auto& [stride, size] : dims) {
    if (stride <= reach) {
      return false;
    }
    reach += stride * (size - 1);
  }
  return true;
}

}  // namespace deltatape

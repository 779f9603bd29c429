#include "ops/sequences.h"

#include <algorithm>

#include "ops/checks.h"
#include "ops/convert.h"

namespace deltatape {

std::vector<int64_t> checked_cu_seqlens(std::string_view function, const Tensor& cu_seqlens, int64_t batch,
                                        int64_t steps) {
  check_defined(function, "cu_seqlens", cu_seqlens);
  check_index(function, "cu_seqlens", cu_seqlens);
  check_rank(function, "cu_seqlens", cu_seqlens, 1, "[N + 1]");
  check(cu_seqlens.numel() >= 2, function, "cu_seqlens has shape {}, expected [N + 1] with at least one sequence",
        cu_seqlens.shape());
  check(batch == 1, function, "the batch size is {}, expected B = 1 with cu_seqlens", batch);

  std::vector<int64_t> bounds = to(cu_seqlens, Device::cpu()).to_vector<int64_t>();
  check(bounds.front() == 0, function, "cu_seqlens starts with {}, expected 0", bounds.front());
  const auto fall = std::adjacent_find(bounds.begin(), bounds.end(), [](int64_t a, int64_t b) { return b < a; });
  if (fall != bounds.end()) {
    fail(function, "cu_seqlens falls from {} to {} at entry {}, expected a non-decreasing list", fall[0], fall[1],
         fall - bounds.begin() + 1);
  }
  check(bounds.back() == steps, function, "cu_seqlens ends with {}, expected T = {}", bounds.back(), steps);
  return bounds;
}

Tensor sequence_starts(const std::vector<int64_t>& bounds, Device device) {
  std::vector<int64_t> starts(static_cast<size_t>(bounds.back()));
  for (size_t n = 0; n + 1 < bounds.size(); ++n) {
    std::fill(starts.begin() + bounds[n], starts.begin() + bounds[n + 1], bounds[n]);
  }
  return to(from_vector(starts, {1, bounds.back()}), device);
}

}  // namespace deltatape

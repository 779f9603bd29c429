// Sums of the log decay along the tokens of a chunk.
#include <vector>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/chunk_layout.h"
#include "ops/kda/gate.h"
#include "ops/kda/gate_parts.h"
#include "ops/sequences.h"

namespace deltatape::kda {
namespace {

/// Where the chunks of x [B,T,..] start, and T. Throws Error in the name of `function` for a chunk_size or cu_seqlens
/// that do not fit.
Tensor chunk_starts(std::string_view function, const Tensor& x, int64_t chunk_size, const Tensor& cu_seqlens) {
  check_chunk_size(function, chunk_size);
  const std::vector<int64_t> bounds = cu_seqlens.defined()
                                          ? checked_cu_seqlens(function, cu_seqlens, x.size(0), x.size(1))
                                          : std::vector<int64_t>{0, x.size(1)};
  std::vector<int64_t> starts;
  for (size_t n = 0; n + 1 < bounds.size(); ++n) {
    for (int64_t start = bounds[n]; start < bounds[n + 1]; start += chunk_size) {
      starts.push_back(start);
    }
  }
  starts.push_back(x.size(1));
  return from_vector(starts);
}

/// Sums of x [B,T,..] that restart at `starts` [N+1].
Tensor sums_between(const Tensor& starts, const Tensor& x, bool reverse) {
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).chunk_cumsum(contiguous(x.detach()), starts, reverse, out);
  return record("kda::chunk_cumsum", std::move(out), {x}, [starts, reverse](const RuleContext& c) {
    return Gradients{sums_between(starts, c.grad(0), !reverse)};
  });
}

}  // namespace

Tensor chunk_cumsum(const Tensor& x, int64_t chunk_size, const Tensor& cu_seqlens, bool reverse) {
  constexpr std::string_view kName = "kda::chunk_cumsum";
  check_defined(kName, "x", x);
  check_rank(kName, "x", x, 4, "[B, T, HV, K]");
  check_floating(kName, "x", x);
  return sums_between(chunk_starts(kName, x, chunk_size, cu_seqlens), computed_gate(x), reverse);
}

Tensor gate_cumsum(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound,
                   int64_t chunk_size, const Tensor& cu_seqlens, bool reverse) {
  constexpr std::string_view kName = "kda::gate_cumsum";
  check_gate(kName, gate, g, A_log, dt_bias, lower_bound);
  const Tensor starts = chunk_starts(kName, g, chunk_size, cu_seqlens);
  const Tensor log_decay =
      apply_gate(gate, computed_gate(g), computed_gate(A_log), computed_gate(dt_bias), lower_bound);
  return sums_between(starts, log_decay, reverse);
}

}  // namespace deltatape::kda

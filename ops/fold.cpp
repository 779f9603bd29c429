#include "ops/fold.h"

#include <utility>
#include <vector>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/views.h"

namespace deltatape {
namespace {

// [N, size] as one dimension: where entry j of window n belongs.
std::vector<int64_t> places(int64_t windows, int64_t size, int64_t step) {
  std::vector<int64_t> index;
  index.reserve(static_cast<size_t>(windows * size));
  for (int64_t n = 0; n < windows; ++n) {
    for (int64_t j = 0; j < size; ++j) {
      index.push_back(n * step + j);
    }
  }
  return index;
}

Tensor sum_windows(const Tensor& x, int dim, int64_t length, int64_t step) {
  const NoGradGuard guard;
  Shape beside = Shape::filled(x.rank(), 0);  // x's dimensions with the last one moved next to `dim`
  for (int d = 0; d < x.rank(); ++d) {
    beside[d] = d <= dim ? d : d == dim + 1 ? x.rank() - 1 : d - 1;
  }
  const Tensor entries = flatten(permute(x, beside), dim, dim + 1);  // [.., N * size, ..]
  const Tensor index = to(from_vector(places(x.shape()[dim], x.shape().back(), step)), x.device());
  Shape shape = entries.shape();
  shape[dim] = length;
  Tensor out = zeros(shape, x.options());
  backend_of(x).index_add(entries, dim, index, out);
  return out;
}

}  // namespace

Tensor fold(const Tensor& x, int64_t dim, int64_t length, int64_t step) {
  check_defined("fold", "x", x);
  check_rank_at_least("fold", "x", x, 2, "[.., N, .., size]");
  check(step >= 1, "fold", "step is {}, expected 1 or more", step);
  const int d = normalize_dim("fold", "dim", dim, x.rank() - 1);
  const int64_t size = x.shape().back();
  check(size >= 1 && size <= length && (length - size) / step + 1 == x.shape()[d], "fold",
        "x has shape {}, expected the windows of a dimension of {} entries, {} apart, in dimension {}", x.shape(),
        length, step, d);
  return record("fold", sum_windows(x, d, length, step), std::span(&x, 1),
                [d, size, step](const RuleContext& c) { return Gradients{unfold(c.grad(0), d, size, step)}; });
}

}  // namespace deltatape

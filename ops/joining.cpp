#include "ops/joining.h"

#include <numeric>
#include <string>
#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/views.h"

namespace deltatape {
namespace {

// Checks what cat and stack share: every tensor fits the first in rank, dtype and device, and in all sizes but `dim`.
void check_alike(std::string_view function, const std::vector<Tensor>& tensors, int dim) {
  const Tensor& first = tensors[0];
  for (size_t i = 1; i < tensors.size(); ++i) {
    const Tensor& x = tensors[i];
    Shape expected = first.shape();
    if (dim >= 0 && x.defined() && x.rank() == first.rank()) {
      expected[dim] = x.shape()[dim];
    }
    if (!x.defined() || !(x.device() == first.device()) || x.dtype() != first.dtype() || !(x.shape() == expected)) {
      const std::string argument = fmt::format("tensors[{}]", i);
      check_defined(function, argument, x);
      check_same_device(function, argument, x, first);
      check_same_dtype(function, argument, x, first);
      if (dim < 0) {
        check_shape(function, argument, x, expected);
      }
      fail(function, "{} has shape {}, expected {} but for dimension {}", argument, x.shape(), first.shape(), dim);
    }
  }
}

void check_some(std::string_view function, const std::vector<Tensor>& tensors) {
  check(!tensors.empty(), function, "tensors is empty, expected at least one");
  check_defined(function, "tensors[0]", tensors[0]);
}

// The part of `x` that begins at entry `start` of `dim` and has `size` entries; no history.
Tensor part(const Tensor& x, int dim, int64_t start, int64_t size) {
  Shape shape = x.shape();
  shape[dim] = size;
  return x.as_view(shape, x.strides(), size > 0 ? x.offset() + start * x.strides()[dim] : x.offset());
}

// Entry `index` of `dim`, which disappears; no history.
Tensor entry(const Tensor& x, int dim, int64_t index) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(dim);
  strides.erase(dim);
  return x.as_view(shape, strides, x.offset() + index * x.strides()[dim]);
}

// The gradients of the pieces of something, zeros for those that nothing depends on.
std::vector<Tensor> all_gradients(const RuleContext& c, size_t count) {
  std::vector<Tensor> gradients;
  gradients.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    gradients.push_back(c.grad(i));
  }
  return gradients;
}

}  // namespace

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  check_some("cat", tensors);
  check_rank_at_least("cat", "tensors[0]", tensors[0], 1);
  const int d = normalize_dim("cat", "dim", dim, tensors[0].rank());
  check_alike("cat", tensors, d);
  std::vector<int64_t> sizes;
  sizes.reserve(tensors.size());
  for (const Tensor& x : tensors) {
    sizes.push_back(x.shape()[d]);
  }
  Shape shape = tensors[0].shape();
  shape[d] = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  Tensor out = empty(shape, tensors[0].options());
  int64_t start = 0;
  for (const Tensor& x : tensors) {
    backend_of(out).copy(x, part(out, d, start, x.shape()[d]));
    start += x.shape()[d];
  }
  return record("cat", std::move(out), tensors,
                [sizes = std::move(sizes), d](const RuleContext& c) { return split(c.grad(0), sizes, d); });
}

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim) {
  check_some("stack", tensors);
  const int rank = tensors[0].rank() + 1;
  check(dim >= -rank && dim < rank, "stack", "dim is {}, expected -{} to {} for tensors of rank {}", dim, rank,
        rank - 1, rank - 1);
  const int d = static_cast<int>(dim < 0 ? dim + rank : dim);
  check_alike("stack", tensors, -1);
  Shape shape = tensors[0].shape();
  shape.insert(d, static_cast<int64_t>(tensors.size()));
  Tensor out = empty(shape, tensors[0].options());
  int64_t index = 0;
  for (const Tensor& x : tensors) {
    backend_of(out).copy(x, entry(out, d, index++));
  }
  return record("stack", std::move(out), tensors, [d](const RuleContext& c) { return unbind(c.grad(0), d); });
}

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim) {
  check_defined("split", "x", x);
  const int d = normalize_dim("split", "dim", dim, x.rank());
  for (const int64_t size : sizes) {
    check(size >= 0 && size <= x.shape()[d], "split", "a size is {}, expected 0 to {}", size, x.shape()[d]);
  }
  const int64_t total = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  check(total == x.shape()[d], "split", "sizes add up to {}, expected {}, the size of dimension {}", total,
        x.shape()[d], d);
  std::vector<Tensor> pieces;
  pieces.reserve(sizes.size());
  int64_t start = 0;
  for (const int64_t size : sizes) {
    pieces.push_back(part(x, d, start, size));
    start += size;
  }
  record_all("split", pieces, std::span(&x, 1),
             [d, count = sizes.size()](const RuleContext& c) { return Gradients{cat(all_gradients(c, count), d)}; });
  return pieces;
}

std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t dim) {
  check_defined("split", "x", x);
  check(size >= 1, "split", "size is {}, expected 1 or more", size);
  const int64_t length = x.shape()[normalize_dim("split", "dim", dim, x.rank())];
  std::vector<int64_t> sizes(static_cast<size_t>(length / size), size);
  if (length % size != 0 || length == 0) {
    sizes.push_back(length % size);
  }
  return split(x, sizes, dim);
}

std::vector<Tensor> unbind(const Tensor& x, int64_t dim) {
  check_defined("unbind", "x", x);
  const int d = normalize_dim("unbind", "dim", dim, x.rank());
  const int64_t count = x.shape()[d];
  std::vector<Tensor> entries;
  entries.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    entries.push_back(entry(x, d, i));
  }
  record_all("unbind", entries, std::span(&x, 1), [d, count](const RuleContext& c) {
    return Gradients{stack(all_gradients(c, static_cast<size_t>(count)), d)};
  });
  return entries;
}

}  // namespace deltatape

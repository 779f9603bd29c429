#include "ops/views.h"

#include <algorithm>
#include <array>
#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/fold.h"
#include "ops/reduction.h"

namespace deltatape {
namespace {

// Replaces a size of -1 by what the others leave.
Shape infer_sizes(const Tensor& x, const Shape& shape) {
  Shape out = shape;
  int unknown = -1;
  int64_t known = 1;
  for (int d = 0; d < shape.rank(); ++d) {
    check(shape[d] >= -1, "reshape", "shape is {}, expected sizes of 0 or more, or one of -1", shape);
    if (shape[d] == -1) {
      check(unknown < 0, "reshape", "shape is {}, expected at most one size of -1", shape);
      unknown = d;
    } else {
      check(!__builtin_mul_overflow(known, shape[d], &known), "reshape", "shape is {}, expected {} elements as in {}",
            shape, x.numel(), x.shape());
    }
  }
  const int64_t numel = x.numel();
  if (unknown >= 0) {
    check(known > 0 && numel % known == 0, "reshape", "shape is {}, expected sizes that divide the {} elements of {}",
          shape, numel, x.shape());
    out[unknown] = numel / known;
  } else {
    check(known == numel, "reshape", "shape is {}, expected {} elements as in {}", shape, numel, x.shape());
  }
  return out;
}

// The strides with which `shape` shows the elements of `x` in the same order; none where no strides do. Runs of x's
// dimensions that are dense among themselves are cut anew, from the innermost outwards.
std::optional<Strides> strides_for(const Tensor& x, const Shape& shape) {
  if (x.is_contiguous() || x.numel() == 0) {
    return contiguous_strides(shape);
  }
  Strides strides = Shape::filled(shape.rank(), 1);
  int to = shape.rank() - 1;
  int64_t run_stride = x.rank() > 0 ? x.strides().back() : 1;
  int64_t run_size = 1;
  for (int from = x.rank() - 1; from >= 0; --from) {
    run_size *= x.shape()[from];
    const bool ends = from == 0 || (x.shape()[from - 1] != 1 && x.strides()[from - 1] != run_size * run_stride);
    if (!ends) {
      continue;
    }
    int64_t filled = 1;
    while (to >= 0 && (filled < run_size || shape[to] == 1)) {
      strides[to] = filled * run_stride;
      filled *= shape[to];
      --to;
    }
    if (filled != run_size) {
      return std::nullopt;
    }
    if (from > 0) {
      run_stride = x.strides()[from - 1];
      run_size = 1;
    }
  }
  return strides;
}

// A Slice with its bounds inside the dimension: entries start, start + step, ..., `count` of them.
struct Range {
  int64_t start;
  int64_t step;
  int64_t count;
};

Range resolve(std::string_view function, const Slice& range, int64_t size) {
  check(range.step >= 1, function, "step is {}, expected 1 or more", range.step);
  auto inside = [size](int64_t bound) { return std::clamp<int64_t>(bound < 0 ? bound + size : bound, 0, size); };
  const int64_t start = inside(range.start.value_or(0));
  const int64_t stop = inside(range.stop.value_or(size));
  return {start, range.step, stop > start ? (stop - start - 1) / range.step + 1 : 0};
}

Tensor range_view(const Tensor& x, int dim, const Range& range) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape[dim] = range.count;
  const int64_t offset = range.count > 0 ? x.offset() + range.start * strides[dim] : x.offset();
  if (range.count > 1) {
    strides[dim] *= range.step;
  }
  return x.as_view(shape, strides, offset);
}

Tensor without_dim(const Tensor& x, int dim, int64_t offset) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(dim);
  strides.erase(dim);
  return x.as_view(shape, strides, offset);
}

void check_countable(std::string_view function, const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    check(!__builtin_mul_overflow(count, size, &count), function, "the shape {} has more elements than int64_t holds",
          shape);
  }
}

Tensor expand_to(const Tensor& x, const Shape& shape) {
  const int lead = shape.rank() - x.rank();
  Strides strides = Shape::filled(shape.rank(), 0);
  for (int d = 0; d < x.rank(); ++d) {
    strides[d + lead] = x.shape()[d] == shape[d + lead] ? x.strides()[d] : 0;
  }
  return record("expand", x.as_view(shape, strides, x.offset()), std::span(&x, 1),
                [from = x.shape()](const RuleContext& c) { return Gradients{sum_to(c.grad(0), from)}; });
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check_defined("reshape", "x", x);
  const Shape sizes = infer_sizes(x, shape);
  const std::optional<Strides> strides = strides_for(x, sizes);
  Tensor out;
  if (strides) {
    out = x.as_view(sizes, *strides, x.offset());
  } else {
    out = empty(sizes, x.options());
    backend_of(x).copy(x, out.as_view(x.shape(), contiguous_strides(x.shape()), 0));
  }
  return record("reshape", std::move(out), std::span(&x, 1),
                [from = x.shape()](const RuleContext& c) { return Gradients{reshape(c.grad(0), from)}; });
}

Tensor flatten(const Tensor& x, int64_t first, int64_t last) {
  check_defined("flatten", "x", x);
  if (x.rank() == 0) {
    for (const int64_t dim : {first, last}) {
      check(dim == 0 || dim == -1, "flatten", "{} is {}, expected 0 or -1 for rank 0", dim == first ? "first" : "last",
            dim);
    }
    return reshape(x, {1});
  }
  const int begin = normalize_dim("flatten", "first", first, x.rank());
  const int end = normalize_dim("flatten", "last", last, x.rank());
  check(begin <= end, "flatten", "first is {} and last is {}, expected first <= last", first, last);
  Shape shape;
  for (int d = 0; d < x.rank(); ++d) {
    if (d <= begin || d > end) {
      shape.push_back(x.shape()[d]);
    } else {
      shape[begin] *= x.shape()[d];
    }
  }
  return reshape(x, shape);
}

Tensor permute(const Tensor& x, const Shape& dims) {
  check_defined("permute", "x", x);
  check(dims.rank() == x.rank(), "permute", "dims is {}, expected {} dimensions", dims, x.rank());
  Shape shape = x.shape();
  Strides strides = x.strides();
  Shape inverse = Shape::filled(x.rank(), -1);
  for (int d = 0; d < x.rank(); ++d) {
    const int from = normalize_dim("permute", "an entry of dims", dims[d], x.rank());
    check(inverse[from] < 0, "permute", "dims is {}, expected each dimension once", dims);
    inverse[from] = d;
    shape[d] = x.shape()[from];
    strides[d] = x.strides()[from];
  }
  return record("permute", x.as_view(shape, strides, x.offset()), std::span(&x, 1),
                [inverse](const RuleContext& c) { return Gradients{permute(c.grad(0), inverse)}; });
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  check_defined("transpose", "x", x);
  const int a = normalize_dim("transpose", "dim0", dim0, x.rank());
  const int b = normalize_dim("transpose", "dim1", dim1, x.rank());
  Shape shape = x.shape();
  Strides strides = x.strides();
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return record("transpose", x.as_view(shape, strides, x.offset()), std::span(&x, 1),
                [a, b](const RuleContext& c) { return Gradients{transpose(c.grad(0), a, b)}; });
}

Tensor slice(const Tensor& x, int64_t dim, const Slice& range) {
  check_defined("slice", "x", x);
  const int d = normalize_dim("slice", "dim", dim, x.rank());
  Tensor out = range_view(x, d, resolve("slice", range, x.shape()[d]));
  return record("slice", std::move(out), std::span(&x, 1), [from = x.shape(), d, range](const RuleContext& c) {
    return Gradients{embed_slice(c.grad(0), from, d, range)};
  });
}

Tensor embed_slice(const Tensor& x, const Shape& shape, int64_t dim, const Slice& range) {
  check_defined("embed_slice", "x", x);
  const int d = normalize_dim("embed_slice", "dim", dim, shape.rank());
  const Range inside = resolve("embed_slice", range, shape[d]);
  Shape expected = shape;
  expected[d] = inside.count;
  check_shape("embed_slice", "x", x, expected);
  Tensor out = zeros(shape, x.options());
  backend_of(x).copy(x, range_view(out, d, inside));
  return record("embed_slice", std::move(out), std::span(&x, 1),
                [d, range](const RuleContext& c) { return Gradients{slice(c.grad(0), d, range)}; });
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  check_defined("select", "x", x);
  const int d = normalize_dim("select", "dim", dim, x.rank());
  const int64_t size = x.shape()[d];
  check(index >= -size && index < size, "select", "index is {}, expected -{} to {} for size {}", index, size, size - 1,
        size);
  const int64_t entry = index < 0 ? index + size : index;
  Tensor out = without_dim(x, d, x.offset() + entry * x.strides()[d]);
  return record("select", std::move(out), std::span(&x, 1), [from = x.shape(), d, entry](const RuleContext& c) {
    return Gradients{embed_slice(unsqueeze(c.grad(0), d), from, d, Slice{entry, entry + 1})};
  });
}

Tensor squeeze(const Tensor& x, int64_t dim) {
  check_defined("squeeze", "x", x);
  const int d = normalize_dim("squeeze", "dim", dim, x.rank());
  check(x.shape()[d] == 1, "squeeze", "dimension {} has size {}, expected 1", d, x.shape()[d]);
  return record("squeeze", without_dim(x, d, x.offset()), std::span(&x, 1),
                [d](const RuleContext& c) { return Gradients{unsqueeze(c.grad(0), d)}; });
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  check_defined("unsqueeze", "x", x);
  const int rank = x.rank() + 1;
  check(dim >= -rank && dim < rank, "unsqueeze", "dim is {}, expected -{} to {} for a tensor of rank {}", dim, rank,
        x.rank(), x.rank());
  const int d = static_cast<int>(dim < 0 ? dim + rank : dim);
  Shape shape = x.shape();
  Strides strides = x.strides();
  strides.insert(d, d < x.rank() ? shape[d] * strides[d] : 1);
  shape.insert(d, 1);
  return record("unsqueeze", x.as_view(shape, strides, x.offset()), std::span(&x, 1),
                [d](const RuleContext& c) { return Gradients{squeeze(c.grad(0), d)}; });
}

Tensor expand(const Tensor& x, const Shape& shape) {
  check_defined("expand", "x", x);
  Shape sizes = shape;
  const int lead = shape.rank() - x.rank();
  for (int d = std::max(lead, 0); d < shape.rank(); ++d) {
    if (sizes[d] == -1) {
      sizes[d] = x.shape()[d - lead];
    }
  }
  const bool valid = std::all_of(sizes.begin(), sizes.end(), [](int64_t size) { return size >= 0; });
  check(valid && broadcasts_to(x.shape(), sizes), "expand", "x has shape {}, expected a shape that broadcasts to {}",
        x.shape(), shape);
  check_countable("expand", sizes);
  return expand_to(x, sizes);
}

Tensor flip(const Tensor& x, const Shape& dims) {
  check_defined("flip", "x", x);
  Strides strides = x.strides();
  int64_t offset = x.offset();
  std::array<bool, kMaxRank> seen{};
  for (const int64_t dim : dims) {
    const int d = normalize_dim("flip", "an entry of dims", dim, x.rank());
    check(!seen[static_cast<size_t>(d)], "flip", "dims is {}, expected distinct dimensions", dims);
    seen[static_cast<size_t>(d)] = true;
    if (x.shape()[d] > 0) {
      offset += (x.shape()[d] - 1) * strides[d];
      strides[d] = -strides[d];
    }
  }
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).copy(x.as_view(x.shape(), strides, offset), out);
  return record("flip", std::move(out), std::span(&x, 1),
                [dims](const RuleContext& c) { return Gradients{flip(c.grad(0), dims)}; });
}

Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step) {
  check_defined("unfold", "x", x);
  const int d = normalize_dim("unfold", "dim", dim, x.rank());
  const int64_t length = x.shape()[d];
  check(size >= 1 && size <= length, "unfold", "size is {}, expected 1 to {}", size, length);
  check(step >= 1, "unfold", "step is {}, expected 1 or more", step);
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape[d] = (length - size) / step + 1;
  shape.push_back(size);
  strides.push_back(strides[d]);
  if (shape[d] > 1) {
    strides[d] *= step;
  }
  return record("unfold", x.as_view(shape, strides, x.offset()), std::span(&x, 1),
                [d, length, step](const RuleContext& c) { return Gradients{fold(c.grad(0), d, length, step)}; });
}

Broadcasted broadcast_together(std::string_view function, const Tensor& a, const Tensor& b) {
  check_defined(function, "a", a);
  check_defined(function, "b", b);
  check_same_device(function, "b", b, a);
  const bool same_shape = a.shape() == b.shape();
  if (same_shape && a.dtype() == b.dtype()) [[likely]] {
    return {a, b};
  }
  const Shape shape = same_shape ? a.shape() : broadcast_shapes(function, a.shape(), b.shape());
  const DType dtype = promote(a.dtype(), b.dtype());
  check_countable(function, shape);
  auto align = [&](const Tensor& x) {
    const Tensor converted = to(x, dtype);
    return x.shape() == shape ? converted : expand_to(converted, shape);
  };
  return {align(a), align(b)};
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  check_defined("sum_to", "x", x);
  if (x.shape() == shape) {
    return x;
  }
  check(broadcasts_to(shape, x.shape()), "sum_to", "shape is {}, expected a shape that broadcasts to {}", shape,
        x.shape());
  const int lead = x.rank() - shape.rank();
  Shape dims;
  bool leading_only = true;
  for (int d = 0; d < x.rank(); ++d) {
    const bool stretched = d >= lead && shape[d - lead] != x.shape()[d];
    if (d < lead || stretched) {
      dims.push_back(d);
      leading_only = leading_only && !stretched;
    }
  }
  if (leading_only) {
    return sum(x, dims);
  }
  Tensor summed = sum(x, dims, true);
  return lead == 0 ? summed : reshape(summed, shape);
}

Tensor Tensor::operator[](int64_t index) const { return select(*this, 0, index); }
Tensor Tensor::operator[](const Slice& range) const { return slice(*this, 0, range); }

}  // namespace deltatape

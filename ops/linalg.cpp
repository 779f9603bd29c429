#include "ops/linalg.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape {
namespace {

// Leading dimensions of two tensors that one stride each can walk through.
struct BatchGroup {
  int64_t size = 1;
  int64_t a_stride = 0;
  int64_t b_stride = 0;
};

struct BatchGroups {
  std::array<BatchGroup, kMaxRank> groups;  // innermost first
  int count = 0;
};

// Joins neighbouring leading dimensions wherever both tensors allow it. The sizes of both are equal.
BatchGroups joined_batch(const Tensor& a, const Tensor& b) {
  BatchGroups batch;
  BatchGroup* last = nullptr;
  for (int d = a.rank() - 3; d >= 0; --d) {
    const int64_t size = a.shape()[d];
    const int64_t a_stride = a.strides()[d];
    const int64_t b_stride = b.strides()[d];
    if (size == 1) {
      continue;
    }
    if (last != nullptr && a_stride == last->a_stride * last->size && b_stride == last->b_stride * last->size) {
      last->size *= size;
    } else {
      last = &batch.groups[static_cast<size_t>(batch.count++)];
      *last = {size, a_stride, b_stride};
    }
  }
  batch.count = std::max(batch.count, 1);
  return batch;
}

Tensor as_batch(const Tensor& x, const BatchGroup& group, int64_t batch_stride, int64_t offset) {
  const int r = x.rank();
  return x.as_view({group.size, x.shape()[r - 2], x.shape()[r - 1]},
                   {batch_stride, x.strides()[r - 2], x.strides()[r - 1]}, offset);
}

// Calls kernel(a3, b3, out3) with views [batch, rows, columns] that together cover a, b and the dense `out`, whose
// leading sizes are equal. One call where one stride leads through all leading dimensions; nothing is copied.
template <class Kernel>
void for_each_batch(const Tensor& a, const Tensor& b, const Tensor& out, const Kernel& kernel) {
  const BatchGroups batch = joined_batch(a, b);
  const BatchGroup& inner = batch.groups[0];
  const int64_t matrix = out.shape()[out.rank() - 2] * out.shape()[out.rank() - 1];
  if (out.numel() == 0) {
    return;
  }
  std::array<int64_t, kMaxRank> index{};
  int64_t a_offset = a.offset();
  int64_t b_offset = b.offset();
  int64_t out_offset = out.offset();
  while (true) {
    kernel(as_batch(a, inner, inner.a_stride, a_offset), as_batch(b, inner, inner.b_stride, b_offset),
           as_batch(out, inner, matrix, out_offset));
    out_offset += inner.size * matrix;
    int g = 1;
    for (; g < batch.count; ++g) {
      const auto at = static_cast<size_t>(g);
      const BatchGroup& group = batch.groups[at];
      a_offset += group.a_stride;
      b_offset += group.b_stride;
      if (++index[at] < group.size) {
        break;
      }
      a_offset -= group.a_stride * group.size;
      b_offset -= group.b_stride * group.size;
      index[at] = 0;
    }
    if (g >= batch.count) {
      return;
    }
  }
}

Shape leading(const Shape& shape) {
  return Shape(std::span<const int64_t>(shape.begin(), static_cast<size_t>(shape.rank() - 2)));
}

// x with these leading dimensions; x itself when it has them.
Tensor with_leading(const Tensor& x, Shape shape) {
  shape.push_back(x.size(-2));
  shape.push_back(x.size(-1));
  return x.shape() == shape ? x : expand(x, shape);
}

int64_t row_count(const Tensor& x) { return leading(x.shape()).numel() * x.size(-2); }

// x [.., M, K] as one matrix [R, K]; a copy where strides ask for it.
Tensor as_rows(const Tensor& x) { return x.rank() == 2 ? x : reshape(x, {row_count(x), x.size(-1)}); }

// The stride that walks through all dimensions of x but the last, if there is one.
std::optional<int64_t> uniform_row_stride(const Tensor& x) {
  int64_t rows = 1;
  int64_t stride = x.shape().back();
  for (int d = x.rank() - 2; d >= 0; --d) {
    if (x.shape()[d] == 1) {
      continue;
    }
    if (rows == 1) {
      stride = x.strides()[d];
    } else if (x.strides()[d] != stride * rows) {
      return std::nullopt;
    }
    rows *= x.shape()[d];
  }
  return stride;
}

// x [.., R, C] seen as [1, rows, C].
Tensor as_one_matrix(const Tensor& x, int64_t rows, int64_t row_stride) {
  return x.as_view({1, rows, x.shape().back()}, {0, row_stride, x.strides()[x.rank() - 1]}, x.offset());
}

// out = a b for a [.., M, K] and b either [K, N] or with a's leading sizes.
void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  const Backend& backend = backend_of(a);
  const auto kernel = [&](const Tensor& x, const Tensor& y, const Tensor& z) { backend.matmul(x, y, z); };
  if (b.rank() > 2) {
    for_each_batch(a, b, out, kernel);
    return;
  }
  const std::optional<int64_t> row_stride = uniform_row_stride(a);
  if (row_stride.has_value()) {  // one large product instead of a batch of small ones
    const int64_t rows = row_count(out);
    kernel(as_one_matrix(a, rows, *row_stride), as_one_matrix(b, b.shape()[0], b.strides()[0]),
           as_one_matrix(out, rows, out.shape().back()));
    return;
  }
  Shape shape = leading(a.shape());
  Strides strides = Shape::filled(shape.rank(), 0);
  for (const int d : {0, 1}) {
    shape.push_back(b.shape()[d]);
    strides.push_back(b.strides()[d]);
  }
  for_each_batch(a, b.as_view(shape, strides, b.offset()), out, kernel);
}

// The recorded product, for arguments as `multiply` has them.
Tensor product(const Tensor& a, const Tensor& b) {
  Shape shape = a.shape();
  shape[shape.rank() - 1] = b.shape().back();
  Tensor out = empty(shape, a.options());
  multiply(a, b, out);
  const bool one_matrix = b.rank() == 2;
  return record("matmul", std::move(out), {a, b},
                [a = Saved(b.requires_grad() ? a : Tensor()), b = Saved(a.requires_grad() ? b : Tensor()),
                 one_matrix](const RuleContext& c) {
                  const Tensor& dy = c.grad(0);
                  Gradients gradients(2);
                  if (c.needs_grad(0)) {
                    gradients[0] = product(dy, transpose(b, -2, -1));
                  }
                  if (c.needs_grad(1)) {
                    const Tensor x = one_matrix ? as_rows(a) : a.get();
                    gradients[1] = product(transpose(x, -2, -1), one_matrix ? as_rows(dy) : dy);
                  }
                  return gradients;
                });
}

// The shape that the leading dimensions of a and b share.
Shape common_leading(std::string_view function, const Tensor& a, const Tensor& b) {
  const Shape x = leading(a.shape());
  const Shape y = leading(b.shape());
  for (int d = 1; d <= std::min(x.rank(), y.rank()); ++d) {
    const int64_t m = x[x.rank() - d];
    const int64_t n = y[y.rank() - d];
    check(m == n || m == 1 || n == 1, function,
          "b has shape {}, expected leading dimensions that broadcast with those of a, {}", b.shape(), a.shape());
  }
  return broadcast_shapes(function, x, y);
}

void check_inner_size(const Tensor& a, const Tensor& b) {
  const int64_t inner = a.shape().back();
  if (b.rank() == 1) {
    check(b.shape()[0] == inner, "matmul", "b has shape {}, expected [{}] for a of shape {}", b.shape(), inner,
          a.shape());
  } else {
    check(b.size(-2) == inner, "matmul", "b has shape {}, expected [.., {}, N] for a of shape {}", b.shape(), inner,
          a.shape());
  }
}

Tensor triangle(std::string_view name, const Tensor& x, bool lower, int64_t diagonal) {
  check_defined(name, "x", x);
  check_rank_at_least(name, "x", x, 2, "[.., M, N]");
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).triangle(x, lower, diagonal, out);
  return record(name, std::move(out), {x}, [name, lower, diagonal](const RuleContext& c) {
    return Gradients{triangle(name, c.grad(0), lower, diagonal)};
  });
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_defined("matmul", "a", a);
  check_defined("matmul", "b", b);
  check_floating("matmul", "a", a);
  check_floating("matmul", "b", b);
  check_same_device("matmul", "b", b, a);
  check_rank_at_least("matmul", "a", a, 1, "[K] or [.., M, K]");
  check_rank_at_least("matmul", "b", b, 1, "[K] or [.., K, N]");
  check_inner_size(a, b);
  if (a.dtype() != b.dtype()) {
    const DType dtype = promote(a.dtype(), b.dtype());
    return matmul(to(a, dtype), to(b, dtype));
  }
  if (a.rank() == 1) {
    return squeeze(matmul(unsqueeze(a, 0), b), b.rank() == 1 ? 0 : -2);
  }
  if (b.rank() == 1) {
    return squeeze(matmul(a, unsqueeze(b, 1)), -1);
  }
  if (b.rank() == 2) {
    return product(a, b);
  }
  if (b.rank() <= a.rank() && leading(b.shape()).numel() == 1) {
    return product(a, reshape(b, {b.size(-2), b.size(-1)}));
  }
  const Shape batch = common_leading("matmul", a, b);
  return product(with_leading(a, batch), with_leading(b, batch));
}

Tensor solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit_diagonal) {
  check_defined("solve_triangular", "a", a);
  check_defined("solve_triangular", "b", b);
  check_floating("solve_triangular", "a", a);
  check_floating("solve_triangular", "b", b);
  check_same_device("solve_triangular", "b", b, a);
  check_rank_at_least("solve_triangular", "a", a, 2, "[.., M, M]");
  check_rank_at_least("solve_triangular", "b", b, 2, "[.., M, N]");
  check(a.size(-1) == a.size(-2), "solve_triangular", "a has shape {}, expected [.., M, M]", a.shape());
  check(b.size(-2) == a.size(-1), "solve_triangular", "b has shape {}, expected [.., {}, N] for a of shape {}",
        b.shape(), a.size(-1), a.shape());
  const DType dtype = promote(a.dtype(), b.dtype());
  const DType wide = promote(dtype, DType::f32);
  if (a.dtype() != wide || b.dtype() != wide) {
    return to(solve_triangular(to(a, wide), to(b, wide), lower, unit_diagonal), dtype);
  }
  const Shape batch = common_leading("solve_triangular", a, b);
  const Tensor matrix = with_leading(a, batch);
  const Tensor right = with_leading(b, batch);
  Tensor out = empty(right.shape(), right.options());
  for_each_batch(matrix, right, out, [&](const Tensor& x, const Tensor& y, const Tensor& z) {
    backend_of(a).solve_triangular(x, y, lower, unit_diagonal, z);
  });
  return record("solve_triangular", std::move(out), {matrix, right},
                [matrix = Saved(matrix), lower, unit_diagonal](const RuleContext& c, Outputs x) {
                  // A' dB = dY, and dA = -dB X' in the triangle that was read.
                  const Tensor db = solve_triangular(transpose(matrix, -2, -1), c.grad(0), !lower, unit_diagonal);
                  Gradients gradients{Tensor(), db};
                  if (c.needs_grad(0)) {
                    const Tensor da = neg(matmul(db, transpose(x[0], -2, -1)));
                    const int64_t diagonal = unit_diagonal ? 1 : 0;
                    gradients[0] = lower ? tril(da, -diagonal) : triu(da, diagonal);
                  }
                  return gradients;
                });
}

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("tril", x, true, diagonal); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("triu", x, false, diagonal); }

}  // namespace deltatape

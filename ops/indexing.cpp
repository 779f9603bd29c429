#include "ops/indexing.h"

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/creation.h"
#include "ops/index_range.h"
#include "ops/scatter.h"
#include "ops/views.h"

namespace deltatape {
namespace {

void check_arguments(std::string_view function, const Tensor& x, const Tensor& index) {
  check_defined(function, "x", x);
  check_defined(function, "index", index);
  check_index(function, "index", index);
  check_same_device(function, "index", index, x);
}

void check_source(std::string_view function, const Tensor& x, const Tensor& src) {
  check_defined(function, "src", src);
  check_same_dtype(function, "src", src, x);
  check_same_device(function, "src", src, x);
}

// For gather and scatter_add: index has x's shape but along `dim`.
void check_index_shape(std::string_view function, const Tensor& x, int dim, const Tensor& index) {
  Shape expected = x.shape();
  if (index.rank() == x.rank()) {
    expected[dim] = index.shape()[dim];
  }
  check(index.shape() == expected, function, "index has shape {}, expected that of x, {}, but along dimension {}",
        index.shape(), x.shape(), dim);
}

Tensor dense_copy(const Tensor& x) {
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).copy(x, out);
  return out;
}

Tensor zeros_as(const Shape& shape, const Tensor& like) {
  Tensor out = empty(shape, like.options());
  backend_of(like).fill(0.0, out);
  return out;
}

}  // namespace

Tensor scatter_into_zeros(const Shape& shape, int dim, const Tensor& index, const Tensor& src) {
  Tensor out = zeros_as(shape, src);
  backend_of(src).scatter_add(src, dim, index, out);
  return record("scatter_add", std::move(out), {src},
                [index = Saved(index), dim](const RuleContext& c) { return Gradients{gather(c.grad(0), dim, index)}; });
}

Tensor index_into_zeros(const Shape& shape, int dim, const Tensor& index, const Tensor& src) {
  Tensor out = zeros_as(shape, src);
  backend_of(src).index_add(src, dim, index, out);
  return record("index_add", std::move(out), {src}, [index = Saved(index), dim](const RuleContext& c) {
    return Gradients{index_select(c.grad(0), dim, index)};
  });
}

Tensor gather(const Tensor& x, int64_t dim_in, const Tensor& index) {
  check_arguments("gather", x, index);
  const int dim = normalize_dim("gather", "dim", dim_in, x.rank());
  check_index_shape("gather", x, dim, index);
  Tensor out = empty(index.shape(), x.options());
  backend_of(x).gather(x, dim, index, out);
  return record("gather", std::move(out), {x}, [index = Saved(index), shape = x.shape(), dim](const RuleContext& c) {
    return Gradients{scatter_into_zeros(shape, dim, index, c.grad(0))};
  });
}

Tensor scatter_add(const Tensor& x, int64_t dim_in, const Tensor& index, const Tensor& src) {
  check_arguments("scatter_add", x, index);
  check_source("scatter_add", x, src);
  const int dim = normalize_dim("scatter_add", "dim", dim_in, x.rank());
  check_index_shape("scatter_add", x, dim, index);
  check_shape("scatter_add", "src", src, index.shape(), "that of index");
  Tensor out = dense_copy(x);
  backend_of(x).scatter_add(src, dim, index, out);
  return record("scatter_add", std::move(out), {x, src}, [index = Saved(index), dim](const RuleContext& c) {
    return Gradients{c.grad(0), c.needs_grad(1) ? gather(c.grad(0), dim, index) : Tensor()};
  });
}

Tensor index_select(const Tensor& x, int64_t dim_in, const Tensor& index) {
  check_arguments("index_select", x, index);
  check_rank("index_select", "index", index, 1);
  const int dim = normalize_dim("index_select", "dim", dim_in, x.rank());
  Shape shape = x.shape();
  shape[dim] = index.numel();
  Tensor out = empty(shape, x.options());
  backend_of(x).index_select(x, dim, index, out);
  return record("index_select", std::move(out), {x},
                [index = Saved(index), full = x.shape(), dim](const RuleContext& c) {
                  return Gradients{index_into_zeros(full, dim, index, c.grad(0))};
                });
}

Tensor index_add(const Tensor& x, int64_t dim_in, const Tensor& index, const Tensor& src) {
  check_arguments("index_add", x, index);
  check_source("index_add", x, src);
  check_rank("index_add", "index", index, 1);
  const int dim = normalize_dim("index_add", "dim", dim_in, x.rank());
  Shape shape = x.shape();
  shape[dim] = index.numel();
  check_shape("index_add", "src", src, shape, "x's shape with index's length along dim");
  Tensor out = dense_copy(x);
  backend_of(x).index_add(src, dim, index, out);
  return record("index_add", std::move(out), {x, src}, [index = Saved(index), dim](const RuleContext& c) {
    return Gradients{c.grad(0), c.needs_grad(1) ? index_select(c.grad(0), dim, index) : Tensor()};
  });
}

Tensor one_hot(const Tensor& index, int64_t count, DType dtype) {
  check_defined("one_hot", "index", index);
  check_index("one_hot", "index", index);
  check(count >= 0, "one_hot", "count is {}, expected 0 or more", count);
  check_index_range("one_hot", "index", index, count);
  Shape shape = index.shape();
  shape.push_back(count);
  const Tensor out = zeros(shape, {dtype, index.device()});
  const Tensor column = unsqueeze(index, -1);
  backend_of(out).scatter_add(ones(column.shape(), out.options()), out.rank() - 1, column, out);
  return out;
}

Tensor embedding(const Tensor& weight, const Tensor& index) {
  check_defined("embedding", "weight", weight);
  check_defined("embedding", "index", index);
  check_rank("embedding", "weight", weight, 2, "[N, D]");
  check_index("embedding", "index", index);
  check_same_device("embedding", "index", index, weight);
  check_index_range("embedding", "index", index, weight.shape()[0]);
  Shape shape = index.shape();
  shape.push_back(weight.shape()[1]);
  return reshape(index_select(weight, 0, reshape(index, {index.numel()})), shape);
}

TopK topk(const Tensor& x, int64_t k) {
  check_defined("topk", "x", x);
  check_number("topk", "x", x);
  check_rank_at_least("topk", "x", x, 1);
  check(k >= 0 && k <= x.shape().back(), "topk", "k is {}, expected 0 to {} for x of shape {}", k, x.shape().back(),
        x.shape());
  Shape shape = x.shape();
  shape[shape.rank() - 1] = k;
  Tensor values = empty(shape, x.options());
  const Tensor indices = empty(shape, DType::i64, x.device());
  backend_of(x).topk(x, k, values, indices);
  values = record("topk", std::move(values), {x}, [indices = Saved(indices), full = x.shape()](const RuleContext& c) {
    return Gradients{scatter_into_zeros(full, full.rank() - 1, indices, c.grad(0))};
  });
  return {values, indices};
}

}  // namespace deltatape

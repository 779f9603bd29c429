#include "ops/linalg.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// Elements lie between -2 and 2: a sum of K products has magnitude 4 K at most, and may cancel to almost nothing.
OpSample matmul_row(const std::string& variant, const Shape& a, const Shape& b) {
  return OpSample("matmul", variant).in(a).in(b).calls(matmul).equals(product).sums_up_to(4.0 * 5);
}

// As matrices: a vector on the left is a row, on the right a column, and goes again from the result.
OpSample vector_row(const std::string& variant, const Shape& a, const Shape& b, const Shape& result) {
  return OpSample("matmul", variant)
      .in(a)
      .in(b)
      .calls(matmul)
      .equals([result](const Array& x, const Array& y) {
        const Array left = x.shape.rank() == 1 ? with_shape(x, {1, x.size(0)}) : x;
        const Array right = y.shape.rank() == 1 ? with_shape(y, {y.size(0), 1}) : y;
        return with_shape(product(left, right), result);
      })
      .sums_up_to(4.0 * 5);
}

struct Triangle {
  bool lower;
  bool unit;
};

// Substitution row by row, reading the one triangle only.
Array substituted(const Array& a, const Array& b, Triangle kind) {
  const int64_t m = a.size(-1);
  const auto leading = [](Shape sizes) {
    sizes.erase(sizes.rank() - 1);
    sizes.erase(sizes.rank() - 1);
    return sizes;
  };
  const Shape batch = common_shape(leading(a.shape), leading(b.shape));
  Shape matrix_shape = batch;
  matrix_shape.push_back(m);
  matrix_shape.push_back(m);
  Shape shape = batch;
  shape.push_back(m);
  shape.push_back(b.size(-1));
  const Array matrix = stretch(a, matrix_shape);
  Array x = stretch(b, shape);
  const int row = shape.rank() - 2;
  Shape columns = shape;
  columns[row] = 1;
  for_each_index(columns, [&](const Shape& start) {
    for (int64_t step = 0; step < m; ++step) {
      const int64_t i = kind.lower ? step : m - 1 - step;
      Shape at = start;
      at[row] = i;
      double value = x.at(at);
      Shape entry = start;
      entry[row] = i;
      for (int64_t k = kind.lower ? 0 : i + 1; k < (kind.lower ? i : m); ++k) {
        Shape solved = start;
        solved[row] = k;
        entry[row + 1] = k;
        value -= matrix.at(entry) * x.at(solved);
      }
      entry[row + 1] = i;
      x.at(at) = kind.unit ? value : value / matrix.at(entry);
    }
  });
  return x;
}

OpSample solve_row(const std::string& variant, const Shape& a, const Shape& b, Triangle kind) {
  // Away from 0 on the diagonal, and small enough that substitution does not blow rounding up.
  return OpSample("solve_triangular", variant)
      .in(a, between(0.4, 1.2))
      .in(b)
      .calls([kind](const Tensor& x, const Tensor& y) { return solve_triangular(x, y, kind.lower, kind.unit); })
      .equals([kind](const Array& x, const Array& y) { return substituted(x, y, kind); })
      .units(64, 4, 32);
}

OpSample triangle_row(const std::string& name, Tensor (*f)(const Tensor&, int64_t), bool lower, int64_t diagonal) {
  return OpSample(name, diagonal == 0 ? "" : fmt::format("diagonal {}", diagonal))
      .in({2, 3, 5})
      .calls([f, diagonal](const Tensor& x) { return f(x, diagonal); })
      .equals([lower, diagonal](const Array& x) {
        return build(x.shape, [&](const Shape& i) {
          const int64_t above = i[i.rank() - 1] - i[i.rank() - 2];
          return (lower ? above <= diagonal : above >= diagonal) ? x.at(i) : 0.0;
        });
      })
      .takes_integers()
      .also_for({{2, 0, 5}})
      .also_for({{150, 170}})
      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor(), 0); })
      .rejects(name + ": x has shape [3], expected rank 2 or more, [.., M, N]", [f] { f(empty({3}), 0); });
}

}  // namespace

std::vector<OpSample> linalg_samples() {
  return {
      matmul_row("", {3, 5}, {5, 4})
          .also_for({{70, 129}, {129, 65}})
          .also_for({{0, 5}, {5, 4}})
          .also_for({{3, 0}, {0, 4}})
          .also_for({{3, 5}, {5, 0}})
          .rejects("matmul: a is undefined, expected a tensor",
                   [] {
                     matmul(Tensor(), empty({2, 2}));
                   })
          .rejects("matmul: b has shape [4, 2], expected [.., 3, N] for a of shape [2, 3]",
                   [] {
                     matmul(empty({2, 3}), empty({4, 2}));
                   })
          .rejects("matmul: b has shape [4], expected [3] for a of shape [2, 3]",
                   [] {
                     matmul(empty({2, 3}), empty({4}));
                   })
          .rejects("matmul: a has shape [], expected rank 1 or more, [K] or [.., M, K]",
                   [] { matmul(empty({}), empty({3})); })
          .rejects(
              "matmul: b has shape [3, 4, 2], expected leading dimensions that broadcast with those of a, [2, 3, 4]",
              [] {
                matmul(empty({2, 3, 4}), empty({3, 4, 2}));
              })
          .rejects("matmul: a has dtype i64, expected a floating-point dtype",
                   [] {
                     matmul(empty({2, 2}, DType::i64), empty({2, 2}));
                   }),
      matmul_row("batched", {2, 3, 5}, {2, 5, 4}).also_for({{0, 3, 5}, {0, 5, 4}}).also_for({{9, 33, 31}, {9, 31, 17}}),
      matmul_row("batch with one matrix", {2, 2, 3, 4}, {4, 2}),
      matmul_row("one matrix with batch", {3, 4}, {2, 2, 4, 2}),
      matmul_row("broadcast batches", {2, 1, 3, 4}, {3, 4, 2}),
      matmul_row("one column", {3, 5}, {5, 1}),
      matmul_row("outer product", {3, 1}, {1, 4}),
      matmul_row("batch of one, broadcast", {1, 3, 4}, {2, 4, 2}),
      vector_row("two vectors", {5}, {5}, {}),
      vector_row("matrix and vector", {3, 5}, {5}, {3}),
      vector_row("vector and matrix", {5}, {5, 3}, {3}),
      vector_row("batch and vector", {2, 3, 5}, {5}, {2, 3}),
      vector_row("vector and batch", {5}, {2, 5, 3}, {2, 3}),

      solve_row("", {4, 4}, {4, 3}, {true, false})
          .also_for({{0, 0}, {0, 3}})
          .also_for({{4, 4}, {4, 0}})
          .rejects("solve_triangular: a is undefined, expected a tensor",
                   [] {
                     solve_triangular(Tensor(), empty({2, 2}));
                   })
          .rejects("solve_triangular: a has shape [2, 3], expected [.., M, M]",
                   [] {
                     solve_triangular(empty({2, 3}), empty({2, 2}));
                   })
          .rejects("solve_triangular: b has shape [3, 1], expected [.., 2, N] for a of shape [2, 2]",
                   [] {
                     solve_triangular(empty({2, 2}), empty({3, 1}));
                   })
          .rejects("solve_triangular: b has shape [2], expected rank 2 or more, [.., M, N]",
                   [] {
                     solve_triangular(empty({2, 2}), empty({2}));
                   }),
      solve_row("upper", {4, 4}, {4, 3}, {false, false}),
      solve_row("lower, unit", {5, 5}, {5, 2}, {true, true}),
      solve_row("upper, unit", {5, 5}, {5, 2}, {false, true}),
      solve_row("batched", {3, 4, 4}, {3, 4, 2}, {true, false}).also_for({{0, 4, 4}, {0, 4, 2}}),
      solve_row("one matrix for a batch", {4, 4}, {3, 4, 2}, {true, false}),
      solve_row("a batch for one right side", {2, 1, 3, 3}, {3, 2}, {false, false}),

      triangle_row("tril", tril, true, 0),
      triangle_row("tril", tril, true, 1),
      triangle_row("tril", tril, true, -2),
      triangle_row("triu", triu, false, 0),
      triangle_row("triu", triu, false, 2),
      triangle_row("triu", triu, false, -1),
  };
}

}  // namespace deltatape::test

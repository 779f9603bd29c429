#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/reduction.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

using Summary = double (*)(const std::vector<double>&);

double product_of(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 1.0, std::multiplies<>());
}
double largest(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
double smallest(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double first_largest(const std::vector<double>& v) {
  return static_cast<double>(std::max_element(v.begin(), v.end()) - v.begin());
}
double first_smallest(const std::vector<double>& v) {
  return static_cast<double>(std::min_element(v.begin(), v.end()) - v.begin());
}
double length(const std::vector<double>& v) {
  return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
}

double log_sum_exp(const std::vector<double>& v) {
  if (v.empty()) {
    return -std::numeric_limits<double>::infinity();
  }
  const double shift = largest(v);
  double sum = 0.0;
  for (const double x : v) {
    sum += std::exp(x - shift);
  }
  return shift + std::log(sum);
}

double variance(const std::vector<double>& v, double correction) {
  const auto count = static_cast<double>(v.size());
  if (count <= correction) {
    return std::nan("");
  }
  double sum = 0.0;
  const double mean_of_v = average(v);
  for (const double x : v) {
    sum += (x - mean_of_v) * (x - mean_of_v);
  }
  return sum / (count - correction);
}

// Of all elements, rank 0.
OpSample over_all(const std::string& name, Tensor (*f)(const Tensor&), Summary reference,
                  const Domain& domain = reals()) {
  return OpSample(name, "all")
      .in({2, 3, 5}, domain)
      .calls(f)
      .equals([reference](const Array& x) { return fold(x, reference); })
      .also_for({{1}})
      .also_for({{}})
      .also_for({{257, 129}})
      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor()); });
}

// Over several dimensions, with the dimensions dropped and kept.
void add_over_dims(std::vector<OpSample>& rows, const std::string& name, Tensor (*f)(const Tensor&, const Shape&, bool),
                   Summary reference) {
  rows.push_back(OpSample(name)
                     .in({2, 3, 5})
                     .calls([f](const Tensor& x) {
                       return f(x, {0, -1}, false);
                     })
                     .equals([reference](const Array& x) {
                       return fold(x, {0, 2}, false, reference);
                     })
                     .also_for({{2, 0, 5}})
                     .also_for({{41, 3, 513}})
                     .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor(), {0}, false); })
                     .rejects(name + ": dims is [0, 0], expected distinct dimensions",
                              [f] {
                                f(empty({2, 3}), {0, 0}, false);
                              })
                     .rejects(name + ": an entry of dims is 2, expected -2 to 1 for a tensor of rank 2", [f] {
                       f(empty({2, 3}), {2}, false);
                     }));
  rows.push_back(OpSample(name, "keepdim")
                     .in({2, 3, 5})
                     .calls([f](const Tensor& x) { return f(x, {1}, true); })
                     .equals([reference](const Array& x) { return fold(x, {1}, true, reference); })
                     .also_for({{2, 300, 70}}));
  rows.push_back(OpSample(name, "no dims")
                     .in({2, 3})
                     .calls([f](const Tensor& x) { return f(x, {}, false); })
                     .equals([](const Array& x) { return x; }));
}

using LineFunction = Tensor (*)(const Tensor&, int64_t, bool);

// Over one dimension: the last, dropped, and the first, kept.
void add_over_line(std::vector<OpSample>& rows, const std::string& name, LineFunction f, Summary reference,
                   const Domain& domain = reals(), std::vector<std::optional<DType>> results = {}) {
  const bool index = !results.empty();
  OpSample last = OpSample(name)
                      .in({3, 7}, domain)
                      .calls([f](const Tensor& x) { return f(x, -1, false); })
                      .equals([reference](const Array& x) { return fold(x, {1}, false, reference); })
                      .gives(results)
                      .also_for({{0, 7}})
                      .also_for({{70, 301}})
                      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor(), 0, false); })
                      .rejects(name + ": dim is 2, expected -2 to 1 for a tensor of rank 2", [f] {
                        f(empty({2, 3}), 2, false);
                      });
  OpSample first = OpSample(name, "first, keepdim")
                       .in({4, 3, 2}, domain)
                       .calls([f](const Tensor& x) { return f(x, 0, true); })
                       .equals([reference](const Array& x) { return fold(x, {0}, true, reference); })
                       .gives(results)
                       .also_for({{301, 9, 8}});
  for (OpSample* row : {&last, &first}) {
    rows.push_back(index ? row->no_gradient() : *row);
  }
}

OpSample cumulative(const std::string& variant, int dim, bool reverse) {
  return OpSample("cumsum", variant)
      .in({3, 4, 2})
      .calls([dim, reverse](const Tensor& x) { return cumsum(x, dim, reverse); })
      .equals([dim, reverse](const Array& x) {
        return along(x, dim, [reverse](std::vector<double> line) {
          if (reverse) {
            std::partial_sum(line.rbegin(), line.rend(), line.rbegin());
          } else {
            std::partial_sum(line.begin(), line.end(), line.begin());
          }
          return line;
        });
      })
      .also_for({{0, 4, 2}})
      .also_for({{3, 0, 2}})
      .also_for({{20, 301, 3}})
      .rejects("cumsum: x is undefined, expected a tensor", [] { cumsum(Tensor(), 0); })
      .rejects("cumsum: dim is 2, expected -2 to 1 for a tensor of rank 2", [] {
        cumsum(empty({2, 3}), 2);
      });
}

OpSample of_integers(const std::string& name, DType dtype, Tensor (*f)(const Tensor&), const Array& expected) {
  return OpSample(name, dtype == DType::boolean ? "bool" : "i32")
      .in_values({2, 3}, {1, 0, 3, -4, 5, 0}, dtype)
      .calls(f)
      .equals([expected] { return expected; })
      .gives({DType::i64})
      .no_gradient();
}

void add_sums(std::vector<OpSample>& rows) {
  rows.push_back(over_all(
                     "sum", [](const Tensor& x) { return sum(x); }, total)
                     .also_for({{0}}));
  add_over_dims(
      rows, "sum", [](const Tensor& x, const Shape& dims, bool keepdim) { return sum(x, dims, keepdim); }, total);
  rows.push_back(of_integers(
      "sum", DType::i32, [](const Tensor& x) { return sum(x); }, Array(5)));
  rows.push_back(of_integers(
      "sum", DType::boolean, [](const Tensor& x) { return sum(x, {1}); }, Array({2}, {2, 2})));
  rows.push_back(over_all(
                     "mean", [](const Tensor& x) { return mean(x); }, average)
                     .also_for({{0}})
                     .may_give_nan());
  add_over_dims(
      rows, "mean", [](const Tensor& x, const Shape& dims, bool keepdim) { return mean(x, dims, keepdim); }, average);
  rows.back().may_give_nan();
  rows.push_back(cumulative("", 1, false));
  rows.push_back(cumulative("reverse", 1, true));
  rows.push_back(cumulative("last", -1, false));
  rows.push_back(cumulative("first, reverse", 0, true));
  rows.push_back(of_integers(
      "cumsum", DType::i32, [](const Tensor& x) { return cumsum(x, 1); }, Array({2, 3}, {1, 1, 4, -4, 1, 1})));
  rows.push_back(of_integers(
      "cumsum", DType::boolean, [](const Tensor& x) { return cumsum(x, 0); }, Array({2, 3}, {1, 0, 1, 2, 1, 1})));
}

void add_variances(std::vector<OpSample>& rows) {
  const auto row = [](const std::string& variant, int64_t correction, bool keepdim) {
    return OpSample("var", variant)
        .in({3, 2, 5})
        .calls([=](const Tensor& x) {
          return var(x, {0, 2}, correction, keepdim);
        })
        .equals([=](const Array& x) {
          return fold(x, {0, 2}, keepdim,
                      [=](const std::vector<double>& v) { return variance(v, static_cast<double>(correction)); });
        })
        .may_give_nan();
  };
  rows.push_back(row("", 1, false)
                     .also_for({{0, 2, 5}})
                     .also_for({{33, 2, 301}})
                     .rejects("var: x is undefined, expected a tensor", [] { var(Tensor(), {0}); })
                     .rejects("var: an entry of dims is 2, expected -2 to 1 for a tensor of rank 2", [] {
                       var(empty({2, 3}), {2});
                     }));
  rows.push_back(row("biased, keepdim", 0, true));
  // Nearly constant data: the mean of squares minus the square of the mean would lose every digit.
  rows.push_back(
      OpSample("var", "far from zero")
          .in({8}, between(1e6, 1e6 + 1), DType::f64)
          .calls([](const Tensor& x) { return var(x, {0}); })
          .equals([](const Array& x) { return fold(x, [](const std::vector<double>& v) { return variance(v, 1); }); })
          .one_dtype()
          .units(1e7, 1));
}

}  // namespace

std::vector<OpSample> reduction_samples() {
  std::vector<OpSample> rows;
  add_sums(rows);
  add_variances(rows);
  add_over_line(rows, "prod", prod, product_of, between(0.5, 1.5));
  rows.push_back(OpSample("prod", "with zeros")
                     .in_values({4, 3}, {1, 2, 3, 0, 2, 3, 0, 0, 3, 0, 0, 0}, DType::f64)
                     .calls([](const Tensor& x) { return prod(x, 1); })
                     .equals([] {
                       return Array({4}, {6, 0, 0, 0});
                     })
                     .gives({DType::f64}));
  add_over_line(
      rows, "max", [](const Tensor& x, int64_t dim, bool keepdim) { return max(x, dim, keepdim); }, largest,
      distinct());
  add_over_line(
      rows, "min", [](const Tensor& x, int64_t dim, bool keepdim) { return min(x, dim, keepdim); }, smallest,
      distinct());
  rows.push_back(over_all(
      "max", [](const Tensor& x) { return max(x); }, largest, distinct()));
  rows.push_back(over_all(
      "min", [](const Tensor& x) { return min(x); }, smallest, distinct()));
  add_over_line(rows, "argmax", argmax, first_largest, distinct(), {DType::i64});
  add_over_line(rows, "argmin", argmin, first_smallest, distinct(), {DType::i64});
  for (OpSample& row : rows) {
    if (row.variant.empty() && (row.op == "max" || row.op == "min" || row.op == "argmax" || row.op == "argmin")) {
      const std::string name = row.op;
      row.rejects(name + ": x has shape [2, 0], expected a size above 0 along dimension 1", [name] {
        const Tensor x = empty({2, 0});
        name == "max" ? max(x, 1) : name == "min" ? min(x, 1) : name == "argmax" ? argmax(x, 1) : argmin(x, 1);
      });
    }
  }
  add_over_line(rows, "logsumexp", logsumexp, log_sum_exp);
  rows.push_back(OpSample("logsumexp", "far out")
                     .in_values({2, 3}, {1000, 999, -1000, -1000, -1001, -1e4}, DType::f64)
                     .calls([](const Tensor& x) { return logsumexp(x, 1); })
                     .equals([](const Array& x) { return fold(x, {1}, false, log_sum_exp); })
                     .gives({DType::f64}));
  rows.push_back(OpSample("logsumexp", "over nothing")
                     .in({2, 0})
                     .calls([](const Tensor& x) { return logsumexp(x, 1); })
                     .equals([](const Array& x) { return fold(x, {1}, false, log_sum_exp); })
                     .no_gradient());
  rows.push_back(over_all("norm", norm, length).also_for({{0}}));
  return rows;
}

}  // namespace deltatape::test

#include <cmath>
#include <limits>

#include "ops/comparison.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

using Function = Tensor (*)(const Tensor&, const Tensor&);
using NumberFunction = Tensor (*)(const Tensor&, double);
using Reference = double (*)(double, double);

OpSample row(const std::string& name, Function f, Reference reference) {
  return OpSample(name)
      .in({5, 9}, whole_numbers())
      .in({5, 9}, whole_numbers())
      .calls(f)
      .equals([reference](const Array& a, const Array& b) { return zip(a, b, reference); })
      .gives({DType::boolean})
      .no_gradient()
      .any_shape()
      .takes_integers()
      .rejects(name + ": a is undefined, expected a tensor", [f] { f(Tensor(), empty({2})); })
      .rejects(name + ": b has shape [3], expected a shape that broadcasts with [2, 4]", [f] {
        f(empty({2, 4}), empty({3}));
      });
}

OpSample with_number(const std::string& name, NumberFunction f, Reference reference) {
  return OpSample(name, "number")
      .in({5, 9}, whole_numbers())
      .calls([f](const Tensor& x) { return f(x, -1.0); })
      .equals([reference](const Array& x) { return map(x, [=](double v) { return reference(v, -1.0); }); })
      .gives({DType::boolean})
      .no_gradient()
      .any_shape()
      .takes_integers()
      .rejects(name + ": a is undefined, expected a tensor", [f] { f(Tensor(), 1.0); });
}

// Both ways of calling one comparison. NaN compares as in IEEE 754: unequal to everything.
void add_both(std::vector<OpSample>& rows, const std::string& name, Function f, NumberFunction g, Reference reference) {
  const double nan = std::nan("");
  rows.push_back(row(name, f, reference));
  rows.push_back(with_number(name, g, reference));
  rows.push_back(OpSample(name, "nan")
                     .in_values({3}, {nan, nan, 1}, DType::f64)
                     .in_values({3}, {nan, 1, nan}, DType::f64)
                     .calls(f)
                     .equals([name] { return filled({3}, name == "ne" ? 1.0 : 0.0); })
                     .gives({DType::boolean})
                     .no_gradient());
}

OpSample logical(const std::string& name, Function f, Reference reference) {
  return OpSample(name)
      .in({5, 9}, booleans())
      .in({9}, booleans())
      .calls(f)
      .equals([reference](const Array& a, const Array& b) { return zip(a, b, reference); })
      .gives({DType::boolean})
      .no_gradient()
      .also_for({{131, 307}, {307}})
      .also_for({{0, 3}, {3}})
      .rejects(name + ": a is undefined, expected a tensor", [f] { f(Tensor(), empty({2}, DType::boolean)); })
      .rejects(name + ": b has dtype f32, expected bool", [f] { f(empty({2}, DType::boolean), empty({2})); });
}

void add_property(std::vector<OpSample>& rows, const std::string& name, Tensor (*f)(const Tensor&),
                  double (*reference)(double)) {
  const double inf = std::numeric_limits<double>::infinity();
  OpSample row = OpSample(name)
                     .calls(f)
                     .equals([reference](const Array& x) { return map(x, reference); })
                     .gives({DType::boolean})
                     .no_gradient();
  OpSample special = row;
  special.variant = "special";
  special.in_values({2, 4}, {0, 1, -1, inf, -inf, std::nan(""), -std::nan(""), 1e300}, DType::f64);
  rows.push_back(special);
  rows.push_back(row.in({5, 9}).any_shape());
}

// any and all give a bool of C++.
OpSample summary(const std::string& name, bool (*f)(const Tensor&), const std::string& variant,
                 const std::vector<double>& values, bool expected) {
  return OpSample(name, variant)
      .in_values({static_cast<int64_t>(values.size())}, values, DType::boolean)
      .calls([f](const Tensor& x) { return from_vector(std::vector<bool>{f(x)}); })
      .equals([expected] { return Array({1}, {expected ? 1.0 : 0.0}); })
      .gives({DType::boolean})
      .no_gradient()
      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor()); })
      .rejects(name + ": x has dtype f32, expected bool", [f] { f(empty({2})); });
}

OpSample summary_of_nothing(const std::string& name, bool (*f)(const Tensor&), bool expected) {
  return OpSample(name, "nothing")
      .in({0, 3}, booleans())
      .calls([f](const Tensor& x) { return from_vector(std::vector<bool>{f(x)}); })
      .equals([expected] { return Array({1}, {expected ? 1.0 : 0.0}); })
      .gives({DType::boolean})
      .no_gradient();
}

}  // namespace

std::vector<OpSample> comparison_samples() {
  std::vector<OpSample> rows;
  add_both(rows, "eq", eq, eq, [](double a, double b) { return a == b ? 1.0 : 0.0; });
  add_both(rows, "ne", ne, ne, [](double a, double b) { return a != b ? 1.0 : 0.0; });
  add_both(rows, "lt", lt, lt, [](double a, double b) { return a < b ? 1.0 : 0.0; });
  add_both(rows, "le", le, le, [](double a, double b) { return a <= b ? 1.0 : 0.0; });
  add_both(rows, "gt", gt, gt, [](double a, double b) { return a > b ? 1.0 : 0.0; });
  add_both(rows, "ge", ge, ge, [](double a, double b) { return a >= b ? 1.0 : 0.0; });
  rows.push_back(logical("logical_and", logical_and, [](double a, double b) { return a * b; }));
  rows.push_back(logical("logical_or", logical_or, [](double a, double b) { return a + b > 0 ? 1.0 : 0.0; }));
  rows.push_back(OpSample("logical_not")
                     .in({5, 9}, booleans())
                     .calls(logical_not)
                     .equals([](const Array& x) { return map(x, [](double v) { return 1 - v; }); })
                     .gives({DType::boolean})
                     .no_gradient()
                     .any_shape()
                     .rejects("logical_not: x is undefined, expected a tensor", [] { logical_not(Tensor()); })
                     .rejects("logical_not: x has dtype f32, expected bool", [] { logical_not(empty({2})); }));
  add_property(rows, "isnan", isnan, [](double x) { return std::isnan(x) ? 1.0 : 0.0; });
  rows.back().rejects("isnan: x is undefined, expected a tensor", [] { isnan(Tensor()); });
  add_property(rows, "isfinite", isfinite, [](double x) { return std::isfinite(x) ? 1.0 : 0.0; });
  rows.back().rejects("isfinite: x is undefined, expected a tensor", [] { isfinite(Tensor()); });
  rows.push_back(summary("any", any, "none", {0, 0, 0}, false));
  rows.push_back(summary("any", any, "last", {0, 0, 1}, true));
  rows.push_back(summary("all", all, "but last", {1, 1, 0}, false));
  rows.push_back(summary("all", all, "every", {1, 1, 1}, true));
  rows.push_back(summary_of_nothing("any", any, false));
  rows.push_back(summary_of_nothing("all", all, true));
  return rows;
}

}  // namespace deltatape::test

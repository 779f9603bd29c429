#include <cmath>
#include <limits>

#include "ops/softmax.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

std::vector<double> probabilities(const std::vector<double>& line) {
  return softmax_last(Array({static_cast<int64_t>(line.size())}, line)).data;
}

// x - max - log(sum(exp(x - max))), which takes no logarithm of a small number.
std::vector<double> log_probabilities(std::vector<double> line) {
  double largest = -std::numeric_limits<double>::infinity();
  for (const double x : line) {
    largest = std::max(largest, x);
  }
  double sum = 0.0;
  for (const double x : line) {
    sum += std::exp(x - largest);
  }
  for (double& x : line) {
    x = x - largest - std::log(sum);
  }
  return line;
}

using Function = Tensor (*)(const Tensor&, int64_t);

void add_softmax(std::vector<OpSample>& rows, const std::string& name, Function f,
                 const std::function<std::vector<double>(const std::vector<double>&)>& line) {
  const auto row = [&](const std::string& variant, const Shape& shape, int dim) {
    return OpSample(name, variant)
        .in(shape)
        .calls([f, dim](const Tensor& x) { return f(x, dim); })
        .equals([line, dim](const Array& x) { return along(x, dim, line); });
  };
  rows.push_back(
      row("", {3, 7}, -1)
          .also_for({{0, 7}})
          .also_for({{3, 0}})
          .also_for({{70, 333}})
          .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor(), 0); })
          .rejects(name + ": x has dtype i64, expected a floating-point dtype", [f] { f(empty({2}, DType::i64), 0); })
          .rejects(name + ": dim is 2, expected -2 to 1 for a tensor of rank 2", [f] {
            f(empty({2, 3}), 2);
          }));
  rows.push_back(row("first", {4, 3, 2}, 0).also_for({{130, 5, 33}}));
  rows.push_back(row("one entry", {3, 1}, 1));
  rows.push_back(OpSample(name, "far out")
                     .in_values({2, 3}, {1000, 999, -1000, -1000, -1001, -1e4}, DType::f64)
                     .calls([f](const Tensor& x) { return f(x, 1); })
                     .equals([line](const Array& x) { return along(x, 1, line); })
                     .gives({DType::f64}));
  const double inf = std::numeric_limits<double>::infinity();
  rows.push_back(OpSample(name, "masked entries")
                     .in_values({2, 3}, {1, -inf, 2, -inf, -inf, 0.5}, DType::f64)
                     .calls([f](const Tensor& x) { return f(x, 1); })
                     .equals([line](const Array& x) { return along(x, 1, line); })
                     .gives({DType::f64})
                     .no_gradient());
}

double loss_of(const Array& logits, const Array& target, double ignored, bool sum) {
  const Array log_p = along(logits, -1, log_probabilities);
  const auto classes = static_cast<size_t>(logits.size(-1));
  double loss = 0.0;
  double counted = 0.0;
  for (size_t row = 0; row < target.data.size(); ++row) {
    if (target.data[row] != ignored) {
      loss -= log_p.data[row * classes + static_cast<size_t>(target.data[row])];
      counted += 1.0;
    }
  }
  return sum ? loss : loss / counted;
}

OpSample loss_row(const std::string& variant, const CrossEntropyOptions& options, const Shape& shape,
                  const std::vector<double>& targets, DType dtype = DType::i64) {
  Shape target_shape = shape;
  target_shape.erase(shape.rank() - 1);
  OpSample sample("cross_entropy", variant);
  sample.in(shape).in(target_shape, indices(shape.back()), dtype);
  sample.inputs.back().values = targets;
  return sample
      .calls([options](const Tensor& logits, const Tensor& target) { return cross_entropy(logits, target, options); })
      .equals([options](const Array& logits, const Array& target) {
        return Array(loss_of(logits, target, static_cast<double>(options.ignore_index), options.sum));
      })
      .gives_wide()
      .may_give_nan();
}

}  // namespace

std::vector<OpSample> softmax_samples() {
  std::vector<OpSample> rows;
  add_softmax(rows, "softmax", softmax, probabilities);
  add_softmax(rows, "log_softmax", log_softmax, log_probabilities);
  const auto i64 = [](std::vector<int64_t> values) { return from_vector(values); };
  rows.push_back(
      loss_row("", {}, {2, 3, 5}, {0, 4, 2, 2, 1, 3})
          .rejects("cross_entropy: logits is undefined, expected a tensor",
                   [i64] { cross_entropy(Tensor(), i64({0})); })
          .rejects("cross_entropy: target has dtype f32, expected i64 or i32",
                   [] {
                     cross_entropy(empty({2, 3}), empty({2}));
                   })
          .rejects("cross_entropy: target has shape [3], expected logits' shape without C = [2]",
                   [i64] {
                     cross_entropy(empty({2, 3}), i64({0, 1, 2}));
                   })
          .rejects("cross_entropy: target is 3 at [1], expected 0 <= index < 3 or ignore_index = -100", [i64] {
            cross_entropy(empty({2, 3}), i64({0, 3}));
          }));
  rows.push_back(loss_row("some ignored", {}, {5, 4}, {-100, 3, 0, -100, 1}));
  rows.push_back(loss_row("sum, another index ignored", {2, true}, {5, 4}, {2, 3, 0, 2, 1}, DType::i32));
  rows.push_back(loss_row("all ignored, sum", {-1, true}, {3, 4}, {-1, -1, -1}));
  rows.push_back(loss_row("all ignored", {}, {2, 4}, {-100, -100}).no_gradient());
  rows.push_back(loss_row("one row", {}, {4}, {2}));
  rows.push_back(loss_row("no row", {-100, true}, {0, 4}, {}));
  return rows;
}

}  // namespace deltatape::test

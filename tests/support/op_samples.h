// One row per op (or per variant of one): from it the suite tests/ops/op_samples_*_test.cpp makes every check there is.
// CONTRIBUTING.md says where a row stands in the making of an op.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "tests/support/reference.h"

namespace deltatape::test {

using Tensors = std::vector<Tensor>;

/// What an input's elements may be.
struct Domain {
  enum class Element { floating, index, boolean };
  Element element = Element::floating;
  double low = -2.0;
  double high = 2.0;
  std::vector<double> kinks =
      {};                 // elements stay 0.1 away, so that differences do not cross and rounding does not reach
  bool whole = false;     // whole numbers, so that equal elements occur
  bool distinct = false;  // evenly spaced and shuffled, so that the order of elements survives rounding
};

/// Both signs, between -2 and 2.
inline Domain reals() { return {}; }
inline Domain between(double low, double high) { return {Domain::Element::floating, low, high}; }
inline Domain away_from(std::vector<double> kinks) { return {Domain::Element::floating, -2.0, 2.0, std::move(kinks)}; }
inline Domain distinct() { return {Domain::Element::floating, -2.0, 2.0, {}, false, true}; }
inline Domain whole_numbers() { return {Domain::Element::floating, -2.0, 2.0, {}, true}; }
/// Integers in [0, bound).
inline Domain indices(int64_t bound) { return {Domain::Element::index, 0.0, static_cast<double>(bound)}; }
inline Domain booleans() { return {Domain::Element::boolean, 0.0, 2.0}; }

struct InputSpec {
  Shape shape;
  Domain domain;
  std::optional<DType> dtype;       // set: this dtype in every check
  std::vector<double> values = {};  // set: these elements instead of random ones
};

/// A call that must throw, and the whole message.
struct Rejection {
  std::string message;
  std::function<void()> call;
};

namespace detail {

// A function of a list from a function of a list, or of one to five elements; one result counts as a list of one.
template <class Item, class F>
auto on_list(F f) {
  using List = std::vector<Item>;
  const auto call = [f](const List& x) {
    if constexpr (std::invocable<F, const List&>) {
      return f(x);
    } else if constexpr (std::invocable<F>) {
      return f();
    } else if constexpr (std::invocable<F, const Item&>) {
      return f(x.at(0));
    } else if constexpr (std::invocable<F, const Item&, const Item&>) {
      return f(x.at(0), x.at(1));
    } else if constexpr (std::invocable<F, const Item&, const Item&, const Item&>) {
      return f(x.at(0), x.at(1), x.at(2));
    } else {
      return f(x.at(0), x.at(1), x.at(2), x.at(3));
    }
  };
  return [call](const List& x) -> List {
    if constexpr (std::convertible_to<decltype(call(x)), List>) {
      return call(x);
    } else {
      return List{call(x)};
    }
  };
}

}  // namespace detail

/// The row. Its setters return it, so that a row is one expression.
struct OpSample {
  std::string op;       // the public function
  std::string variant;  // which way of calling it; may be empty
  std::vector<InputSpec> inputs = {};
  std::function<Tensors(const Tensors&)> call = {};
  std::function<Arrays(const Arrays&)> reference = {};
  // Dtypes of the outputs; none, or an empty list: the promoted dtype of the inputs that are not indices.
  std::vector<std::optional<DType>> results = {};
  bool differentiable = true;
  bool twice_differentiable = true;
  bool elementwise = false;   // any shape goes; several inputs broadcast and promote
  bool integers = false;      // takes integer tensors, and gives exact integers of the same dtype
  bool dtype_fixed = false;   // not for other floating-point dtypes than the one it is called with
  double units_wide = 16;     // unit roundoffs allowed in f64 and f32
  double units_narrow = 2;    // in bf16 and f16
  double units_gradient = 8;  // of gradients in bf16 and f16 (four times as many in f64 and f32)
  double terms = 0;           // how large the sum of |terms| behind an element may be where they cancel in the result
  bool nan_allowed = false;
  bool wide_result = false;                     // f32 for 16-bit inputs
  std::vector<std::vector<Shape>> shapes = {};  // of the inputs, for further forward checks: empty ones, large ones
  std::vector<Rejection> rejections = {};

  OpSample(std::string op_name, std::string variant_name = "")
      : op(std::move(op_name)), variant(std::move(variant_name)) {}

  /// `mul`, `mul/number`.
  [[nodiscard]] std::string name() const { return variant.empty() ? op : op + "/" + variant; }

  OpSample& in(const Shape& shape, const Domain& domain = reals(), std::optional<DType> dtype = std::nullopt) {
    inputs.push_back({shape, domain, dtype});
    return *this;
  }
  /// An i64 input with these elements.
  OpSample& in_values(const Shape& shape, const std::vector<double>& values, DType dtype = DType::i64) {
    inputs.push_back({shape, {}, dtype, values});
    return *this;
  }
  /// The op: takes and returns tensors, or lists of them.
  template <class F>
  OpSample& calls(F f) {
    call = detail::on_list<Tensor>(std::move(f));
    return *this;
  }
  /// The same in plain loops on Arrays.
  template <class F>
  OpSample& equals(F f) {
    reference = detail::on_list<Array>(std::move(f));
    return *this;
  }
  OpSample& gives(std::vector<std::optional<DType>> dtypes) {
    results = std::move(dtypes);
    return *this;
  }
  OpSample& no_gradient() {
    differentiable = twice_differentiable = false;
    return *this;
  }
  OpSample& no_second_gradient() {
    twice_differentiable = false;
    return *this;
  }
  OpSample& any_shape() {
    elementwise = true;
    return *this;
  }
  OpSample& takes_integers() {
    integers = true;
    return *this;
  }
  OpSample& one_dtype() {
    dtype_fixed = true;
    return *this;
  }
  OpSample& units(double wide, double narrow, double gradient = 8) {
    units_wide = wide;
    units_narrow = narrow;
    units_gradient = gradient;
    return *this;
  }
  OpSample& sums_up_to(double sum_of_magnitudes) {
    terms = sum_of_magnitudes;
    return *this;
  }
  OpSample& gives_wide() {
    wide_result = true;
    return *this;
  }
  OpSample& may_give_nan() {
    nan_allowed = true;
    return *this;
  }
  OpSample& also_for(const std::vector<Shape>& input_shapes) {
    shapes.push_back(input_shapes);
    return *this;
  }
  /// Throws Error with exactly this message.
  OpSample& rejects(std::string message, std::function<void()> bad_call) {
    rejections.push_back({std::move(message), std::move(bad_call)});
    return *this;
  }
};

/// All rows, family by family.
const std::vector<OpSample>& op_samples();

std::vector<OpSample> creation_samples();
std::vector<OpSample> convert_samples();
std::vector<OpSample> unary_samples();
std::vector<OpSample> arithmetic_samples();
std::vector<OpSample> comparison_samples();
std::vector<OpSample> view_samples();
std::vector<OpSample> joining_samples();
std::vector<OpSample> reduction_samples();
std::vector<OpSample> linalg_samples();
std::vector<OpSample> indexing_samples();
std::vector<OpSample> softmax_samples();
std::vector<OpSample> norm_samples();
std::vector<OpSample> sequence_samples();  // convolution and attention
std::vector<OpSample> random_samples();
std::vector<OpSample> inplace_samples();

}  // namespace deltatape::test

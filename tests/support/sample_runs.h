// What the checks of op samples have in common: drawing inputs, running an op forward and backward, walking the rows.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {

/// The seed of a row's inputs: a hash of its name, so that a new row changes no other row's numbers.
uint64_t seed_of(const OpSample& sample);

/// The row's inputs. Floating-point ones that have no dtype of their own get `dtype` (an integer dtype: rounded
/// values); `shapes`, where given, takes the place of the row's own.
Tensors draw_inputs(const OpSample& sample, DType dtype, const std::vector<Shape>& shapes = {});
/// The same with a dtype per input.
Tensors draw_inputs(const OpSample& sample, const std::vector<DType>& dtypes, const std::vector<Shape>& shapes = {});

/// The dtype that output `i` of the row must have.
DType result_dtype(const OpSample& sample, const Tensors& inputs, size_t i);
/// The row's rounding tolerance for results in `dtype`.
Tolerance forward_tolerance(const OpSample& sample, DType dtype);
Tolerance gradient_tolerance(const OpSample& sample, DType dtype);

/// Checks all outputs against the row's reference.
void check_against_reference(const OpSample& sample, const Tensors& inputs);

/// Outputs and the gradients of all floating-point inputs (undefined for others).
struct Run {
  Tensors outputs;
  Tensors gradients;
};
/// Random gradients for the floating-point outputs, rounded to their dtypes; undefined for the others.
Tensors draw_upstream(const OpSample& sample, const Tensors& outputs);
/// Runs forward, and backward from `upstream` where the row is differentiable. `inputs` become leaves of their own.
Run run_with_gradients(const OpSample& sample, const Tensors& inputs, const Tensors& upstream);
/// The same with draw_upstream's gradients.
Run run_with_gradients(const OpSample& sample, const Tensors& inputs);
void check_same_run(std::string_view what, const OpSample& sample, const Run& actual, const Run& expected,
                    const Tolerance& outputs, const Tolerance& gradients);

/// Calls `check` for each row that `wanted` accepts, in a subcase `<row>: <kind>`; with DELTATAPE_OP in the environment
/// only for the rows of that op (`mul`) or for that row (`mul/number`). Fails when there is none, unless one was
/// chosen.
void for_each_sample(std::string_view kind, const std::function<bool(const OpSample&)>& wanted,
                     const std::function<void(const OpSample&)>& check);

}  // namespace deltatape::test

// What is held against what: the reference, a differentiable function, and the candidate, anything that answers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/case.h"

namespace deltatape::harness {

/// Outputs by name, from inputs by name: written with ops, so that its gradients come from the tape.
using Function = std::function<NamedTensors(const Settings&, const NamedTensors& inputs)>;

/// Where a token of a tensor [batch, time, ..] stands.
struct TokenPlace {
  int64_t sequence = 0;
  int64_t time = 0;  // within the sequence
  int64_t row = 0;   // within the chunk
};

struct Reference {
  std::string name;
  Function forward;
  /// The same function by another algorithm, if there is one: a witness for `forward`, and a second measure of what
  /// rounding does to a case.
  Function other = {};
  std::string other_name = {};
  /// Intermediates in f64 of a widened case, forward and backward, in the order in which they are computed.
  std::function<NamedTensors(const Case&)> intermediates = {};
  /// Results in the order in which an error spreads, for naming the tensor to look at. Empty: as `forward` returns
  /// them, then gradients in the order of the inputs.
  std::vector<std::string> order = {};
  /// What the dimensions of a tensor are, in words: {"batch", "time", "head", "channel"}.
  std::function<std::vector<std::string>(const std::string& tensor)> dimensions = {};
  /// Of every token, row-major over the dimensions batch and time.
  std::function<std::vector<TokenPlace>(const Case&)> tokens = {};
};

/// What a candidate made of a case.
struct Answer {
  enum class Status : uint8_t {
    answered,
    unsupported,  // it does not do such cases; `message` may say why
    fault,        // it crashed, hung, wrote out of bounds, reported an error: `message` says so
  };
  Status status = Status::answered;
  NamedTensors results = {};  // outputs and `d` + input by name, and intermediates; in the dtypes that it computes in
  std::string message = {};
};

struct Candidate {
  std::string name;
  /// Must leave the case as it is. An Error that it throws is a fault.
  std::function<Answer(const Case&)> run;
  /// What it promises to return (where the case asks for it); one that is missing is wrong. Empty: all outputs, and all
  /// gradients of cases with an upstream gradient.
  std::vector<std::string> results = {};
  /// Forgets everything that earlier calls left behind; empty: there is nothing of the kind.
  std::function<void()> restart = {};
};

/// A differentiable function as a candidate: its outputs, and its gradients from the tape.
Candidate differentiable(std::string name, Function function);

/// Outputs of `function`, then, where the case has an upstream gradient, the gradient of every floating-point input as
/// `d` + its name; zeros where the loss does not depend on it.
NamedTensors run_on_tape(const Function& function, const Case& c);

}  // namespace deltatape::harness

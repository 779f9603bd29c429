// Module: parameters, buffers and submodules under names, as PyTorch's nn.Module has them.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace deltatape::nn {

/// Tensors in the order of their registration, with dotted names (`layers.0.attn.A_log`).
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
/// What a checkpoint holds: tensors by name.
using StateDict = std::map<std::string, Tensor>;

/// Base of everything that has parameters. A derived class holds its tensors and submodules as plain members and
/// registers them in its constructor:
///
///     Linear::Linear(int64_t in, int64_t out, Generator& generator) : weight(randn({out, in}, generator)) {
///       register_parameter("weight", weight);
///     }
///
/// The registry points at those members, so a module is neither copied nor moved.
class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// The class's name, for messages.
  [[nodiscard]] std::string_view name() const { return name_; }

  /// This module's parameters and then those of its submodules, depth first; tied ones (one tensor under several
  /// names) once, under the first name.
  [[nodiscard]] NamedTensors named_parameters() const;
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// Tensors that belong to the state but are not trained.
  [[nodiscard]] NamedTensors named_buffers() const;
  /// Number of elements of all parameters, tied ones once.
  [[nodiscard]] int64_t num_parameters() const;

  /// Parameters and buffers by name. The tensors share memory with the module and have no history.
  [[nodiscard]] StateDict state_dict() const;
  /// Copies the entries of `state` into the parameters and buffers of the same names, converted to their dtypes.
  /// With `strict` every name must occur on both sides. Throws Error that lists missing, unexpected and mis-shaped
  /// entries; the module has not changed then.
  void load_state_dict(const StateDict& state, bool strict = true);

  /// Switches between training and evaluation, for modules that tell them apart.
  void train(bool mode = true);
  void eval() { train(false); }
  [[nodiscard]] bool training() const { return training_; }

  /// Clears the gradient of every parameter.
  void zero_grad();
  /// Converts floating-point parameters and buffers. They become new tensors without gradients: make optimizers and
  /// take handles afterwards.
  void to(DType dtype);
  /// Moves parameters and buffers to another device; as for the dtype, they become new tensors.
  void to(Device device);

 protected:
  /// `name` is the class's name, a string literal.
  explicit Module(std::string_view name) : name_(name) {}

  /// Makes the member `parameter` a trained leaf known as `name`. Throws Error for an empty name, for a
  /// name in use or one that continues another with a dot (`a` beside `a.b`), and for a tensor that is undefined or
  /// not floating point.
  void register_parameter(std::string name, Tensor& parameter);
  /// Makes the member `buffer` part of the state.
  void register_buffer(std::string name, Tensor& buffer);
  /// Adds the member `module`, whose names get the prefix `name.`.
  void register_module(std::string name, Module& module);

 private:
  struct Slot {
    std::string name;
    Tensor* tensor;
  };
  struct Child {
    std::string name;
    Module* module;
  };

  void check_name(const std::string& name) const;
  void collect(const std::string& prefix, std::vector<Slot> Module::*slots, std::vector<Slot>& out) const;
  [[nodiscard]] std::vector<Slot> all(std::vector<Slot> Module::*slots) const;
  template <class Convert>
  void convert(const Convert& change);

  std::string_view name_;
  bool training_ = true;
  std::vector<Slot> parameters_;
  std::vector<Slot> buffers_;
  std::vector<Child> children_;
};

}  // namespace deltatape::nn

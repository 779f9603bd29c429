// Tensor: a cheap handle to a typed, strided window on shared memory.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/graph_node.h"
#include "core/shape.h"
#include "core/storage.h"

namespace deltatape {

struct BackwardOptions;
class HookHandle;
struct Slice;

/// How to create a tensor.
struct TensorOptions {
  DType dtype = DType::f32;
  Device device = Device::cpu();
};

/// What a Tensor points to. Ops and backends use Tensor's methods; only core and autograd look in here.
struct TensorImpl : RefCounted {
  Ref<Storage> storage;
  Shape shape;
  Strides strides;     // in elements
  int64_t offset = 0;  // of the first element in storage, in elements
  DType dtype = DType::f32;
  bool contiguous = true;
  bool requires_grad = false;
  uint32_t output_index = 0;  // which output of `node` this tensor is
  Ref<GraphNode> node;        // the op that made it, or a leaf's own node; empty when no gradient is wanted
};

/// A handle: copying it shares memory, as do views. Its shape never changes.
///
/// Threads: distinct tensors may be used by distinct threads, and one tensor may be read by several. Writing to a
/// tensor, or to a view of it, while another thread reads it is a race; so is running two backward passes at a time
/// that free the same graph or accumulate into the same leaf. See docs/architecture.md.
class Tensor {
 public:
  /// No tensor at all (`defined()` is false): an absent optional argument. Other methods throw Error on it.
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}

  [[nodiscard]] bool defined() const { return static_cast<bool>(impl_); }
  [[nodiscard]] const Shape& shape() const { return checked().shape; }
  [[nodiscard]] const Strides& strides() const { return checked().strides; }
  [[nodiscard]] int64_t offset() const { return checked().offset; }
  [[nodiscard]] int rank() const { return checked().shape.rank(); }
  /// Size of a dimension; negative ones count from the end.
  [[nodiscard]] int64_t size(int64_t dim) const {
    return checked().shape[normalize_dim("Tensor::size", "dim", dim, rank())];
  }
  [[nodiscard]] int64_t numel() const { return checked().shape.numel(); }
  [[nodiscard]] DType dtype() const { return checked().dtype; }
  [[nodiscard]] Device device() const { return checked().storage->device(); }
  [[nodiscard]] TensorOptions options() const { return {dtype(), device()}; }
  /// Whether the elements lie in row-major order without gaps.
  [[nodiscard]] bool is_contiguous() const { return checked().contiguous; }

  /// The first element, for reading. Throws Error when T is not the element type or the memory is not the host's.
  template <class T>
  [[nodiscard]] const T* data() const {
    check_access(dtype_of<T>);
    return static_cast<const T*>(raw());
  }
  /// The first element, for writing: counts as an in-place change. Same errors as data.
  template <class T>
  [[nodiscard]] T* mutable_data() {
    check_access(dtype_of<T>);
    impl_->storage->bump_version();
    return static_cast<T*>(mutable_raw());
  }
  /// The first element's address, untyped, on the tensor's device.
  [[nodiscard]] const void* raw() const {
    return static_cast<const char*>(checked().storage->data()) +
           checked().offset * static_cast<int64_t>(size_of(dtype()));
  }
  /// As raw, for backends that fill a fresh result; does not count as an in-place change.
  [[nodiscard]] void* mutable_raw() const {
    return static_cast<char*>(checked().storage->data()) + checked().offset * static_cast<int64_t>(size_of(dtype()));
  }
  [[nodiscard]] const Ref<Storage>& storage() const { return checked().storage; }

  /// The only element, converted to double (a tensor of any dtype with one element). Throws Error otherwise. Of a
  /// tensor on another device it takes a copy, which waits for that device's work.
  [[nodiscard]] double item() const;
  /// All elements in row-major order, converted to T (float, double, int64_t, int32_t, bool, BFloat16, Float16); copied
  /// from other devices as for item.
  template <class T>
  [[nodiscard]] std::vector<T> to_vector() const;

  /// A view of the same memory with other sizes and strides and no autograd history. For authors of ops.
  [[nodiscard]] Tensor as_view(const Shape& shape, const Strides& strides, int64_t offset) const;

  /// `t[i]`: the i-th entry along the first dimension, a view (ops/views.h, select).
  Tensor operator[](int64_t index) const;
  /// `t[Slice{2, 5}]`: a range of the first dimension, a view (ops/views.h, slice).
  Tensor operator[](const Slice& range) const;

  // Autograd; defined in autograd/tensor_autograd.cpp.

  /// Whether a gradient flows to this tensor.
  [[nodiscard]] bool requires_grad() const { return checked().requires_grad; }
  /// Makes a leaf collect its gradient (or stop). Throws Error on a non-leaf and on integer tensors.
  Tensor& set_requires_grad(bool value = true);
  /// True unless an op recorded this tensor.
  [[nodiscard]] bool is_leaf() const;
  /// The gradient accumulated by backward; undefined when there is none. For a non-leaf only after retain_grad.
  [[nodiscard]] Tensor grad() const;
  /// Replaces the accumulated gradient of a leaf. An undefined tensor clears it.
  void set_grad(const Tensor& grad);
  /// Clears the accumulated gradient.
  void zero_grad() { set_grad(Tensor()); }
  /// Makes a non-leaf keep its gradient for grad().
  void retain_grad();
  /// Calls `hook` with the gradient of this tensor when backward has it complete; what the hook returns takes its
  /// place (an undefined tensor leaves it as it is). Returns a handle that can remove the hook.
  HookHandle register_hook(std::function<Tensor(const Tensor&)> hook);
  /// The same memory without history.
  [[nodiscard]] Tensor detach() const;
  /// Adds d(this)/d(leaf) to the gradient of every leaf. `this` has one element unless `gradient` (same shape) is
  /// given. See autograd/backward.h.
  void backward(const Tensor& gradient = Tensor()) const;
  void backward(const Tensor& gradient, const BackwardOptions& options) const;

  [[nodiscard]] TensorImpl* impl() const { return impl_.get(); }
  /// Whether both handles are the same tensor (not: equal elements).
  [[nodiscard]] bool is_same(const Tensor& other) const { return impl_ == other.impl_; }

 private:
  [[nodiscard]] const TensorImpl& checked() const {
    if (!impl_) [[unlikely]] {
      fail_undefined();
    }
    return *impl_;
  }
  [[noreturn]] static void fail_undefined();
  void check_access(DType dtype) const;

  Ref<TensorImpl> impl_;
};

/// A fresh tensor whose elements are not initialised.
Tensor empty(const Shape& shape, TensorOptions options = {});
Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu());

/// A host tensor of T's dtype with these elements in row-major order. Throws Error when their number does not fit.
template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape);
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape) {
  return from_span(std::span<const T>(values), shape);
}
template <>
Tensor from_vector(const std::vector<bool>& values, const Shape& shape);
template <class T>
Tensor from_vector(const std::vector<T>& values) {
  return from_vector(values, {static_cast<int64_t>(values.size())});
}

/// `x` itself when it is on the host, else a copy there without autograd history: the memory from its first to its last
/// element, with the same strides.
Tensor on_host(const Tensor& x);

/// A tensor on memory that the caller owns; `release`, unless empty, runs when the last handle is gone.
Tensor from_external(void* data, const Shape& shape, TensorOptions options, std::function<void()> release);

/// `f32[2, 3] cpu`: dtype, shape and device in one word each, for messages.
std::string describe(const Tensor& tensor);
/// Elements in nested brackets (long dimensions shortened), then dtype and shape.
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

}  // namespace deltatape

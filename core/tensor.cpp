#include "core/tensor.h"

#include <algorithm>
#include <limits>

#include "core/device_memory.h"

namespace deltatape {
namespace {

// Strides of dimensions of size 1 never matter.
bool is_dense(const Shape& shape, const Strides& strides) {
  int64_t expected = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (shape[d] == 0) {
      return true;
    }
    if (shape[d] != 1 && strides[d] != expected) {
      return false;
    }
    expected *= shape[d];
  }
  return true;
}

size_t checked_bytes(const Shape& shape, DType dtype) {
  auto bytes = static_cast<int64_t>(size_of(dtype));
  for (const int64_t size : shape) {
    check(size >= 0, "empty", "shape is {}, expected sizes of 0 or more", shape);
    check(!__builtin_mul_overflow(bytes, size, &bytes), "empty", "shape {} of {} does not fit in memory", shape, dtype);
  }
  return static_cast<size_t>(bytes);
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, BFloat16> || std::is_same_v<From, Float16>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, BFloat16> || std::is_same_v<To, Float16>) {
    return To(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

// Visits the elements in row-major order, whatever the strides.
template <class F>
void for_each_offset(const Shape& shape, const Strides& strides, F&& visit) {
  if (shape.numel() == 0) {
    return;
  }
  Shape index = Shape::filled(shape.rank(), 0);
  int64_t offset = 0;
  while (true) {
    visit(offset);
    int d = shape.rank() - 1;
    for (; d >= 0; --d) {
      offset += strides[d];
      if (++index[d] < shape[d]) {
        break;
      }
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
    if (d < 0) {
      return;
    }
  }
}

}  // namespace

void Tensor::fail_undefined() { fail("Tensor", "the tensor is undefined, expected one with elements"); }

void Tensor::check_access(DType dtype) const {
  check(defined(), "Tensor::data", "the tensor is undefined");
  check(impl_->dtype == dtype, "Tensor::data", "the elements are {}, asked for as {}", impl_->dtype, dtype);
  check(device().is_cpu(), "Tensor::data", "the tensor is on {}, expected cpu", device());
}

double Tensor::item() const {
  check(defined(), "Tensor::item", "the tensor is undefined");
  check(numel() == 1, "Tensor::item", "the tensor has shape {}, expected one element", shape());
  return to_vector<double>()[0];
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  check(defined(), "Tensor::to_vector", "the tensor is undefined");
  const Tensor here = on_host(*this);
  std::vector<T> values;
  values.reserve(static_cast<size_t>(numel()));
  visit_dtype(dtype(), [&](auto tag) {
    using From = decltype(tag);
    const auto* first = static_cast<const From*>(here.raw());
    for_each_offset(shape(), strides(), [&](int64_t offset) { values.push_back(convert<T>(first[offset])); });
  });
  return values;
}

Tensor Tensor::as_view(const Shape& shape, const Strides& strides, int64_t offset) const {
  auto view = Ref<TensorImpl>::make();
  view->storage = impl_->storage;
  view->shape = shape;
  view->strides = strides;
  view->offset = offset;
  view->dtype = impl_->dtype;
  view->contiguous = is_dense(shape, strides);
  return Tensor(std::move(view));
}

Tensor empty(const Shape& shape, TensorOptions options) {
  auto impl = Ref<TensorImpl>::make();
  impl->storage = Storage::allocate(checked_bytes(shape, options.dtype), options.device);
  impl->shape = shape;
  impl->strides = contiguous_strides(shape);
  impl->dtype = options.dtype;
  return Tensor(std::move(impl));
}

Tensor empty(const Shape& shape, DType dtype, Device device) { return empty(shape, TensorOptions{dtype, device}); }

template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape) {
  check(shape.numel() == static_cast<int64_t>(values.size()), "from_vector",
        "values has {} elements, expected {} for shape {}", values.size(), shape.numel(), shape);
  Tensor out = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), static_cast<T*>(out.mutable_raw()));
  return out;
}

// std::vector<bool> has no contiguous elements.
template <>
Tensor from_vector<bool>(const std::vector<bool>& values, const Shape& shape) {
  check(shape.numel() == static_cast<int64_t>(values.size()), "from_vector",
        "values has {} elements, expected {} for shape {}", values.size(), shape.numel(), shape);
  Tensor out = empty(shape, DType::boolean);
  std::copy(values.begin(), values.end(), static_cast<bool*>(out.mutable_raw()));
  return out;
}

Tensor on_host(const Tensor& x) {
  check(x.defined(), "on_host", "the tensor is undefined");
  if (x.device().is_cpu()) {
    return x;
  }
  if (x.numel() == 0) {
    return empty(x.shape(), x.dtype());
  }
  int64_t count = 1;  // of elements from the first to the last; strides are never negative
  for (int d = 0; d < x.rank(); ++d) {
    count += (x.shape()[d] - 1) * x.strides()[d];
  }
  const Tensor block = empty({count}, x.dtype());
  copy_to_host(block.mutable_raw(), x.raw(), static_cast<size_t>(count) * size_of(x.dtype()), x.device());
  return block.as_view(x.shape(), x.strides(), 0);
}

Tensor from_external(void* data, const Shape& shape, TensorOptions options, std::function<void()> release) {
  check(data != nullptr || shape.numel() == 0, "from_external", "data is null, expected {} elements", shape.numel());
  auto impl = Ref<TensorImpl>::make();
  impl->storage = Storage::wrap(data, checked_bytes(shape, options.dtype), options.device, std::move(release));
  impl->shape = shape;
  impl->strides = contiguous_strides(shape);
  impl->dtype = options.dtype;
  return Tensor(std::move(impl));
}

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) {
    return "undefined";
  }
  return fmt::format("{}{} {}", tensor.dtype(), tensor.shape(), tensor.device());
}

template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<bool> Tensor::to_vector() const;
template std::vector<BFloat16> Tensor::to_vector() const;
template std::vector<Float16> Tensor::to_vector() const;

template Tensor from_span(std::span<const float>, const Shape&);
template Tensor from_span(std::span<const double>, const Shape&);
template Tensor from_span(std::span<const int64_t>, const Shape&);
template Tensor from_span(std::span<const int32_t>, const Shape&);
template Tensor from_span(std::span<const bool>, const Shape&);
template Tensor from_span(std::span<const BFloat16>, const Shape&);
template Tensor from_span(std::span<const Float16>, const Shape&);

}  // namespace deltatape

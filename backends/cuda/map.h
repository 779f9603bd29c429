// map_elements: a function of one element of each operand, over tensors of one shape and any strides. Dense operands,
// and such that are dense along the last dimensions and repeated along the others, are read and written 16 bytes at a
// time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/element.h"
#include "backends/cuda/hd.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/runtime/place.h"
#include "backends/cuda/runtime/stream.h"
#include "core/tensor.h"

namespace deltatape::cuda {

/// The common iteration space of N tensors: sizes of 1 are dropped, and neighbouring dimensions that every tensor walks
/// through as if they were one are merged. Innermost first; strides in elements.
template <int N>
struct Loop {
  int rank = 0;  // at least 1
  int64_t count = 1;
  int64_t sizes[kMaxRank];
  int64_t strides[N][kMaxRank];

  /// Offsets of entry `i`, in row-major order, of the dimensions from `first` on.
  struct Offsets {
    int64_t of[N];
  };
  DT_HD Offsets offsets(int64_t i, int first = 0) const {
    Offsets result;
    for (int k = 0; k < N; ++k) {
      result.of[k] = 0;
    }
    for (int d = first; d < rank; ++d) {
      const Division place = divide(i, sizes[d]);
      i = place.quotient;
      for (int k = 0; k < N; ++k) {
        result.of[k] += place.remainder * strides[k][d];
      }
    }
    return result;
  }
};

/// An operand of a map: a tensor, or a number that stands for a tensor of equal elements.
class Operand {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): an argument of map_elements
  Operand(const Tensor& tensor) : tensor_(&tensor) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Operand(double number) : number_(number) {}
  /// nullptr for a number.
  [[nodiscard]] const Tensor* tensor() const { return tensor_; }
  [[nodiscard]] double number() const { return number_; }

 private:
  const Tensor* tensor_ = nullptr;
  double number_ = 0.0;
};

/// The loop over `shape`; numbers (null) have stride 0.
template <int N>
Loop<N> merged_loop(const Shape& shape, const std::array<const Tensor*, static_cast<size_t>(N)>& tensors) {
  Loop<N> loop;
  loop.count = shape.numel();
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (shape[d] == 1) {
      continue;
    }
    int64_t strides[N];
    bool merges = loop.rank > 0;
    for (int k = 0; k < N; ++k) {
      const Tensor* tensor = tensors[static_cast<size_t>(k)];
      strides[k] = tensor == nullptr ? 0 : tensor->strides()[d];
      merges = merges && strides[k] == loop.strides[k][loop.rank - 1] * loop.sizes[loop.rank - 1];
    }
    if (merges) {
      loop.sizes[loop.rank - 1] *= shape[d];
      continue;
    }
    loop.sizes[loop.rank] = shape[d];
    for (int k = 0; k < N; ++k) {
      loop.strides[k][loop.rank] = strides[k];
    }
    ++loop.rank;
  }
  if (loop.rank == 0) {  // one element
    loop.rank = 1;
    loop.sizes[0] = 1;
    for (int k = 0; k < N; ++k) {
      loop.strides[k][0] = 0;
    }
  }
  return loop;
}

/// What a dtype is computed in: f64 and f32 as they are, bf16 and f16 in f32, integers and bool in i64. Calls f with a
/// value of that type.
template <class F>
decltype(auto) visit_compute_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(double{});
    case DType::f32:
    case DType::bf16:
    case DType::f16:
      return f(float{});
    default:
      return f(int64_t{});
  }
}

/// Element i of memory of `dtype`, one that is computed in C.
template <class C>
DT_HD inline C load_element(const void* data, DType dtype, int64_t i) {
  if constexpr (std::is_same_v<C, double>) {
    return static_cast<const double*>(data)[i];
  } else if constexpr (std::is_same_v<C, float>) {
    switch (dtype) {
      case DType::bf16:
        return widen(static_cast<const BFloat16*>(data)[i]);
      case DType::f16:
        return widen(static_cast<const Float16*>(data)[i]);
      default:
        return static_cast<const float*>(data)[i];
    }
  } else {
    switch (dtype) {
      case DType::i32:
        return static_cast<const int32_t*>(data)[i];
      case DType::boolean:
        return static_cast<const bool*>(data)[i] ? 1 : 0;
      default:
        return static_cast<const int64_t*>(data)[i];
    }
  }
}
template <class C>
DT_HD inline void store_element(void* data, DType dtype, int64_t i, C value) {
  if constexpr (std::is_same_v<C, double>) {
    static_cast<double*>(data)[i] = value;
  } else if constexpr (std::is_same_v<C, float>) {
    switch (dtype) {
      case DType::bf16:
        static_cast<BFloat16*>(data)[i] = narrow<BFloat16>(value);
        return;
      case DType::f16:
        static_cast<Float16*>(data)[i] = narrow<Float16>(value);
        return;
      default:
        static_cast<float*>(data)[i] = value;
    }
  } else {
    switch (dtype) {
      case DType::i32:
        static_cast<int32_t*>(data)[i] = narrow<int32_t>(value);
        return;
      case DType::boolean:
        static_cast<bool*>(data)[i] = narrow<bool>(value);
        return;
      default:
        static_cast<int64_t*>(data)[i] = value;
    }
  }
}

namespace detail {

template <class C, int N, class F>
DT_HD inline auto apply(const F& f, const C (&x)[N]) {
  static_assert(N >= 1 && N <= 2);
  if constexpr (N == 1) {
    return f(x[0]);
  } else {
    return f(x[0], x[1]);
  }
}

/// One element at a time, of any strides; C is what the dtypes are computed in, and `Result` is C or bool.
template <class C, class Result, int N, class F>
struct StridedMap {
  F f;
  Loop<N + 1> loop;   // out first
  const void* in[N];  // null: the number
  C number[N];
  DType in_dtype;
  DType out_dtype;
  void* out;

  DT_HD void operator()(int64_t i) const {
    const auto at = loop.offsets(i);
    C x[N];
    for (int k = 0; k < N; ++k) {
      x[k] = in[k] == nullptr ? number[k] : load_element<C>(in[k], in_dtype, at.of[k + 1]);
    }
    if constexpr (std::is_same_v<Result, bool>) {
      static_cast<bool*>(out)[at.of[0]] = apply<C, N>(f, x);
    } else {
      store_element<C>(out, out_dtype, at.of[0], apply<C, N>(f, x));
    }
  }
};

/// Elements of which the widest operand has 16 bytes.
template <class T, int count>
struct alignas(sizeof(T) * count) Words {
  T v[count];
};

/// 16 bytes of T at a time: the innermost dimension is dense in out, and dense or repeated in the inputs.
template <class T, class Out, int N, class F>
struct PackedMap {
  static constexpr int kPack = static_cast<int>(16 / sizeof(T));
  F f;
  Loop<N + 1> loop;
  const T* in[N];
  Compute<T> number[N];
  Out* out;
  int64_t packs;  // per row

  DT_HD void operator()(int64_t i) const {
    const Division place = divide(i, packs);
    const auto at = loop.offsets(place.quotient, 1);
    const int64_t first = place.remainder * kPack;
    const int64_t left = loop.sizes[0] - first;
    Compute<T> x[N][kPack];
    for (int k = 0; k < N; ++k) {
      if (in[k] == nullptr || loop.strides[k + 1][0] == 0) {
        const Compute<T> one = in[k] == nullptr ? number[k] : widen(in[k][at.of[k + 1]]);
        for (int j = 0; j < kPack; ++j) {
          x[k][j] = one;
        }
      } else if (left >= kPack) {
        const auto words = *reinterpret_cast<const Words<T, kPack>*>(in[k] + at.of[k + 1] + first);
        for (int j = 0; j < kPack; ++j) {
          x[k][j] = widen(words.v[j]);
        }
      } else {
        for (int j = 0; j < kPack; ++j) {
          x[k][j] = j < left ? widen(in[k][at.of[k + 1] + first + j]) : Compute<T>(0);
        }
      }
    }
    Words<Out, kPack> results;
    for (int j = 0; j < kPack; ++j) {
      Compute<T> xs[N];
      for (int k = 0; k < N; ++k) {
        xs[k] = x[k][j];
      }
      if constexpr (std::is_same_v<Out, bool>) {
        results.v[j] = apply<Compute<T>, N>(f, xs);
      } else {
        results.v[j] = narrow<Out>(apply<Compute<T>, N>(f, xs));
      }
    }
    Out* to = out + at.of[0] + first;
    if (left >= kPack) {
      *reinterpret_cast<Words<Out, kPack>*>(to) = results;
    } else {
      for (int j = 0; j < kPack; ++j) {
        if (j < left) {
          to[j] = results.v[j];
        }
      }
    }
  }
};

/// Whether packs of `pack` elements can be read and written: rows dense or repeated, and aligned.
template <int N>
bool is_packable(const Loop<N>& loop, const std::array<const Tensor*, static_cast<size_t>(N)>& tensors, int64_t pack) {
  for (int k = 0; k < N; ++k) {
    const Tensor* tensor = tensors[static_cast<size_t>(k)];
    if (tensor == nullptr || (k > 0 && loop.strides[k][0] == 0)) {
      continue;
    }
    if (loop.strides[k][0] != 1 && loop.sizes[0] != 1) {
      return false;
    }
    const auto bytes = pack * static_cast<int64_t>(size_of(tensor->dtype()));
    if (reinterpret_cast<uintptr_t>(tensor->raw()) % static_cast<uintptr_t>(bytes) != 0) {
      return false;
    }
    for (int d = 1; d < loop.rank; ++d) {
      if (loop.strides[k][d] % pack != 0) {
        return false;
      }
    }
  }
  return loop.sizes[0] >= pack;
}

template <class T, class Out, int N, class F>
void launch_packed(const F& f, const Loop<N + 1>& loop, const std::array<Operand, static_cast<size_t>(N)>& operands,
                   const Tensor& out, Place where) {
  PackedMap<T, Out, N, F> map;
  map.f = f;
  map.loop = loop;
  for (int k = 0; k < N; ++k) {
    const Operand& operand = operands[static_cast<size_t>(k)];
    map.in[k] = operand.tensor() == nullptr ? nullptr : static_cast<const T*>(operand.tensor()->raw());
    map.number[k] = static_cast<Compute<T>>(operand.number());
  }
  map.out = static_cast<Out*>(out.mutable_raw());
  map.packs = (loop.sizes[0] + map.kPack - 1) / map.kPack;
  launch_elements(current_stream(out.device()), loop.count / loop.sizes[0] * map.packs, map, where);
}

}  // namespace detail

/// out[..] = f(operands[..]..) in C, the type that the operands' one dtype is computed in. `out` has that dtype, or it
/// is bool where Result is. At least one operand is a tensor.
template <class C, class Result, int N, class F>
void map_elements(const F& f, const std::array<Operand, static_cast<size_t>(N)>& operands, const Tensor& out,
                  Place where = Place::here()) {
  if (out.numel() == 0) {
    return;
  }
  std::array<const Tensor*, static_cast<size_t>(N) + 1> tensors{&out};
  DType dtype = out.dtype();
  for (size_t k = 0; k < operands.size(); ++k) {
    tensors[k + 1] = operands[k].tensor();
    if (operands[k].tensor() != nullptr) {
      dtype = operands[k].tensor()->dtype();
    }
  }
  const Loop<N + 1> loop = merged_loop<N + 1>(out.shape(), tensors);
  if constexpr (std::is_floating_point_v<C>) {
    if (detail::is_packable<N + 1>(loop, tensors, static_cast<int64_t>(16 / size_of(dtype)))) {
      constexpr bool kToBool = std::is_same_v<Result, bool>;
      if constexpr (std::is_same_v<C, double>) {
        return detail::launch_packed<double, std::conditional_t<kToBool, bool, double>, N>(f, loop, operands, out,
                                                                                           where);
      } else if (dtype == DType::f32) {
        return detail::launch_packed<float, std::conditional_t<kToBool, bool, float>, N>(f, loop, operands, out, where);
      } else if (dtype == DType::bf16) {
        return detail::launch_packed<BFloat16, std::conditional_t<kToBool, bool, BFloat16>, N>(f, loop, operands, out,
                                                                                               where);
      } else {
        return detail::launch_packed<Float16, std::conditional_t<kToBool, bool, Float16>, N>(f, loop, operands, out,
                                                                                             where);
      }
    }
  }
  detail::StridedMap<C, Result, N, F> map;
  map.f = f;
  map.loop = loop;
  for (int k = 0; k < N; ++k) {
    const Operand& operand = operands[static_cast<size_t>(k)];
    map.in[k] = operand.tensor() == nullptr ? nullptr : operand.tensor()->raw();
    map.number[k] = static_cast<C>(operand.number());
  }
  map.in_dtype = dtype;
  map.out_dtype = out.dtype();
  map.out = out.mutable_raw();
  launch_elements(current_stream(out.device()), loop.count, map, where);
}

}  // namespace deltatape::cuda

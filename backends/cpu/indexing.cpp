// Reading and adding by index. Indices are checked before anything is written, and sums over equal indices run in the
// order of their positions, whatever the number of threads.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <type_traits>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/index_values.h"
#include "backends/cpu/strided_loop.h"
#include "backends/cpu/thread_split.h"
#include "backends/slices.h"

namespace deltatape::cpu {
namespace {

Shape part(const Shape& shape, int first, int last) {
  return Shape(std::span<const int64_t>(shape.begin() + first, shape.begin() + last));
}

bool is_dense_block(const Shape& shape, const Strides& strides) {
  int64_t expected = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (shape[d] != 1 && strides[d] != expected) {
      return false;
    }
    expected *= shape[d];
  }
  return true;
}

Tensor dense(const Backend& backend, const Tensor& x) {
  if (x.is_contiguous()) {
    return x;
  }
  Tensor copy = empty(x.shape(), x.options());
  backend.copy(x, copy);
  return copy;
}

// What many terms of an element type are summed in.
template <class T>
using SumType = std::conditional_t<std::is_same_v<T, float>, double, ComputeType<T>>;
template <class T>
inline constexpr bool kIsFloat = std::is_floating_point_v<ComputeType<T>>;
// Adding -0 changes nothing, not even a zero's sign; +0 would.
template <class T>
inline constexpr SumType<T> kNothing = kIsFloat<T> ? SumType<T>(-0.0) : SumType<T>(0);

template <class T>
void add_to(T& place, SumType<T> term) {
  if constexpr (std::is_same_v<T, bool>) {
    place = place || term;
  } else {
    place =
        static_cast<T>(static_cast<ComputeType<T>>(static_cast<SumType<T>>(static_cast<ComputeType<T>>(place)) + term));
  }
}
template <class T>
SumType<T> widen(T x) {
  return static_cast<SumType<T>>(static_cast<ComputeType<T>>(x));
}
template <class Sum>
void accumulate(Sum& sum, Sum term) {
  if constexpr (std::is_same_v<Sum, bool>) {
    sum = sum || term;
  } else {
    sum += term;
  }
}

template <class T>
void scatter_add_slices(Slices to, int64_t count, const std::vector<int64_t>& index, const T* src, T* out) {
  // Sums of a block of neighbouring lines are gathered in a wider type, and added to `out` once.
  const int64_t fitting = (int64_t{1} << 18) / std::max<int64_t>(to.size, 1);
  const int64_t block = std::clamp<int64_t>(fitting, 1, std::min<int64_t>(to.inner, 64));
  const int64_t blocks = ceil_div(to.inner, block);
  parallel_for(to.outer * blocks, static_cast<double>((count + to.size) * block), [&](int64_t task) {
    const int64_t outer = task / blocks;
    const int64_t first = task % blocks * block;
    const int64_t lines = std::min(block, to.inner - first);
    T* const out_slice = out + outer * to.size * to.inner + first;
    const auto from = [&](int64_t i) { return (outer * count + i) * to.inner + first; };
    if (count == 1) {
      for (int64_t c = 0; c < lines; ++c) {
        const int64_t at = from(0) + c;
        add_to(out_slice[index[static_cast<size_t>(at)] * to.inner + c], widen(src[at]));
      }
      return;
    }
    Scratch<SumType<T>> sums(to.size * lines);
    std::fill_n(sums.data(), to.size * lines, kNothing<T>);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < lines; ++c) {
        const int64_t at = from(i) + c;
        accumulate(sums.data()[index[static_cast<size_t>(at)] * lines + c], widen(src[at]));
      }
    }
    for (int64_t i = 0; i < to.size; ++i) {
      for (int64_t c = 0; c < lines; ++c) {
        add_to(out_slice[i * to.inner + c], sums.data()[i * lines + c]);
      }
    }
  });
}

// Positions in the order of their index, and where each group of equal indices starts (and the end).
struct Groups {
  std::vector<int64_t> positions;
  std::vector<int64_t> starts;
};
Groups group_by_index(const std::vector<int64_t>& index) {
  Groups groups;
  groups.positions.resize(index.size());
  std::iota(groups.positions.begin(), groups.positions.end(), int64_t{0});
  const auto index_at = [&](int64_t position) { return index[static_cast<size_t>(position)]; };
  std::stable_sort(groups.positions.begin(), groups.positions.end(),
                   [&](int64_t a, int64_t b) { return index_at(a) < index_at(b); });
  for (size_t i = 0; i < index.size(); ++i) {
    if (i == 0 || index_at(groups.positions[i]) != index_at(groups.positions[i - 1])) {
      groups.starts.push_back(static_cast<int64_t>(i));
    }
  }
  groups.starts.push_back(static_cast<int64_t>(index.size()));
  return groups;
}

template <class T>
void index_add_slices(Slices to, const std::vector<int64_t>& index, const T* src, T* out) {
  const Groups groups = group_by_index(index);
  const auto group_count = static_cast<int64_t>(groups.starts.size()) - 1;
  const auto count = static_cast<int64_t>(index.size());
  constexpr int64_t kBlock = 256;
  const int64_t blocks = ceil_div(to.inner, kBlock);
  const double terms_per_group = static_cast<double>(count) / static_cast<double>(std::max<int64_t>(group_count, 1));
  const double nanoseconds = terms_per_group * static_cast<double>(std::min(to.inner, kBlock)) * 0.5;
  parallel_for(to.outer * group_count * blocks, nanoseconds, [&](int64_t task) {
    const int64_t first = task % blocks * kBlock;
    const int64_t group = task / blocks % group_count;
    const int64_t outer = task / blocks / group_count;
    const int64_t width = std::min(kBlock, to.inner - first);
    const auto begin = static_cast<size_t>(groups.starts[static_cast<size_t>(group)]);
    const auto end = static_cast<size_t>(groups.starts[static_cast<size_t>(group) + 1]);
    const int64_t row = index[static_cast<size_t>(groups.positions[begin])];
    SumType<T> sums[kBlock];
    std::fill_n(sums, width, kNothing<T>);
    for (size_t i = begin; i < end; ++i) {
      const T* terms = src + (outer * count + groups.positions[i]) * to.inner + first;
      for (int64_t c = 0; c < width; ++c) {
        accumulate(sums[c], widen(terms[c]));
      }
    }
    T* place = out + (outer * to.size + row) * to.inner + first;
    for (int64_t c = 0; c < width; ++c) {
      add_to(place[c], sums[c]);
    }
  });
}

}  // namespace

void CpuBackend::gather(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const {
  const std::vector<int64_t> indices = checked_indices("gather", index, x.shape()[dim]);
  const int64_t count = out.numel();
  const int64_t step = x.strides()[dim];
  Strides other = x.strides();  // along `dim` the index decides
  other[dim] = 0;
  constexpr int64_t kBlock = 1024;
  visit_element_size(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto* in = static_cast<const T*>(x.raw());
    auto* place = static_cast<T*>(out.mutable_raw());
    parallel_for(ceil_div(count, kBlock), 3.0 * kBlock, [&](int64_t block) {
      const int64_t last = std::min(count, (block + 1) * kBlock);
      StridedPosition<1> position(out.shape(), {&other}, block * kBlock);
      for (int64_t i = block * kBlock; i < last; ++i, position.next()) {
        place[i] = in[position.offset(0) + indices[static_cast<size_t>(i)] * step];
      }
    });
  });
}

void CpuBackend::scatter_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const {
  const std::vector<int64_t> indices = checked_indices("scatter_add", index, out.shape()[dim]);
  if (indices.empty()) {
    return;
  }
  const Tensor terms = dense(*this, src);
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    scatter_add_slices(slices_along(out.shape(), dim), src.shape()[dim], indices, static_cast<const T*>(terms.raw()),
                       static_cast<T*>(out.mutable_raw()));
  });
}

void CpuBackend::index_select(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const {
  const std::vector<int64_t> indices = checked_indices("index_select", index, x.shape()[dim]);
  if (out.numel() == 0) {
    return;
  }
  const Slices to = slices_along(out.shape(), dim);
  const Shape outer_shape = part(x.shape(), 0, dim);
  const Strides outer_strides = part(x.strides(), 0, dim);
  const Shape inner_shape = part(x.shape(), dim + 1, x.rank());
  const Strides inner_strides = part(x.strides(), dim + 1, x.rank());
  const bool rows = is_dense_block(inner_shape, inner_strides);
  const int64_t step = x.strides()[dim];
  const int64_t block = std::max<int64_t>(1, 1024 / to.inner);  // entries along dim per task
  const int64_t blocks = ceil_div(to.size, block);
  visit_element_size(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto* in = static_cast<const T*>(x.raw());
    auto* out_data = static_cast<T*>(out.mutable_raw());
    const double nanoseconds = static_cast<double>(block * to.inner) * (rows ? 0.1 * sizeof(T) : 3.0);
    parallel_for(to.outer * blocks, nanoseconds, [&](int64_t task) {
      const int64_t outer = task / blocks;
      const int64_t first = task % blocks * block;
      const T* slice = in + StridedPosition<1>(outer_shape, {&outer_strides}, outer).offset(0);
      for (int64_t i = first; i < std::min(to.size, first + block); ++i) {
        const T* from = slice + indices[static_cast<size_t>(i)] * step;
        T* place = out_data + (outer * to.size + i) * to.inner;
        if (rows) {
          std::memcpy(place, from, static_cast<size_t>(to.inner) * sizeof(T));
          continue;
        }
        StridedPosition<1> position(inner_shape, {&inner_strides}, 0);
        for (int64_t c = 0; c < to.inner; ++c, position.next()) {
          place[c] = from[position.offset(0)];
        }
      }
    });
  });
}

void CpuBackend::index_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const {
  const std::vector<int64_t> indices = checked_indices("index_add", index, out.shape()[dim]);
  if (src.numel() == 0) {
    return;
  }
  const Tensor terms = dense(*this, src);
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    index_add_slices(slices_along(out.shape(), dim), indices, static_cast<const T*>(terms.raw()),
                     static_cast<T*>(out.mutable_raw()));
  });
}

}  // namespace deltatape::cpu

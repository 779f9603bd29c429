// Reading and adding by index. Indices are checked before anything is written (index_check.h). Sums over equal indices
// run in a fixed order: positions are sorted by where they go, so that one thread adds up each place.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/index_check.h"
#include "backends/cuda/map.h"
#include "backends/cuda/sort.h"
#include "backends/slices.h"

namespace deltatape::cuda {
namespace {

/// The loop over `shape` through x with these strides.
Loop<1> loop_through(const Tensor& x, const Shape& shape, const Strides& strides) {
  const Tensor view = x.as_view(shape, strides, x.offset());
  return merged_loop<1>(shape, {&view});
}

// Bytes: an index and an element read, an element written.
template <class Word>
struct Gather {
  const Word* x;
  const int64_t* index;
  Word* out;
  Loop<1> loop;  // through x, with stride 0 along dim
  int64_t step;

  DT_HD void operator()(int64_t i) const { out[i] = x[loop.offsets(i).of[0] + index[i] * step]; }
};

/// Rows as words of up to 16 bytes.
struct alignas(16) Word16 {
  uint64_t v[2];
};
// Bytes: each word read and written; the indices besides.
template <class Word>
struct IndexSelect {
  const Word* x;
  const int64_t* index;
  Word* out;
  Loop<1> loop;  // through x, in words, with stride 0 along dim
  int64_t step;
  int64_t count;
  int64_t inner;  // words

  DT_HD void operator()(int64_t i) const {
    const int64_t entry = divide(divide(i, inner).quotient, count).remainder;
    out[i] = x[loop.offsets(i).of[0] + index[entry] * step];
  }
};

template <class F>
void visit_word(int64_t bytes, F&& f) {
  switch (bytes) {
    case 16:
      return f(Word16{});
    case 8:
      return f(uint64_t{});
    case 4:
      return f(uint32_t{});
    case 2:
      return f(uint16_t{});
    default:
      return f(uint8_t{});
  }
}

/// How many elements one word may have: rows, strides and addresses are multiples of it.
int64_t elements_per_word(const Tensor& x, int dim, const Tensor& out, int64_t inner) {
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  int64_t dense_stride = 1;
  for (int d = x.rank() - 1; d > dim; --d) {
    if (x.shape()[d] != 1 && x.strides()[d] != dense_stride) {
      return 1;
    }
    dense_stride *= x.shape()[d];
  }
  for (int64_t elements = 16 / size; elements > 1; elements /= 2) {
    const auto fits = [&](int64_t number) { return number % elements == 0; };
    bool all = fits(inner);
    for (int d = 0; d <= dim; ++d) {
      all = all && (x.shape()[d] == 1 || fits(x.strides()[d]));
    }
    for (const Tensor* tensor : {&x, &out}) {
      all = all && reinterpret_cast<uintptr_t>(tensor->raw()) % static_cast<uintptr_t>(elements * size) == 0;
    }
    if (all) {
      return elements;
    }
  }
  return 1;
}

/// What many terms of an element type are summed in.
template <class T>
using SumType =
    std::conditional_t<std::is_same_v<T, float>, double,
                       std::conditional_t<std::is_same_v<T, int32_t> || std::is_same_v<T, bool>, int64_t, Compute<T>>>;
/// Adding -0 changes nothing, not even a zero's sign; +0 would.
template <class T>
DT_HD constexpr SumType<T> nothing() {
  return std::is_floating_point_v<SumType<T>> ? SumType<T>(-0.0) : SumType<T>(0);
}
/// bool is added as `or`: sums of ones are not 0.
template <class T>
DT_HD inline SumType<T> term(T x) {
  return static_cast<SumType<T>>(widen(x));
}
template <class T>
DT_HD inline void add_to(T& place, SumType<T> sum) {
  place = narrow<T>(static_cast<Compute<T>>(term(place) + sum));
}

/// Every place gets one term at most.
// Bytes: index and term read, place read and written.
template <class T>
struct AddOnce {
  const T* src;  // [outer, inner]
  const int64_t* index;
  T* out;  // [outer, size, inner]
  Slices to;

  DT_HD void operator()(int64_t i) const {
    const Division at = divide(i, to.inner);
    add_to(out[(at.quotient * to.size + index[i]) * to.inner + at.remainder], term(src[i]));
  }
};

/// Terms in the order of where they go: keys are places, and positions say which terms.
struct Order {
  const uint64_t* keys;
  const int64_t* positions;
  int64_t count;

  /// Whether term i goes where the one before it goes.
  [[nodiscard]] DT_HD bool goes_on(int64_t i) const { return i > 0 && keys[i] == keys[i - 1]; }
};
constexpr int64_t kChunk = 64;  // of terms: a long group is added up in parts of up to so many

/// src [outer, count, inner] is added to out [outer, size, inner].
template <class T>
struct AddGroups {
  using Sum = SumType<T>;
  Order order;
  const T* src;
  T* out;
  Sum* parts;  // [outer, chunks, inner]: what a chunk's first terms give when their group began before it
  int64_t chunks;
  Slices to;

  /// The terms of the group of term `first` from there to the chunk's end.
  [[nodiscard]] DT_HD Sum sum_within_chunk(int64_t first, int64_t outer, int64_t c) const {
    const int64_t chunk_end = (first / kChunk + 1) * kChunk;
    const int64_t last = chunk_end < order.count ? chunk_end : order.count;
    Sum sum = nothing<T>();
    for (int64_t i = first; i < last && order.keys[i] == order.keys[first]; ++i) {
      sum += term(src[(outer * order.count + order.positions[i]) * to.inner + c]);
    }
    return sum;
  }
};

// Bytes: of the two together: each term read, each place that has terms read and written; the order besides.
template <class T>
struct AddChunks {
  AddGroups<T> groups;
  DT_HD void operator()(int64_t i) const {
    const Division column = divide(i, groups.to.inner);
    const Division chunk = divide(column.quotient, groups.chunks);
    const int64_t first = chunk.remainder * kChunk;
    if (groups.order.goes_on(first)) {
      groups.parts[i] = groups.sum_within_chunk(first, chunk.quotient, column.remainder);
    }
  }
};
template <class T>
struct AddFromStarts {
  AddGroups<T> groups;
  DT_HD void operator()(int64_t i) const {
    const Order& order = groups.order;
    const Division column = divide(i, groups.to.inner);
    const Division at = divide(column.quotient, order.count);
    const int64_t first = at.remainder;
    if (order.goes_on(first)) {
      return;
    }
    const int64_t outer = at.quotient;
    auto sum = groups.sum_within_chunk(first, outer, column.remainder);
    for (int64_t chunk = first / kChunk + 1; chunk < groups.chunks; ++chunk) {
      if (order.keys[chunk * kChunk] != order.keys[first]) {
        break;
      }
      sum += groups.parts[(outer * groups.chunks + chunk) * groups.to.inner + column.remainder];
    }
    const auto row = static_cast<int64_t>(order.keys[first]);
    add_to(groups.out[(outer * groups.to.size + row) * groups.to.inner + column.remainder], sum);
  }
};

/// The place in out, as one number, of every term of src.
struct FlatPlaces {
  const int64_t* index;
  int64_t* out;
  int64_t count;  // of src along dim
  Slices to;

  DT_HD void operator()(int64_t i) const {
    const Division column = divide(i, to.inner);
    const int64_t outer = divide(column.quotient, count).quotient;
    out[i] = (outer * to.size + index[i]) * to.inner + column.remainder;
  }
};

template <class T>
void add_groups(const Stream& stream, const Sorted& sorted, const Tensor& src, const Tensor& out, Slices to) {
  const int64_t count = sorted.keys.numel();
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  const Tensor parts = scratch<SumType<T>>(to.outer * chunks * to.inner, out.device());
  const AddGroups<T> groups{{data_of<const uint64_t>(sorted.keys), data_of<const int64_t>(sorted.places), count},
                            data_of<const T>(src),
                            data_of<T>(out),
                            data_of<SumType<T>>(parts),
                            chunks,
                            to};
  launch_elements(stream, to.outer * chunks * to.inner, AddChunks<T>{groups});
  launch_elements(stream, to.outer * count * to.inner, AddFromStarts<T>{groups});
}

}  // namespace

void CudaBackend::gather(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const {
  const Tensor indices = checked_indices("gather", "index", index, x.shape()[dim]);
  if (out.numel() == 0) {
    return;
  }
  Strides other = x.strides();  // along `dim` the index decides
  other[dim] = 0;
  visit_element_size(out.dtype(), [&](auto tag) {
    using Word = decltype(tag);
    launch_elements(current_stream(out.device()), out.numel(),
                    Gather<Word>{data_of<const Word>(x), data_of<const int64_t>(indices), data_of<Word>(out),
                                 loop_through(x, out.shape(), other), x.strides()[dim]});
  });
}

void CudaBackend::index_select(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const {
  const Tensor indices = checked_indices("index_select", "index", index, x.shape()[dim]);
  if (out.numel() == 0) {
    return;
  }
  const Slices to = slices_along(out.shape(), dim);
  const int64_t elements = elements_per_word(x, dim, out, to.inner);
  // The same in words: the inner dimensions are dense then, and one.
  Shape shape = out.shape();
  Strides strides = x.strides();
  if (elements > 1) {
    while (shape.rank() > dim + 1) {
      shape.erase(shape.rank() - 1);
      strides.erase(strides.rank() - 1);
    }
    for (int d = 0; d < strides.rank(); ++d) {
      strides[d] /= elements;
    }
    shape.push_back(to.inner / elements);
    strides.push_back(1);
  }
  const int64_t step = strides[dim];
  strides[dim] = 0;
  visit_word(elements * static_cast<int64_t>(size_of(x.dtype())), [&](auto tag) {
    using Word = decltype(tag);
    const int64_t inner = to.inner / elements;
    launch_elements(current_stream(out.device()), to.outer * to.size * inner,
                    IndexSelect<Word>{data_of<const Word>(x), data_of<const int64_t>(indices), data_of<Word>(out),
                                      loop_through(x, shape, strides), step, to.size, inner});
  });
}

void CudaBackend::scatter_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const {
  const Tensor indices = checked_indices("scatter_add", "index", index, out.shape()[dim]);
  if (indices.numel() == 0) {
    return;
  }
  const Tensor terms = dense(src);
  const Slices to = slices_along(out.shape(), dim);
  const int64_t count = src.shape()[dim];
  const Stream stream = current_stream(out.device());
  if (count == 1) {
    visit_dtype(out.dtype(), [&](auto tag) {
      using T = decltype(tag);
      launch_elements(stream, terms.numel(),
                      AddOnce<T>{data_of<const T>(terms), data_of<const int64_t>(indices), data_of<T>(out), to});
    });
    return;
  }
  const Tensor places = empty({terms.numel()}, DType::i64, out.device());
  launch_elements(stream, terms.numel(),
                  FlatPlaces{data_of<const int64_t>(indices), data_of<int64_t>(places), count, to});
  const Sorted sorted = sort_with_places(stream, places, bits_below(out.numel()));
  visit_dtype(out.dtype(), [&](auto tag) {
    add_groups<decltype(tag)>(stream, sorted, flat(terms), flat(out), {1, out.numel(), 1});
  });
}

void CudaBackend::index_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const {
  const Tensor indices = checked_indices("index_add", "index", index, out.shape()[dim]);
  if (src.numel() == 0) {
    return;
  }
  const Stream stream = current_stream(out.device());
  const Sorted sorted = sort_with_places(stream, indices, bits_below(out.shape()[dim]));
  const Tensor terms = dense(src);
  visit_dtype(out.dtype(),
              [&](auto tag) { add_groups<decltype(tag)>(stream, sorted, terms, out, slices_along(out.shape(), dim)); });
}

}  // namespace deltatape::cuda

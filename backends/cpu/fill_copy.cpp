// Filling, copying and converting.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/stream_store.h"
#include "core/dtype.h"

namespace deltatape::cpu {
namespace {

template <class Word>
void fill_words(Word word, const Tensor& out) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(Word));
  if (out.is_contiguous() && out.numel() < kParallelElements) {
    std::fill_n(static_cast<Word*>(out.mutable_raw()), out.numel(), word);
    return;
  }
  const RowLoop<1> loop({&out});
  const int64_t stride = loop.row_strides()[0];
  loop.run([=](const std::array<char*, 1>& at, int64_t count) {
    if (stride == kSize) {
      std::fill_n(reinterpret_cast<Word*>(at[0]), count, word);
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      *reinterpret_cast<Word*>(at[0] + i * stride) = word;
    }
  });
}

/// out = in for elements of one size. Where out's rows lie across in's, squares of both go through the first-level
/// cache, so that every line of memory is used whole.
template <class Word>
void copy_across(const RowLoop<2>& loop, size_t in_dim) {
  constexpr int64_t kTile = 16;
  constexpr auto kSize = static_cast<int64_t>(sizeof(Word));
  const int64_t columns = loop.size(0);
  const int64_t rows = loop.size(in_dim);
  const int64_t column_step = loop.strides(0)[1];
  const int64_t row_step = loop.strides(in_dim)[0];
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  int64_t outer = 1;
  for (size_t dim = 1; dim < loop.rank(); ++dim) {
    outer *= dim == in_dim ? 1 : loop.size(dim);
  }
  parallel_ranges(outer * row_tiles, outer * rows * columns, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      char* to = loop.start()[0];
      const char* from = loop.start()[1];
      int64_t rest = item / row_tiles;
      for (size_t dim = 1; dim < loop.rank(); ++dim) {
        if (dim != in_dim) {
          to += rest % loop.size(dim) * loop.strides(dim)[0];
          from += rest % loop.size(dim) * loop.strides(dim)[1];
          rest /= loop.size(dim);
        }
      }
      const int64_t first_row = item % row_tiles * kTile;
      const int64_t last_row = std::min(rows, first_row + kTile);
      for (int64_t first = 0; first < columns; first += kTile) {
        const int64_t last = std::min(columns, first + kTile);
        for (int64_t row = first_row; row < last_row; ++row) {
          auto* target = reinterpret_cast<Word*>(to + row * row_step);
          const char* source = from + row * kSize;
          for (int64_t column = first; column < last; ++column) {
            target[column] = *reinterpret_cast<const Word*>(source + column * column_step);
          }
        }
      }
    }
  });
}

/// The dimension that `in` walks in steps of one element while out's rows are dense and lie across it; 0 for none.
size_t dimension_across(const RowLoop<2>& loop, int64_t size) {
  if (loop.row_strides()[0] != size || loop.row_strides()[1] == size || loop.size(0) < 4) {
    return 0;
  }
  for (size_t dim = 1; dim < loop.rank(); ++dim) {
    if (loop.strides(dim)[1] == size && loop.size(dim) >= 4) {
      return dim;
    }
  }
  return 0;
}

bool copy_transposed(const RowLoop<2>& loop, DType dtype) {
  const size_t size = size_of(dtype);
  const size_t dim = dimension_across(loop, static_cast<int64_t>(size));
  if (dim == 0) {
    return false;
  }
  switch (size) {
    case 8:
      copy_across<uint64_t>(loop, dim);
      break;
    case 4:
      copy_across<uint32_t>(loop, dim);
      break;
    case 2:
      copy_across<uint16_t>(loop, dim);
      break;
    default:
      copy_across<uint8_t>(loop, dim);
  }
  return true;
}

}  // namespace

void CpuBackend::fill(double value, const Tensor& out) const {
  uint64_t word = 0;
  convert_row(DType::f64, out.dtype())(reinterpret_cast<const char*>(&value), 0, reinterpret_cast<char*>(&word), 0, 1);
  const auto fill_as = [&](auto tag) {
    decltype(tag) element{};
    std::memcpy(&element, &word, sizeof(element));
    fill_words(element, out);
  };
  switch (size_of(out.dtype())) {
    case 8:
      return fill_as(uint64_t{});
    case 4:
      return fill_as(uint32_t{});
    case 2:
      return fill_as(uint16_t{});
    default:
      return fill_as(uint8_t{});
  }
}

void CpuBackend::copy(const Tensor& in, const Tensor& out) const {
  const int64_t count = out.numel();
  if (count == 0) {
    return;
  }
  const ConvertRow convert = convert_row(in.dtype(), out.dtype());
  const auto in_size = static_cast<int64_t>(size_of(in.dtype()));
  const auto out_size = static_cast<int64_t>(size_of(out.dtype()));
  if (in.is_contiguous() && out.is_contiguous() && count < kParallelElements) {
    convert(static_cast<const char*>(in.raw()), in_size, static_cast<char*>(out.mutable_raw()), out_size, count);
    return;
  }
  const RowLoop<2> loop({&out, &in});
  if (in.dtype() == out.dtype() && copy_transposed(loop, in.dtype())) {
    return;
  }
  const auto strides = loop.row_strides();
  const bool stream =
      in.dtype() == out.dtype() && strides[0] == out_size && strides[1] == in_size && count * out_size >= kStreamBytes;
  loop.run([=](const std::array<char*, 2>& at, int64_t length) {
    if (stream) {
      stream_store(at[0], at[1], length * out_size);
      end_of_stream();
    } else {
      convert(at[1], strides[1], at[0], strides[0], length);
    }
  });
}

void CpuBackend::arange(double start, double step, const Tensor& out) const {
  const ConvertRow convert = convert_row(DType::f64, out.dtype());
  const auto size = static_cast<int64_t>(size_of(out.dtype()));
  auto* to = static_cast<char*>(out.mutable_raw());
  parallel_ranges(out.numel(), out.numel(), [=](int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 512;
    std::array<double, static_cast<size_t>(kBlock)> values;
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t count = std::min(kBlock, end - first);
      for (int64_t i = 0; i < count; ++i) {
        values[static_cast<size_t>(i)] = start + static_cast<double>(first + i) * step;
      }
      convert(reinterpret_cast<const char*>(values.data()), sizeof(double), to + first * size, size, count);
    }
  });
}

}  // namespace deltatape::cpu

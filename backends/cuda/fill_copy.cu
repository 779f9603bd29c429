// Filling, copying and converting.
#include <cstring>

#include "backends/cuda/convert.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/cuda/runtime/memory.h"
#include "backends/cuda/staging.h"
#include "core/device_memory.h"

namespace deltatape::cuda {
namespace {

/// Elements are moved, not computed with, so only their size matters.
template <class Word>
struct FillWords {
  Word word;
  Loop<1> loop;
  Word* out;
  DT_HD void operator()(int64_t i) const { out[loop.offsets(i).of[0]] = word; }
};

/// 16 bytes at a time, and what is left over after them.
template <class Word>
struct FillDense {
  static constexpr int64_t kPack = static_cast<int64_t>(16 / sizeof(Word));
  Word word;
  Word* out;
  int64_t count;
  DT_HD void operator()(int64_t i) const {
    const int64_t first = i * kPack;
    if (first + kPack <= count) {
      detail::Words<Word, static_cast<int>(kPack)> words;
      for (int j = 0; j < kPack; ++j) {
        words.v[j] = word;
      }
      *reinterpret_cast<detail::Words<Word, static_cast<int>(kPack)>*>(out + first) = words;
    } else {
      for (int64_t j = first; j < count; ++j) {
        out[j] = word;
      }
    }
  }
};

template <class From, class To>
struct ConvertElements {
  Loop<2> loop;  // out first
  const From* in;
  To* out;
  DT_HD void operator()(int64_t i) const {
    const auto at = loop.offsets(i);
    out[at.of[0]] = convert<To>(in[at.of[1]]);
  }
};

/// As many elements at a time as fill 16 bytes of the wider type. Rows of both are dense.
template <class From, class To>
struct ConvertPacks {
  static constexpr int kPack = static_cast<int>(16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To)));
  Loop<2> loop;
  const From* in;
  To* out;
  int64_t packs;  // per row
  DT_HD void operator()(int64_t i) const {
    const Division place = divide(i, packs);
    const auto at = loop.offsets(place.quotient, 1);
    const int64_t first = place.remainder * kPack;
    const From* from = in + at.of[1] + first;
    To* to = out + at.of[0] + first;
    if (first + kPack <= loop.sizes[0]) {
      const auto words = *reinterpret_cast<const detail::Words<From, kPack>*>(from);
      detail::Words<To, kPack> results;
      for (int j = 0; j < kPack; ++j) {
        results.v[j] = convert<To>(words.v[j]);
      }
      *reinterpret_cast<detail::Words<To, kPack>*>(to) = results;
    } else {
      for (int64_t j = 0; j < loop.sizes[0] - first; ++j) {
        to[j] = convert<To>(from[j]);
      }
    }
  }
};

template <class From, class To>
void launch_copy(const Tensor& in, const Tensor& out) {
  const Loop<2> loop = merged_loop<2>(out.shape(), {&out, &in});
  const Stream stream = current_stream(out.device());
  const auto* from = static_cast<const From*>(in.raw());
  auto* to = static_cast<To*>(out.mutable_raw());
  using Packs = ConvertPacks<From, To>;
  const bool repeated = loop.strides[1][0] == 0 && loop.sizes[0] > 1;
  if (!repeated && detail::is_packable<2>(loop, {&out, &in}, Packs::kPack)) {
    const int64_t packs = (loop.sizes[0] + Packs::kPack - 1) / Packs::kPack;
    launch_elements(stream, loop.count / loop.sizes[0] * packs, Packs{loop, from, to, packs});
  } else {
    launch_elements(stream, loop.count, ConvertElements<From, To>{loop, from, to});
  }
}

template <class From>
void launch_copy_from(const Tensor& in, const Tensor& out) {
  visit_dtype(out.dtype(), [&](auto tag) {
    using To = decltype(tag);
    if constexpr (!std::is_same_v<From, To>) {
      launch_copy<From, To>(in, out);
    }
  });
}

/// Between the host and a device, or two devices; both dense and of one dtype.
void copy_between(const Tensor& in, const Tensor& out) {
  const size_t bytes = static_cast<size_t>(out.numel()) * size_of(out.dtype());
  if (in.device().is_cpu()) {
    copy_from_host(out.mutable_raw(), in.raw(), bytes, out.device());
  } else if (out.device().is_cpu()) {
    copy_to_host(out.mutable_raw(), in.raw(), bytes, in.device());
  } else {
    copy_bytes(out.mutable_raw(), out.device(), in.raw(), in.device(), bytes, current_stream(out.device()));
  }
}

}  // namespace

void CudaBackend::fill(double value, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  uint64_t bits = 0;
  visit_dtype(out.dtype(), [&](auto tag) {
    const auto element = convert<decltype(tag)>(value);
    std::memcpy(&bits, &element, sizeof(element));
  });
  visit_element_size(out.dtype(), [&](auto tag) {
    using Word = decltype(tag);
    const auto word = static_cast<Word>(bits);
    auto* to = static_cast<Word*>(out.mutable_raw());
    const Loop<1> loop = merged_loop<1>(out.shape(), {&out});
    const Stream stream = current_stream(out.device());
    using Dense = FillDense<Word>;
    if (loop.rank == 1 && detail::is_packable<1>(loop, {&out}, Dense::kPack)) {
      launch_elements(stream, (loop.count + Dense::kPack - 1) / Dense::kPack, Dense{word, to, loop.count});
    } else {
      launch_elements(stream, loop.count, FillWords<Word>{word, loop, to});
    }
  });
}

void CudaBackend::copy(const Tensor& in, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (!(in.device() == out.device())) {
    return copy_between(in, out);
  }
  if (in.dtype() == out.dtype()) {
    return visit_element_size(out.dtype(), [&](auto tag) { launch_copy<decltype(tag), decltype(tag)>(in, out); });
  }
  visit_dtype(in.dtype(), [&](auto tag) { launch_copy_from<decltype(tag)>(in, out); });
}

namespace {

template <class T>
struct Arange {
  double start;
  double step;
  T* out;
  DT_HD void operator()(int64_t i) const { out[i] = convert<T>(start + static_cast<double>(i) * step); }
};

}  // namespace

void CudaBackend::arange(double start, double step, const Tensor& out) const {
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    launch_elements(current_stream(out.device()), out.numel(),
                    Arange<T>{start, step, static_cast<T*>(out.mutable_raw())});
  });
}

}  // namespace deltatape::cuda

// What a training step does besides the gradients, over all parameters in one launch for each dtype: the gradients'
// norm and scale, and AdamW.
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/tensor_list.h"

namespace deltatape::cuda {
namespace {

/// The pack of T's width from an array of what T is computed in.
template <class T>
DT_HD Pack<T> load_computed(const Line<Compute<T>>& line, int64_t i) {
  using C = Compute<T>;
  constexpr int kParts = kPack<T> / kPack<C>;
  Pack<T> result;
  for (int part = 0; part < kParts; ++part) {
    const Pack<C> piece = line.pack(i * kParts + part);
    for (int j = 0; j < kPack<C>; ++j) {
      result[part * kPack<C> + j] = piece[j];
    }
  }
  return result;
}
template <class T>
DT_HD void store_computed(const OutLine<Compute<T>>& line, int64_t i, const Pack<T>& values) {
  using C = Compute<T>;
  constexpr int kParts = kPack<T> / kPack<C>;
  for (int part = 0; part < kParts; ++part) {
    Pack<C> piece;
    for (int j = 0; j < kPack<C>; ++j) {
      piece[j] = values[part * kPack<C> + j];
    }
    line.set_pack(i * kParts + part, piece);
  }
}

// Bytes: parameter, gradient and both moments read, parameter and moments written: 28 for f32, 22 for 16 bits.
template <class T>
struct AdamWList {
  using C = Compute<T>;
  ListLayout list;
  T* parameters[kListLength];
  const T* gradients[kListLength];
  C* m[kListLength];
  C* v[kListLength];
  C decays[kListLength];
  C beta1, new1, beta2, new2, scale, eps, rate;  // scale: 1 / root_correction2; new1: 1 - beta1

  DT_HD void operator()(Block<256>& block) const {
    const int which = list.tensor_of(block.index());
    const int64_t length = list.lengths[which];
    const int64_t first = list.first_pack(block.index(), which);
    const C decay = decays[which];
    block.each(list.pack_count(first, which, kPack<T>), [&](int64_t k) {
      const int64_t i = first + k;
      Pack<T> p = whole<T>(parameters[which], length).pack(i);
      const Pack<T> g = whole(gradients[which], length).pack(i);
      Pack<T> mean = load_computed<T>(whole<C>(m[which], length), i);
      Pack<T> square = load_computed<T>(whole<C>(v[which], length), i);
      for (int j = 0; j < kPack<T>; ++j) {
        mean[j] = mean[j] * beta1 + g[j] * new1;
        square[j] = square[j] * beta2 + g[j] * g[j] * new2;
        p[j] = p[j] * decay - rate * (mean[j] / (std::sqrt(square[j]) * scale + eps));
      }
      store_computed<T>(whole_out(m[which], length), i, mean);
      store_computed<T>(whole_out(v[which], length), i, square);
      whole_out(parameters[which], length).set_pack(i, p);
    });
  }
};

/// A block's share of the sum of squares, in f64.
// Bytes: each element read once.
template <class T>
struct SquaresList {
  ListLayout list;
  const T* data[kListLength];
  double* shares;  // [blocks]

  DT_HD void operator()(Block<256>& block) const {
    const int which = list.tensor_of(block.index());
    const Line<T> line = whole(data[which], list.lengths[which]);
    const int64_t first = list.first_pack(block.index(), which);
    const double sum = block.template sum<double>(list.pack_count(first, which, kPack<T>), [&](int64_t k) {
      const Pack<T> pack = line.pack(first + k);
      double squares = 0.0;
      for (int j = 0; j < kPack<T>; ++j) {
        squares += static_cast<double>(pack[j]) * static_cast<double>(pack[j]);
      }
      return squares;
    });
    block.once([&] { shares[block.index()] = sum; });
  }
};

struct AddShares {
  const double* shares;
  int64_t count;
  double* out;

  DT_HD void operator()(Block<256>& block) const {
    const double sum = block.sum<double>(count, [&](int64_t i) { return shares[i]; });
    block.once([&] { *out = sum; });
  }
};

/// x *= factor.
// Bytes: each element read and written.
template <class T>
struct ScaleList {
  ListLayout list;
  T* data[kListLength];
  Compute<T> factor;

  DT_HD void operator()(Block<256>& block) const {
    const int which = list.tensor_of(block.index());
    const int64_t length = list.lengths[which];
    const int64_t first = list.first_pack(block.index(), which);
    block.each(list.pack_count(first, which, kPack<T>), [&](int64_t k) {
      Pack<T> pack = whole<T>(data[which], length).pack(first + k);
      for (int j = 0; j < kPack<T>; ++j) {
        pack[j] *= factor;
      }
      whole_out(data[which], length).set_pack(first + k, pack);
    });
  }
};

/// Calls use(Body) for every launch over those of `items` whose tensor (`tensor_of(item)`) has T's dtype and elements:
/// `fill(body, place, item)` puts an item's pointers at their place.
template <class Body, class T, class Item, class TensorOf, class Fill, class Use>
void in_lists(std::span<const Item> items, const Body& empty_list, TensorOf tensor_of, Fill fill, Use use) {
  Body body = empty_list;
  for (const Item& item : items) {
    const Tensor& x = tensor_of(item);
    if (x.dtype() != dtype_of<T> || x.numel() == 0) {
      continue;
    }
    fill(body, static_cast<size_t>(body.list.tensors), item);
    body.list.add(x.numel(), kPack<T>);
    if (body.list.full()) {
      use(body);
      body = empty_list;
    }
  }
  if (body.list.tensors > 0) {
    use(body);
  }
}

/// f(T{}) for every floating-point type.
template <class F>
void for_each_floating(F f) {
  f(float{});
  f(double{});
  f(BFloat16{});
  f(Float16{});
}

const Tensor& itself(const Tensor& x) { return x; }

}  // namespace

void CudaBackend::sum_of_squares(std::span<const Tensor> xs, const Tensor& out) const {
  const Device device = out.device();
  const Stream stream = current_stream(device);
  int64_t all_blocks = 0;
  for_each_floating([&](auto tag) {
    using T = decltype(tag);
    in_lists<SquaresList<T>, T>(
        xs, SquaresList<T>{}, itself, [](SquaresList<T>& /*body*/, size_t /*place*/, const Tensor& /*x*/) {},
        [&](const SquaresList<T>& body) { all_blocks += body.list.blocks(); });
  });
  const Tensor shares = scratch<double>(all_blocks, device);
  int64_t done = 0;
  for_each_floating([&](auto tag) {
    using T = decltype(tag);
    in_lists<SquaresList<T>, T>(
        xs, SquaresList<T>{}, itself,
        [](SquaresList<T>& body, size_t place, const Tensor& x) { body.data[place] = data_of<const T>(x); },
        [&](SquaresList<T>& body) {
          body.shares = data_of<double>(shares) + done;
          launch_program<256>(stream, body.list.blocks(), 0, body);
          done += body.list.blocks();
        });
  });
  launch_program<256>(stream, 1, 0, AddShares{data_of<const double>(shares), all_blocks, data_of<double>(out)});
}

void CudaBackend::scale(std::span<const Tensor> xs, double factor) const {
  for_each_floating([&](auto tag) {
    using T = decltype(tag);
    ScaleList<T> none{};
    none.factor = static_cast<Compute<T>>(factor);
    in_lists<ScaleList<T>, T>(
        xs, none, itself, [](ScaleList<T>& body, size_t place, const Tensor& x) { body.data[place] = data_of<T>(x); },
        [&](const ScaleList<T>& body) {
          launch_program<256>(current_stream(xs.front().device()), body.list.blocks(), 0, body);
        });
  });
}

void CudaBackend::adamw(std::span<const AdamWUpdate> updates, const AdamWStep& step) const {
  for_each_floating([&](auto tag) {
    using T = decltype(tag);
    using C = Compute<T>;
    AdamWList<T> none{};
    none.beta1 = static_cast<C>(step.beta1);
    none.new1 = static_cast<C>(1.0 - step.beta1);
    none.beta2 = static_cast<C>(step.beta2);
    none.new2 = static_cast<C>(1.0 - step.beta2);
    none.scale = static_cast<C>(1.0 / step.root_correction2);
    none.eps = static_cast<C>(step.eps);
    none.rate = static_cast<C>(step.rate);
    in_lists<AdamWList<T>, T>(
        updates, none, [](const AdamWUpdate& update) -> const Tensor& { return update.parameter; },
        [](AdamWList<T>& body, size_t place, const AdamWUpdate& update) {
          body.parameters[place] = data_of<T>(update.parameter);
          body.gradients[place] = data_of<const T>(update.gradient);
          body.m[place] = data_of<C>(update.m);
          body.v[place] = data_of<C>(update.v);
          body.decays[place] = static_cast<C>(update.decay);
        },
        [&](const AdamWList<T>& body) {
          launch_program<256>(current_stream(updates.front().parameter.device()), body.list.blocks(), 0, body);
        });
  });
}

}  // namespace deltatape::cuda

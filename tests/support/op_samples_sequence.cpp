#include <cmath>
#include <limits>

#include "ops/attention.h"
#include "ops/convolution.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// `starts[t]`: the first step of t's sequence; empty: 0.
Array convolved(const Array& x, const Array& weight, const Array& bias, const std::vector<int64_t>& starts) {
  return build(x.shape, [&](const Shape& i) {
    const int64_t first = starts.empty() ? 0 : starts[static_cast<size_t>(i[1])];
    const int64_t width = weight.size(1);
    double sum = bias.shape.rank() == 0 ? 0.0 : bias.at({i[2]});
    for (int64_t j = 0; j < width; ++j) {
      const int64_t t = i[1] - width + 1 + j;
      sum += t >= first ? weight.at({i[2], j}) * x.at({i[0], t, i[2]}) : 0.0;
    }
    return sum;
  });
}

const std::vector<double> kBounds{0, 1, 1, 6, 8};  // of sequences, one of them empty
const std::vector<int64_t> kStarts{0, 1, 1, 1, 1, 1, 6, 6};

std::vector<OpSample> convolution_samples() {
  const auto bounds = [](std::vector<int64_t> values) { return from_vector(values); };
  return {
      OpSample("causal_conv1d")
          .in({2, 6, 3})
          .in({3, 4})
          .in({3})
          .calls([](const Tensor& x, const Tensor& w, const Tensor& b) { return causal_conv1d(x, w, b); })
          .equals([](const Array& x, const Array& w, const Array& b) { return convolved(x, w, b, {}); })
          .also_for({{0, 6, 3}, {3, 4}, {3}})
          .also_for({{2, 0, 3}, {3, 4}, {3}})
          .also_for({{2, 2, 3}, {3, 4}, {3}})
          .also_for({{3, 70, 67}, {67, 4}, {67}})
          .rejects("causal_conv1d: x is undefined, expected a tensor",
                   [] {
                     causal_conv1d(Tensor(), empty({3, 4}));
                   })
          .rejects("causal_conv1d: x has shape [3, 4], expected rank 3, [B, T, D]",
                   [] {
                     causal_conv1d(empty({3, 4}), empty({3, 4}));
                   })
          .rejects("causal_conv1d: weight has shape [2, 4], expected [D, W] = [3, 1 or more]",
                   [] {
                     causal_conv1d(empty({1, 2, 3}), empty({2, 4}));
                   })
          .rejects("causal_conv1d: bias has shape [2], expected [D] = [3]",
                   [] {
                     causal_conv1d(empty({1, 2, 3}), empty({3, 4}), empty({2}));
                   })
          .rejects("causal_conv1d: the batch size is 2, expected B = 1 with cu_seqlens",
                   [bounds] {
                     causal_conv1d(empty({2, 2, 3}), empty({3, 4}), Tensor(), bounds({0, 2}));
                   })
          .rejects("causal_conv1d: cu_seqlens ends with 3, expected T = 2",
                   [bounds] {
                     causal_conv1d(empty({1, 2, 3}), empty({3, 4}), Tensor(), bounds({0, 3}));
                   })
          .rejects("causal_conv1d: cu_seqlens starts with 1, expected 0",
                   [bounds] {
                     causal_conv1d(empty({1, 2, 3}), empty({3, 4}), Tensor(), bounds({1, 2}));
                   }),
      OpSample("causal_conv1d", "no bias, one tap")
          .in({1, 4, 3})
          .in({3, 1})
          .calls([](const Tensor& x, const Tensor& w) { return causal_conv1d(x, w); })
          .equals([](const Array& x, const Array& w) { return convolved(x, w, Array(0), {}); }),
      OpSample("causal_conv1d", "packed sequences")
          .in({1, 8, 3})
          .in({3, 4})
          .in({3})
          .in_values({5}, kBounds)
          .calls([](const Tensors& t) { return causal_conv1d(t[0], t[1], t[2], t[3]); })
          .equals([](const Arrays& a) { return convolved(a[0], a[1], a[2], kStarts); }),
  };
}

// `visible(i)` for each index [.., T, S] of the scores; `added` broadcasts to them.
Array attended(const Arrays& qkv, double scale, const std::function<bool(const Shape&)>& visible,
               const Array& added = Array(0)) {
  std::vector<int> dims;
  for (int d = 0; d < qkv[1].shape.rank(); ++d) {
    dims.push_back(d);
  }
  std::swap(dims[dims.size() - 1], dims[dims.size() - 2]);
  Array scores = product(qkv[0], permuted(qkv[1], dims));
  const Array bias = stretch(added, scores.shape);
  scores = build(scores.shape, [&](const Shape& i) {
    return visible(i) ? scale * scores.at(i) + bias.at(i) : -std::numeric_limits<double>::infinity();
  });
  return product(softmax_last(scores), qkv[2]);
}

bool everywhere(const Shape&) { return true; }
bool not_later(const Shape& i) { return i[i.rank() - 1] <= i[i.rank() - 2]; }

OpSample attention_row(const std::string& variant, int64_t t, int64_t s) {
  return OpSample("scaled_dot_product_attention", variant).in({2, t, 4}).in({2, s, 4}).in({2, s, 3}).units(16, 3, 12);
}

std::vector<OpSample> attention_samples() {
  const std::string name = "scaled_dot_product_attention";
  const auto attend = [](const Tensor& q, const Tensor& k, const Tensor& v) { scaled_dot_product_attention(q, k, v); };
  AttentionOptions causal;
  causal.causal = true;
  AttentionOptions scaled;
  scaled.scale = 1.5;
  return {
      attention_row("", 3, 5)
          .calls([](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2]); })
          .equals([](const Arrays& a) { return attended(a, 0.5, everywhere); })
          .also_for({{2, 0, 4}, {2, 5, 4}, {2, 5, 3}})
          .also_for({{0, 3, 4}, {0, 5, 4}, {0, 5, 3}})
          .rejects(name + ": q is undefined, expected a tensor",
                   [attend] {
                     attend(Tensor(), empty({2, 3}), empty({2, 3}));
                   })
          .rejects(name + ": k has shape [2, 4], expected [.., S, D] with D = 3",
                   [attend] {
                     attend(empty({2, 3}), empty({2, 4}), empty({2, 3}));
                   })
          .rejects(name + ": v has shape [3, 3], expected [.., S, E] with S = 2",
                   [attend] {
                     attend(empty({2, 3}), empty({2, 3}), empty({3, 3}));
                   })
          .rejects(name + ": mask has dtype i64, expected bool or a floating-point dtype",
                   [] {
                     const Tensor x = to_tensor(filled({2, 3}, 0), DType::f32);
                     scaled_dot_product_attention(x, x, x, empty({2, 2}, DType::i64));
                   }),
      attention_row("causal", 4, 4)
          .calls(
              [causal](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], Tensor(), causal); })
          .equals([](const Arrays& a) { return attended(a, 0.5, not_later); }),
      attention_row("causal, fewer keys", 5, 3)
          .calls(
              [causal](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], Tensor(), causal); })
          .equals([](const Arrays& a) { return attended(a, 0.5, not_later); }),
      attention_row("scale", 3, 5)
          .calls(
              [scaled](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], Tensor(), scaled); })
          .equals([](const Arrays& a) { return attended(a, 1.5, everywhere); }),
      attention_row("bool mask", 3, 2)
          .in_values({3, 2}, {1, 0, 0, 1, 1, 1}, DType::boolean)
          .calls([](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], t[3]); })
          .equals([](const Arrays& a) {
            return attended(a, 0.5, [&](const Shape& i) { return a[3].at({i[1], i[2]}) != 0; });
          }),
      attention_row("added mask", 3, 5)
          .in({3, 5})
          .calls([](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], t[3]); })
          .equals([](const Arrays& a) { return attended(a, 0.5, everywhere, a[3]); }),
  };
}

}  // namespace

std::vector<OpSample> sequence_samples() {
  std::vector<OpSample> rows = convolution_samples();
  for (const OpSample& row : attention_samples()) {
    rows.push_back(row);
  }
  return rows;
}

}  // namespace deltatape::test

// The layer: implementations of the operator, pieces of text, attention masks.
#include "nn/kda_attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "autograd/grad_mode.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/joining.h"
#include "ops/random.h"
#include "ops/views.h"
#include "tests/nn/kda_kernel.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using kda::Implementation;

constexpr std::array<Implementation, 5> kImplementations{Implementation::automatic, Implementation::recurrent,
                                                         Implementation::chunk, Implementation::fused_recurrent,
                                                         Implementation::fused_chunk};
constexpr int64_t kHidden = 10;

nn::KDALayerConfig small_config() {
  nn::KDALayerConfig c;
  c.hidden_size = kHidden;
  c.num_heads = 2;
  c.head_dim = 6;
  c.conv_size = 3;
  c.initializer_range = 0.4;  // large, so that every part matters
  return c;
}

struct NamedConfig {
  const char* name;
  nn::KDALayerConfig config;
};

std::vector<NamedConfig> configs() {
  std::vector<NamedConfig> rows(6, {"plain", small_config()});
  rows[1].name = "value heads in groups, wider values, bias";
  rows[1].config.num_v_heads = 4;
  rows[1].config.expand_v = 1.5;
  rows[1].config.conv_bias = true;
  rows[2].name = "negative eigenvalues";
  rows[2].config.allow_neg_eigval = true;
  rows[3].name = "lower bound, safe";
  rows[3].config.lower_bound = -5.0;
  rows[3].config.safe_gate = true;
  rows[4].name = "lower bound that safe_gate does not cover";
  rows[4].config.lower_bound = -9.0;
  rows[4].config.safe_gate = true;
  rows[5].name = "no convolution, standard gate with safe_gate";
  rows[5].config.use_short_conv = false;
  rows[5].config.safe_gate = true;
  return rows;
}

Tensor random_input(const Shape& shape, uint64_t seed) {
  Generator generator(seed);
  return randn(shape, generator, {DType::f64, Device::cpu()});
}

std::unique_ptr<nn::KimiDeltaAttention> make_layer(const nn::KDALayerConfig& config) {
  Generator generator(3);
  auto layer = std::make_unique<nn::KimiDeltaAttention>(config, generator);
  layer->to(DType::f64);
  return layer;
}

/// y, dx and the gradient of every parameter for the upstream gradient dy.
struct Results {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::string kernel;
};

template <class Forward>
Results run(nn::KimiDeltaAttention& layer, const Tensor& x, const Tensor& dy, const Forward& forward) {
  layer.zero_grad();
  Tensor leaf = clone(x);
  leaf.set_requires_grad();
  const Tensor y = forward(leaf);
  Results results;
  results.kernel = test::kernel_behind(y);
  y.backward(dy);
  results.tensors = {{"y", y.detach()}, {"dx", leaf.grad()}};
  for (const auto& [name, parameter] : layer.named_parameters()) {
    results.tensors.emplace_back(name, parameter.grad().defined() ? clone(parameter.grad()) : Tensor());
  }
  return results;
}

void check_equal(const Results& results, const Results& expected, double limit) {
  REQUIRE(results.tensors.size() == expected.tensors.size());
  for (size_t i = 0; i < results.tensors.size(); ++i) {
    const std::string& name = results.tensors[i].first;
    CAPTURE(name);
    CHECK(test::relative_error(results.tensors[i].second, expected.tensors[i].second) <= limit);
  }
}

TEST_CASE("KimiDeltaAttention: every implementation gives the recurrence's result and gradients, by its own kernel") {
  for (const NamedConfig& row : configs()) {
    CAPTURE(row.name);
    const auto layer = make_layer(row.config);
    for (const int64_t T : {5, 37}) {
      const Tensor x = random_input({2, T, kHidden}, 1);
      const Tensor dy = random_input({2, T, kHidden}, 2);
      const auto forward = [&layer](const Tensor& in) { return layer->forward(in); };
      layer->set_implementation(Implementation::recurrent);
      const Results expected = run(*layer, x, dy, forward);
      for (const Implementation implementation : kImplementations) {
        CAPTURE(kda::name_of(implementation));
        layer->set_implementation(implementation, 16);
        CHECK(layer->implementation() == implementation);
        CHECK(layer->chunk_size() == 16);
        const Results results = run(*layer, x, dy, forward);
        CHECK(results.kernel == test::expected_kernel(implementation, T));
        check_equal(results, expected, 1e-10);
      }
    }
  }
}

TEST_CASE("KimiDeltaAttention: runs a fused kernel unless told otherwise") {
  const auto layer = make_layer(small_config());
  CHECK(layer->implementation() == Implementation::automatic);
  CHECK(layer->chunk_size() == 32);
  CHECK(test::kernel_behind(layer->forward(random_input({1, 20, kHidden}, 1))) == "kda::fused_chunk");
  CHECK_ERROR(layer->set_implementation(Implementation::chunk, 48),
              "KimiDeltaAttention: chunk_size is 48, expected 16, 32 or 64");
  CHECK(layer->implementation() == Implementation::automatic);
}

TEST_CASE("KimiDeltaAttention::forward_next: pieces of any length equal one pass, by every implementation") {
  for (const NamedConfig& row : configs()) {
    CAPTURE(row.name);
    const auto layer = make_layer(row.config);
    const Tensor x = random_input({2, 42, kHidden}, 5);
    for (const Implementation implementation : kImplementations) {
      CAPTURE(kda::name_of(implementation));
      layer->set_implementation(implementation, 16);
      const Tensor all = layer->forward(x);
      nn::KDALayerCache cache;
      int64_t from = 0;
      for (const int64_t length : {1, 3, 17, 1, 0, 17, 3}) {
        CAPTURE(from);
        const Slice range{from, from + length};
        const Tensor y = layer->forward_next(slice(x, 1, range), cache);
        CHECK(test::relative_error(y, slice(all, 1, range)) <= 1e-12);
        CHECK(test::kernel_behind(y) == test::expected_kernel(implementation, length));
        CHECK_FALSE(cache.state.requires_grad());
        from += length;
      }
      CHECK(from == 42);
      CHECK(cache.state.shape() == Shape{2, row.config.value_heads(), row.config.head_dim, row.config.head_v_dim()});
      CHECK(cache.q_conv.defined() == row.config.use_short_conv);
    }
  }
}

/// Left and right padding, a hole, nothing but padding, and a full row.
constexpr int64_t kRows = 5;
constexpr int64_t kSteps = 12;
std::vector<int64_t> mask_values() {
  return {0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1,  //
          1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
          0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0,  //
          0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
}

/// Every row by itself, without its padding; zeros at padding.
Tensor row_by_row(const nn::KimiDeltaAttention& layer, const Tensor& x, const std::vector<int64_t>& mask) {
  std::vector<Tensor> rows;
  for (int64_t b = 0; b < kRows; ++b) {
    std::vector<Tensor> kept;
    const auto counts = [&mask, b](int64_t t) { return mask[static_cast<size_t>(b * kSteps + t)] == 1; };
    for (int64_t t = 0; t < kSteps; ++t) {
      if (counts(t)) {
        kept.push_back(slice(slice(x, 0, {b, b + 1}), 1, {t, t + 1}));
      }
    }
    const Tensor y = kept.empty() ? Tensor() : layer.forward(cat(kept, 1));
    std::vector<Tensor> steps;
    int64_t next = 0;
    for (int64_t t = 0; t < kSteps; ++t) {
      steps.push_back(counts(t) ? slice(y, 1, {next, next + 1}) : zeros({1, 1, kHidden}, x.options()));
      next += counts(t) ? 1 : 0;
    }
    rows.push_back(cat(steps, 1));
  }
  return cat(rows, 0);
}

TEST_CASE("KimiDeltaAttention: an attention mask gives what each row gives without its padding, gradients too") {
  const std::vector<int64_t> values = mask_values();
  const Tensor mask = from_vector(values, {kRows, kSteps});
  const Tensor x = random_input({kRows, kSteps, kHidden}, 7);
  const Tensor dy = random_input({kRows, kSteps, kHidden}, 8);
  for (const NamedConfig& row : configs()) {
    CAPTURE(row.name);
    const auto layer = make_layer(row.config);
    layer->set_implementation(Implementation::recurrent);
    const Results expected = run(*layer, x, dy, [&](const Tensor& in) { return row_by_row(*layer, in, values); });
    for (const Implementation implementation : kImplementations) {
      CAPTURE(kda::name_of(implementation));
      layer->set_implementation(implementation, 16);
      const Results results =
          run(*layer, x, dy, [&](const Tensor& in) { return layer->forward(in, {.attention_mask = mask}); });
      check_equal(results, expected, 1e-10);
      // Exactly zero at padding, result and gradient.
      for (const size_t which : {size_t{0}, size_t{1}}) {
        const std::vector<double> numbers = results.tensors[which].second.to_vector<double>();
        for (size_t i = 0; i < numbers.size(); ++i) {
          CHECK((values[i / static_cast<size_t>(kHidden)] == 1) == (numbers[i] != 0.0));
        }
      }
    }
  }
}

TEST_CASE("KimiDeltaAttention: masks of every dtype; what stands at padding does not matter") {
  const std::vector<int64_t> values = mask_values();
  const Tensor mask = from_vector(values, {kRows, kSteps});
  const auto layer = make_layer(small_config());
  layer->set_implementation(Implementation::chunk, 16);
  const NoGradGuard guard;
  const Tensor x = random_input({kRows, kSteps, kHidden}, 7);
  Tensor poisoned = clone(x);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0) {
      const auto at = static_cast<int64_t>(i);
      Tensor token = select(select(poisoned, 0, at / kSteps), 0, at % kSteps);
      fill_(token, std::numeric_limits<double>::quiet_NaN());
    }
  }
  const auto expected = layer->forward(x, {.attention_mask = mask}).to_vector<double>();
  for (const DType dtype : {DType::boolean, DType::i32, DType::i64}) {
    CAPTURE(to_string(dtype));
    CHECK(layer->forward(poisoned, {.attention_mask = to(mask, dtype)}).to_vector<double>() == expected);
  }
}

TEST_CASE("KimiDeltaAttention: a mask of ones, of zeros, and batches without tokens") {
  const auto layer = make_layer(small_config());
  const Tensor x = random_input({2, 9, kHidden}, 7);
  const Tensor dy = random_input({2, 9, kHidden}, 8);
  const TensorOptions index{DType::i64, Device::cpu()};
  for (const Implementation implementation : kImplementations) {
    CAPTURE(kda::name_of(implementation));
    layer->set_implementation(implementation, 16);
    const Results plain = run(*layer, x, dy, [&](const Tensor& in) { return layer->forward(in); });
    const Results full = run(*layer, x, dy, [&](const Tensor& in) {
      return layer->forward(in, {.attention_mask = ones({2, 9}, index)});
    });
    check_equal(full, plain, 1e-12);
    const Results none = run(*layer, x, dy, [&](const Tensor& in) {
      return layer->forward(in, {.attention_mask = zeros({2, 9}, index)});
    });
    CHECK(test::largest_difference(none.tensors[0].second, zeros_like(x)) == 0.0);
    for (size_t i = 1; i < none.tensors.size(); ++i) {
      const std::string& name = none.tensors[i].first;
      CAPTURE(name);
      const Tensor& gradient = none.tensors[i].second;
      CHECK((!gradient.defined() || test::largest_difference(gradient, zeros_like(gradient)) == 0.0));
    }
    const NoGradGuard guard;
    for (const Shape& shape : {Shape{2, 0, kHidden}, Shape{0, 9, kHidden}}) {
      const Tensor mask = ones({shape[0], shape[1]}, index);
      CHECK(layer->forward(random_input(shape, 1), {.attention_mask = mask}).shape() == shape);
    }
  }
}

TEST_CASE("KimiDeltaAttention: cu_seqlens by either signature") {
  const auto layer = make_layer(small_config());
  const NoGradGuard guard;
  const Tensor x = random_input({1, 20, kHidden}, 7);
  const Tensor bounds = from_vector(std::vector<int64_t>{0, 3, 3, 20});
  for (const Implementation implementation : kImplementations) {
    CAPTURE(kda::name_of(implementation));
    layer->set_implementation(implementation, 16);
    const Tensor y = layer->forward(x, bounds);
    CHECK(layer->forward(x, {.cu_seqlens = bounds}).to_vector<double>() == y.to_vector<double>());
    for (const Slice& range : {Slice{0, 3}, Slice{3, 20}}) {
      CHECK(test::relative_error(slice(y, 1, range), layer->forward(slice(x, 1, range))) <= 1e-12);
    }
    CHECK(layer->forward(x, nn::TokenLayout{}).to_vector<double>() == layer->forward(x).to_vector<double>());
  }
}

TEST_CASE("KimiDeltaAttention: masks that do not fit") {
  const auto layer = make_layer(small_config());
  const Tensor x = random_input({2, 3, kHidden}, 7);
  const auto forward = [&](const Tensor& mask) { return layer->forward(x, {.attention_mask = mask}); };
  CHECK_ERROR(forward(ones({2, 3})), "KimiDeltaAttention: attention_mask has dtype f32, expected bool, i64 or i32");
  const auto indices = [](const std::vector<int64_t>& values, const Shape& shape) {
    return from_vector(values, shape);
  };
  CHECK_ERROR(forward(indices({1, 1, 1}, {3})),
              "KimiDeltaAttention: attention_mask has shape [3], expected [B, T] = [2, 3]");
  CHECK_ERROR(forward(indices({1, 1, 1, 1, 1, 1}, {3, 2})),
              "KimiDeltaAttention: attention_mask has shape [3, 2], expected [B, T] = [2, 3]");
  CHECK_ERROR(forward(indices({1, 1, 1, 1, 2, 1}, {2, 3})),
              "KimiDeltaAttention: attention_mask[1][1] is 2, expected 0 or 1");
  CHECK_ERROR(forward(indices({1, -1, 1, 1, 1, 1}, {2, 3})),
              "KimiDeltaAttention: attention_mask[0][1] is -1, expected 0 or 1");
  const nn::TokenLayout both{.attention_mask = indices({1, 1, 1, 1, 1, 1}, {2, 3}), .cu_seqlens = indices({0, 6}, {2})};
  CHECK_ERROR(layer->forward(x, both),
              "KimiDeltaAttention: attention_mask and cu_seqlens are both given, expected at most one of them");
  CHECK_ERROR(layer->forward(zeros({2, 3}), {.attention_mask = indices({1, 1, 1, 1, 1, 1}, {2, 3})}),
              "KimiDeltaAttention: x has shape [2, 3], expected [B, T, hidden_size] with hidden_size = 10");
}

}  // namespace
}  // namespace deltatape

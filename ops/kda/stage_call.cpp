#include "ops/kda/stage_call.h"

#include <cmath>

#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/joining.h"
#include "ops/kda/inputs.h"
#include "ops/sequences.h"
#include "ops/views.h"

namespace deltatape::kda::stages {
namespace {

constexpr std::array<std::string_view, 9> kNames{"B", "T", "H", "HV", "K", "V", "C", "NT", "N"};

/// The first tensor and the options, before anything is made of them.
std::vector<int64_t> checked_bounds(std::string_view function, const StageOptions& options, std::string_view name,
                                    const Tensor& first) {
  check_defined(function, name, first);
  check_rank_at_least(function, name, first, 3, "[B, T, ..]");
  check(first.dtype() == DType::f32 || first.dtype() == DType::f64, function, "{} has dtype {}, expected f32 or f64",
        name, first.dtype());
  check_chunk_size(function, options.chunk_size);
  check(!options.scale || std::isfinite(*options.scale), function, "scale is {}, expected a finite number",
        options.scale.value_or(0.0));
  const int64_t T = first.size(1);
  return options.cu_seqlens.defined() ? checked_cu_seqlens(function, options.cu_seqlens, first.size(0), T)
                                      : std::vector<int64_t>{0, T};
}

/// Row after row of G [..,C,K] without the row before.
Tensor differences(const Tensor& G) {
  const Tensor first = slice(G, -2, {0, 1});
  const Tensor before = slice(G, -2, {0, -1});
  return cat({first, sub(slice(G, -2, {1, std::nullopt}), before)}, -2);
}

}  // namespace

StageCall::StageCall(std::string_view function, const StageOptions& options, std::string_view name, const Tensor& first)
    : function_(function),
      scale_(options.scale),
      bounds_(checked_bounds(function, options, name, first)),
      table_(bounds_, options.cu_seqlens.defined(), options.chunk_size, first.device()),
      like_(first.options()) {
  sizes_.fill(-1);
  const auto tell = [this](Dim dim, int64_t size) { sizes_[static_cast<size_t>(dim)] = size; };
  tell(Dim::B, first.size(0));
  tell(Dim::T, first.size(1));
  tell(Dim::C, options.chunk_size);
  tell(Dim::NT, table_.num_chunks);
  tell(Dim::N, options.cu_seqlens.defined() ? static_cast<int64_t>(bounds_.size()) - 1 : first.size(0));
}

void StageCall::expect(std::string_view name, const Tensor& x, std::initializer_list<Dim> dims) {
  check_defined(function_, name, x);
  std::string layout = "[";
  for (const Dim dim : dims) {
    layout += layout.size() == 1 ? "" : ", ";
    layout += kNames[static_cast<size_t>(dim)];
  }
  layout += "]";
  check_rank(function_, name, x, static_cast<int>(dims.size()), layout);
  Shape expected = x.shape();
  int64_t axis = 0;
  for (const Dim dim : dims) {
    int64_t& size = sizes_[static_cast<size_t>(dim)];
    if (size < 0) {
      size = x.size(axis);
      check(size > 0, function_, "{} has shape {}, expected {} of at least 1 in {}", name, x.shape(),
            kNames[static_cast<size_t>(dim)], layout);
    }
    expected[static_cast<int>(axis++)] = size;
  }
  check_shape(function_, name, x, expected, layout);
  check_dtype(function_, name, x, like_.dtype);
  check_device(function_, name, x, like_.device);
}

void StageCall::expect_optional(std::string_view name, const Tensor& x, std::initializer_list<Dim> dims) {
  if (x.defined()) {
    expect(name, x, dims);
  }
}

void StageCall::expect_decay(const Tensor& g, const Tensor& g_cumsum) {
  check(g.defined() || g_cumsum.defined(), function_,
        "g and g_cumsum are both missing, expected at least one, [B, T, HV, K]");
  expect_optional("g", g, {Dim::B, Dim::T, Dim::HV, Dim::K});
  expect_optional("g_cumsum", g_cumsum, {Dim::B, Dim::T, Dim::HV, Dim::K});
  g_ = g;
  g_cumsum_ = g_cumsum;
}

void StageCall::expect_groups() const {
  check(size(Dim::HV) % size(Dim::H) == 0, function_, "HV is {}, expected a multiple of H = {}", size(Dim::HV),
        size(Dim::H));
}

Shape StageCall::chunk_states() const {
  return {size(Dim::B), size(Dim::NT), size(Dim::HV), size(Dim::K), size(Dim::V)};
}

double StageCall::scale() const { return scale_.value_or(1.0 / std::sqrt(static_cast<double>(size(Dim::K)))); }

Tensor StageCall::chunks(const Tensor& x) const {
  return to_chunks(table_, x.rank() == 3 ? unsqueeze(x, -1) : repeat_heads(x, size(Dim::HV)));
}

Tensor StageCall::tokens(const Tensor& x) const { return from_chunks(table_, x, size(Dim::T)); }

Tensor StageCall::decay() const {
  if (g_.defined()) {
    return chunks(g_);
  }
  // Differences token by token in the chunk; a padding row has sum 0 and would be the negative of the whole decay.
  return chunks(tokens(differences(chunks(g_cumsum_))));
}

}  // namespace deltatape::kda::stages

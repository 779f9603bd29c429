// What every stage does first and last: check its tensors, cut them into chunks, and put results back into tokens.
#pragma once

#include <array>
#include <initializer_list>
#include <string_view>

#include "ops/kda/chunk_layout.h"
#include "ops/kda/stages.h"

namespace deltatape::kda::stages {

/// The sizes in the shapes of stages.h.
enum class Dim : uint8_t { B, T, H, HV, K, V, C, NT, N };

/// One call of a stage.
class StageCall {
 public:
  /// `first` [B,T,..] tells batch, length, dtype and device. Throws Error for these, chunk_size, scale and cu_seqlens.
  StageCall(std::string_view function, const StageOptions& options, std::string_view name, const Tensor& first);

  /// Throws Error unless x is there and has this shape; a size that no tensor has told before is taken from x.
  void expect(std::string_view name, const Tensor& x, std::initializer_list<Dim> dims);
  /// As expect where x is defined.
  void expect_optional(std::string_view name, const Tensor& x, std::initializer_list<Dim> dims);
  /// Checks the decay of the call, which is one of the two or both, and remembers it.
  void expect_decay(const Tensor& g, const Tensor& g_cumsum);
  /// Throws Error unless HV is a multiple of H.
  void expect_groups() const;

  [[nodiscard]] int64_t size(Dim dim) const { return sizes_[static_cast<size_t>(dim)]; }
  /// [N,HV,K,V].
  [[nodiscard]] Shape states() const { return {size(Dim::N), size(Dim::HV), size(Dim::K), size(Dim::V)}; }
  /// [B,NT,HV,K,V].
  [[nodiscard]] Shape chunk_states() const;
  [[nodiscard]] double scale() const;
  [[nodiscard]] const ChunkTable& table() const { return table_; }
  [[nodiscard]] TensorOptions like() const { return like_; }

  /// x [B,T,HV,D] or [B,T,HV], or [B,T,H,K] with its heads repeated, as [NC,B,HV,C,D], zeros in padding rows.
  [[nodiscard]] Tensor chunks(const Tensor& x) const;
  /// [NC,B,HV,C,D] as [B,T,HV,D].
  [[nodiscard]] Tensor tokens(const Tensor& x) const;
  /// The log decay g as [NC,B,HV,C,K].
  [[nodiscard]] Tensor decay() const;

 private:
  std::string_view function_;
  std::optional<double> scale_;
  std::vector<int64_t> bounds_;
  ChunkTable table_;
  TensorOptions like_;
  std::array<int64_t, 9> sizes_;  // -1: not told yet
  Tensor g_;
  Tensor g_cumsum_;
};

}  // namespace deltatape::kda::stages

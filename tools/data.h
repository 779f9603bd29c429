// Where a training run's batches come from: text, or one of three synthetic tasks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/generator.h"
#include "core/tensor.h"
#include "io/text.h"

namespace deltatape::tools {

/// What the model reads and what it should say at every position; a target of -100 does not count.
struct Batch {
  Tensor ids;      // i64 [B,T]
  Tensor targets;  // i64 [B,T], already shifted: targets[b,t] follows ids[b,t]
};

class Data {
 public:
  virtual ~Data() = default;
  /// The number of different tokens.
  [[nodiscard]] virtual int64_t vocabulary() const = 0;
  /// `batch` rows of `length` tokens.
  [[nodiscard]] virtual Batch training(int64_t batch, int64_t length, Generator& generator) const = 0;
  /// Rows for validation, at most `rows`, the same for the same arguments.
  [[nodiscard]] virtual Batch validation(int64_t rows, int64_t length) const = 0;
  /// Whether the share of right answers says something (tasks).
  [[nodiscard]] virtual bool counts_answers() const { return false; }
  /// The validation loss of a predictor that knows nothing but byte frequencies (text).
  [[nodiscard]] virtual std::optional<double> unigram_loss() const { return std::nullopt; }
};

/// Bytes as tokens. Throws Error when a part is shorter than `length` + 1 bytes.
class TextData final : public Data {
 public:
  TextData(io::Text text, int64_t length);
  [[nodiscard]] int64_t vocabulary() const override { return io::kByteVocabulary; }
  [[nodiscard]] Batch training(int64_t batch, int64_t length, Generator& generator) const override;
  [[nodiscard]] Batch validation(int64_t rows, int64_t length) const override;
  [[nodiscard]] std::optional<double> unigram_loss() const override;
  [[nodiscard]] const io::Text& text() const { return text_; }
  [[nodiscard]] const io::TextSplit& split() const { return split_; }

 private:
  io::Text text_;
  io::TextSplit split_;
};

/// `palindrome`, `mqar` or `stack` (see data.cpp), with sequences of `length` tokens. Throws Error for another name and
/// for a length the task does not fit in.
std::unique_ptr<Data> make_task(const std::string& name, int64_t length);

}  // namespace deltatape::tools

#include "tools/data.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace deltatape::tools {
namespace {

constexpr int64_t kIgnored = -100;
constexpr uint64_t kValidationSeed = 0x76616c6964617465;

// Rows of length + 1 tokens become ids and targets by cutting off the last or the first token.
Batch shifted(const Tensor& windows) {
  const int64_t rows = windows.size(0);
  const int64_t length = windows.size(1) - 1;
  Batch batch{empty({rows, length}, DType::i64), empty({rows, length}, DType::i64)};
  const auto* from = windows.data<int64_t>();
  auto* ids = static_cast<int64_t*>(batch.ids.mutable_raw());
  auto* targets = static_cast<int64_t*>(batch.targets.mutable_raw());
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t* window = from + row * (length + 1);
    std::copy(window, window + length, ids + row * length);
    std::copy(window + 1, window + length + 1, targets + row * length);
  }
  return batch;
}

// A task writes one row of length + 1 tokens and marks those that are to be predicted.
class Task : public Data {
 public:
  [[nodiscard]] Batch training(int64_t batch, int64_t length, Generator& generator) const override {
    Tensor windows = empty({batch, length + 1}, DType::i64);
    auto* tokens = static_cast<int64_t*>(windows.mutable_raw());
    std::vector<char> asked;
    for (int64_t row = 0; row < batch; ++row) {
      std::vector<char> asked_here(static_cast<size_t>(length + 1), 0);
      write_row(std::span<int64_t>(tokens + row * (length + 1), static_cast<size_t>(length + 1)), asked_here,
                generator);
      asked.insert(asked.end(), asked_here.begin() + 1, asked_here.end());
    }
    Batch result = shifted(windows);
    auto* targets = static_cast<int64_t*>(result.targets.mutable_raw());
    for (size_t i = 0; i < asked.size(); ++i) {
      targets[i] = asked[i] != 0 ? targets[i] : kIgnored;
    }
    return result;
  }
  [[nodiscard]] Batch validation(int64_t rows, int64_t length) const override {
    Generator generator(kValidationSeed);
    return training(rows, length, generator);
  }
  [[nodiscard]] bool counts_answers() const override { return true; }

 protected:
  /// Fills `tokens`; asked[i] = 1 where tokens[i] is to be predicted from what stands before it.
  virtual void write_row(std::span<int64_t> tokens, std::vector<char>& asked, Generator& generator) const = 0;
};

int64_t draw(Generator& generator, int64_t bound) {
  return static_cast<int64_t>(generator.next_below(static_cast<uint64_t>(bound)));
}

// Random symbols, a separator, the same symbols backwards. Asked: everything after the separator.
class Palindrome final : public Task {
 public:
  [[nodiscard]] int64_t vocabulary() const override { return kSymbols + 1; }

 protected:
  void write_row(std::span<int64_t> tokens, std::vector<char>& asked, Generator& generator) const override {
    const size_t half = (tokens.size() - 1) / 2;
    std::fill(tokens.begin(), tokens.end(), kSymbols);
    for (size_t i = 0; i < half; ++i) {
      tokens[i] = draw(generator, kSymbols);
      tokens[2 * half - i] = tokens[i];
    }
    std::fill_n(asked.begin() + static_cast<int64_t>(half) + 1, half, char{1});
  }

 private:
  static constexpr int64_t kSymbols = 32;
};

// Multi-query associative recall: key value key value ... with distinct keys, then keys again in random order, each
// followed by its value. Asked: the values in the second part.
// Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models", 2023.
class Mqar final : public Task {
 public:
  [[nodiscard]] int64_t vocabulary() const override { return kKeys + kValues; }

 protected:
  void write_row(std::span<int64_t> tokens, std::vector<char>& asked, Generator& generator) const override {
    const size_t pairs = std::min<size_t>(kKeys / 2, tokens.size() / 4);
    std::vector<int64_t> keys(kKeys);
    std::iota(keys.begin(), keys.end(), int64_t{0});
    std::vector<int64_t> values(pairs);
    for (size_t i = 0; i < pairs; ++i) {
      std::swap(keys[i], keys[i + static_cast<size_t>(draw(generator, kKeys - static_cast<int64_t>(i)))]);
      values[i] = kKeys + draw(generator, kValues);
    }
    for (size_t place = 0; place < tokens.size(); place += 2) {
      const bool asks = place >= 2 * pairs;
      const size_t pair = asks ? static_cast<size_t>(draw(generator, static_cast<int64_t>(pairs))) : place / 2;
      tokens[place] = keys[pair];
      if (place + 1 < tokens.size()) {
        tokens[place + 1] = values[pair];
        asked[place + 1] = asks ? 1 : 0;
      }
    }
  }

 private:
  static constexpr int64_t kKeys = 64;
  static constexpr int64_t kValues = 64;
};

// Several stacks in random use: `push i` with an element, `pop i` followed by the element that comes off. Asked: what
// is popped.
class Stack final : public Task {
 public:
  [[nodiscard]] int64_t vocabulary() const override { return 2 * kStacks + kElements; }

 protected:
  void write_row(std::span<int64_t> tokens, std::vector<char>& asked, Generator& generator) const override {
    std::vector<std::vector<int64_t>> stacks(kStacks);
    for (size_t place = 0; place < tokens.size(); place += 2) {
      const int64_t id = draw(generator, kStacks);
      auto& stack = stacks[static_cast<size_t>(id)];
      const bool pop = !stack.empty() && draw(generator, 2) == 0;
      int64_t element = 0;
      if (pop) {
        element = stack.back();
        stack.pop_back();
      } else {
        element = 2 * kStacks + draw(generator, kElements);
        stack.push_back(element);
      }
      tokens[place] = pop ? kStacks + id : id;
      if (place + 1 < tokens.size()) {
        tokens[place + 1] = element;
        asked[place + 1] = pop ? 1 : 0;
      }
    }
  }

 private:
  static constexpr int64_t kStacks = 8;
  static constexpr int64_t kElements = 32;
};

}  // namespace

TextData::TextData(io::Text text, int64_t length) : text_(std::move(text)), split_(io::split_text(text_.bytes)) {
  const auto validation = static_cast<int64_t>(split_.validation.size());
  check(validation > length, "--text",
        "the text has {} bytes, expected at least {} (ten times --seq-len + 1, since its last tenth is for validation)",
        text_.bytes.size(), 10 * (length + 1));
}

Batch TextData::training(int64_t batch, int64_t length, Generator& generator) const {
  return shifted(io::random_windows(split_.training, batch, length + 1, generator));
}

Batch TextData::validation(int64_t rows, int64_t length) const {
  return shifted(io::spread_windows(split_.validation, rows, length + 1, length));
}

std::optional<double> TextData::unigram_loss() const {
  return io::unigram_cross_entropy(split_.training, split_.validation);
}

std::unique_ptr<Data> make_task(const std::string& name, int64_t length) {
  check(length >= 8, "--task", "{} needs sequences of 8 tokens or more, --seq-len is {}", name, length);
  if (name == "palindrome") {
    return std::make_unique<Palindrome>();
  }
  if (name == "mqar") {
    return std::make_unique<Mqar>();
  }
  check(name == "stack", "--task", "'{}' is not one of palindrome, mqar, stack", name);
  return std::make_unique<Stack>();
}

}  // namespace deltatape::tools

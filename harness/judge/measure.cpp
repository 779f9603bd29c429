#include "harness/judge/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "harness/judge/ulp.h"

namespace deltatape::harness {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kCounts = 1e-3;  // elements whose reference is at least this part of the largest enter `ulp`

double smallest_normal(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-14;
    case DType::bf16:
    case DType::f32:
      return std::numeric_limits<float>::min();
    default:
      return std::numeric_limits<double>::min();
  }
}

// Both sides in f64, seen as rows of `width` elements: the last dimension.
struct Pair {
  Pair(std::string_view function, const Tensor& x, const Tensor& reference)
      : shape(reference.shape()), width(shape.empty() ? 1 : shape.back()) {
    check(x.shape() == shape, function, "x has shape {}, expected {} as the reference has", x.shape(), shape);
    actual = x.to_vector<double>();
    expected = reference.to_vector<double>();
    rows = width == 0 ? 0 : static_cast<int64_t>(actual.size()) / width;
    for (const double value : expected) {
      const double magnitude = std::abs(value);
      scale = magnitude <= kLargest ? std::max(scale, magnitude) : scale;
    }
  }

  /// Infinite where either side is not finite.
  [[nodiscard]] double difference(size_t i) const {
    const double size = std::abs(actual[i] - expected[i]);
    return size <= kLargest ? size : kInfinity;
  }

  Shape shape;
  int64_t width = 1;
  int64_t rows = 0;
  double scale = 0.0;  // the largest element of the reference that is finite
  std::vector<double> actual;
  std::vector<double> expected;
};

// Differences relative to `scale`.
class Relative {
 public:
  Relative(double scale, DType dtype) : scale_(scale), negligible_(smallest_normal(dtype)) {}

  [[nodiscard]] double operator()(double difference) const {
    if (scale_ > 0.0) {
      return difference / scale_;
    }
    return difference < negligible_ ? 0.0 : kInfinity;
  }
  void apply(std::vector<double>& differences) const {
    std::transform(differences.begin(), differences.end(), differences.begin(), *this);
  }

 private:
  double scale_;
  double negligible_;
};

// Which time, token and row of a chunk a row of a Pair belongs to.
class Places {
 public:
  Places(const Layout& layout, const Shape& shape) : layout_(layout) {
    const bool named = layout.dimensions.size() >= 2;
    const bool by_token = named ? layout.dimensions[0] == "batch" && layout.dimensions[1] == "time" : true;
    if (shape.rank() < 2 || !by_token) {
      return;
    }
    const int64_t tokens = shape[0] * shape[1];
    has_tokens_ = !layout.tokens.empty() && static_cast<int64_t>(layout.tokens.size()) == tokens;
    has_time_ = has_tokens_ || named;
    length_ = shape[1];
    // The last dimension is no row: for [batch, time] itself every row is a batch of tokens.
    rows_per_token_ = 1;
    for (int d = 2; d + 1 < shape.rank(); ++d) {
      rows_per_token_ *= shape[d];
    }
    flat_ = shape.rank() == 2;
  }

  [[nodiscard]] bool has_time() const { return has_time_; }
  [[nodiscard]] bool has_tokens() const { return has_tokens_; }
  /// Of element `column` of `row`.
  [[nodiscard]] int64_t token(int64_t row, int64_t column) const {
    return flat_ ? row * length_ + column : row / rows_per_token_;
  }
  /// Whether the elements of a row belong to several tokens.
  [[nodiscard]] bool flat() const { return flat_; }
  [[nodiscard]] int64_t time(int64_t token) const {
    return has_tokens_ ? layout_.tokens[static_cast<size_t>(token)].time : token % length_;
  }
  [[nodiscard]] int64_t chunk_row(int64_t token) const { return layout_.tokens[static_cast<size_t>(token)].row; }

  /// `chunk 1, row 1`, after `sequence 2, time 3 of it` where the batch entry has several sequences.
  [[nodiscard]] std::string words(int64_t token) const {
    const int64_t begin = token - token % length_;
    const TokenPlace& place = layout_.tokens[static_cast<size_t>(token)];
    // The length of a chunk is not given: borders are where the row begins again.
    int64_t chunk = 0;
    for (int64_t t = begin; t <= token; ++t) {
      const TokenPlace& other = layout_.tokens[static_cast<size_t>(t)];
      chunk += other.sequence == place.sequence && other.time > 0 && other.row == 0 ? 1 : 0;
    }
    const bool several = layout_.tokens[static_cast<size_t>(begin)].sequence !=
                         layout_.tokens[static_cast<size_t>(begin + length_ - 1)].sequence;
    return fmt::format("{}chunk {}, row {}",
                       several ? fmt::format("sequence {}, time {} of it, ", place.sequence, place.time) : "", chunk,
                       place.row);
  }

 private:
  const Layout& layout_;
  bool has_time_ = false;
  bool has_tokens_ = false;
  bool flat_ = false;
  int64_t length_ = 1;
  int64_t rows_per_token_ = 1;
};

std::string in_words(int64_t position, const Shape& shape, const Layout& layout, const Places& places) {
  if (shape.empty()) {
    return "the only element";
  }
  const int64_t token = places.has_tokens() ? places.token(position / shape.back(), position % shape.back()) : 0;
  std::vector<std::string> words(static_cast<size_t>(shape.rank()));
  for (int d = shape.rank() - 1; d >= 0; --d) {
    const auto i = static_cast<size_t>(d);
    words[i] = i < layout.dimensions.size() ? fmt::format("{} {}", layout.dimensions[i], position % shape[d])
                                            : fmt::format("dimension {}: {}", d, position % shape[d]);
    position /= shape[d];
  }
  if (places.has_tokens()) {
    words[1] += " (" + places.words(token) + ")";
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

void raise(std::vector<double>& list, int64_t at, double value) {
  const auto i = static_cast<size_t>(at);
  if (i >= list.size()) {
    list.resize(i + 1, 0.0);
  }
  list[i] = std::max(list[i], value);
}

// The largest differences by time, row and channel, and the worst element.
size_t find_worst(const Pair& pair, const Places& places, Measure& into) {
  size_t worst = 0;
  double largest = -1.0;
  const auto width = static_cast<size_t>(pair.width);
  into.by_channel.assign(pair.shape.empty() ? 0 : width, 0.0);
  const auto at_token = [&](int64_t token, double value) {
    raise(into.by_time, places.time(token), value);
    if (places.has_tokens()) {
      raise(into.by_row, places.chunk_row(token), value);
    }
  };
  for (int64_t row = 0; row < pair.rows; ++row) {
    double of_row = 0.0;
    for (size_t c = 0; c < width; ++c) {
      const size_t i = static_cast<size_t>(row) * width + c;
      const double difference = pair.difference(i);
      if (difference > largest) {
        largest = difference;
        worst = i;
      }
      of_row = std::max(of_row, difference);
      if (!into.by_channel.empty()) {
        into.by_channel[c] = std::max(into.by_channel[c], difference);
      }
      if (places.has_time() && places.flat()) {
        at_token(places.token(row, static_cast<int64_t>(c)), difference);
      }
    }
    if (places.has_time() && !places.flat()) {
      at_token(places.token(row, 0), of_row);
    }
  }
  return worst;
}

// Through differences relative to the scale, so that squares neither overflow nor vanish.
double rms_error(const Pair& pair) {
  double squares = 0.0;
  double reference_squares = 0.0;
  for (size_t i = 0; i < pair.actual.size(); ++i) {
    const double difference = (pair.actual[i] - pair.expected[i]) / pair.scale;
    const double reference = pair.expected[i] / pair.scale;
    squares += difference * difference;
    reference_squares += reference * reference;
  }
  return std::sqrt(squares / reference_squares);
}

int64_t largest_ulp(const Pair& pair, DType dtype) {
  int64_t largest = 0;
  for (size_t i = 0; i < pair.actual.size(); ++i) {
    if (std::abs(pair.expected[i]) >= kCounts * pair.scale) {
      largest = std::max(largest, ulp_distance(pair.actual[i], pair.expected[i], dtype));
    }
  }
  return largest;
}

}  // namespace

Measure measure(const Tensor& x, const Tensor& reference, DType dtype, const Layout& layout) {
  const Pair pair("measure", x, reference);
  Measure result;
  if (pair.actual.empty()) {
    return result;
  }
  const Places places(layout, pair.shape);
  const size_t worst = find_worst(pair, places, result);
  const Relative relative(pair.scale, dtype);
  const double difference = pair.difference(worst);
  const bool finite = difference <= kLargest;
  result.error = relative(difference);
  result.rms_error = finite && pair.scale > 0.0 ? rms_error(pair) : result.error;
  if (!finite) {
    result.ulp = INT64_MAX;
  } else if (pair.scale > 0.0) {
    result.ulp = largest_ulp(pair, dtype);
  }
  relative.apply(result.by_time);
  relative.apply(result.by_row);
  relative.apply(result.by_channel);
  result.worst = in_words(static_cast<int64_t>(worst), pair.shape, layout, places);
  result.actual = pair.actual[worst];
  result.expected = pair.expected[worst];
  return result;
}

ErrorMap error_map(const std::string& tensor, const Tensor& x, const Tensor& reference, const Layout& layout) {
  const Pair pair("error_map", x, reference);
  ErrorMap map;
  map.tensor = tensor;
  if (pair.actual.empty()) {
    return map;
  }
  const Places places(layout, pair.shape);
  // [batch, time] has one channel.
  const bool flat = places.has_time() && places.flat();
  const auto width = static_cast<size_t>(pair.width);
  const size_t channels = flat ? 1 : width;
  for (int64_t row = 0; row < pair.rows; ++row) {
    for (size_t c = 0; c < width; ++c) {
      const int64_t time = places.has_time() ? places.time(places.token(row, static_cast<int64_t>(c))) : row;
      const size_t at = static_cast<size_t>(time) * channels + (flat ? 0 : c);
      if (at >= map.errors.size()) {
        map.errors.resize((static_cast<size_t>(time) + 1) * channels, 0.0);
      }
      map.errors[at] = std::max(map.errors[at], pair.difference(static_cast<size_t>(row) * width + c));
    }
  }
  Relative(pair.scale, x.dtype()).apply(map.errors);
  map.channels = static_cast<int64_t>(channels);
  map.times = static_cast<int64_t>(map.errors.size() / channels);
  return map;
}

}  // namespace deltatape::harness

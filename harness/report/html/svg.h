// The few parts of SVG that the plots of a report are drawn with. Colours come from classes (style.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltatape::harness::html {

/// A coordinate with at most one digit after the point.
std::string coordinate(double value);

/// A drawing with its own coordinates, which the page scales to the room there is.
class Drawing {
 public:
  /// `label` says what it shows, for those who do not see it.
  Drawing(double width, double height, std::string_view label);

  void line(double x1, double y1, double x2, double y2, std::string_view css);
  void rect(double x, double y, double width, double height, std::string_view css);
  /// `css` also says how the text is anchored: `end`, `middle`, else at its start. `angle` in degrees.
  void text(double x, double y, std::string_view words, std::string_view css, double angle = 0.0);
  /// A path; `title` is shown where the pointer rests on it.
  void path(std::string_view data, std::string_view css, std::string_view title = "");
  /// Any elements.
  void add(std::string_view elements) { body_ += elements; }
  /// The element. `css` joins its class; it keeps its size and does not grow with `fixed`.
  [[nodiscard]] std::string finish(std::string_view css = "") const;

 private:
  double width_;
  double height_;
  std::string label_;
  std::string body_;
};

/// A logarithmic axis over whole decades.
class LogScale {
 public:
  /// Holds all of `values` that are positive and finite, at most `most` decades below the largest; at least one decade.
  explicit LogScale(const std::vector<double>& values, int most = 16);
  /// Where `value` stands in [0, 1]: zeros at the low end, infinities and NaN at the high end.
  [[nodiscard]] double place(double value) const;

  struct Tick {
    double place = 0.0;
    std::string label;  // `10⁻⁷`
  };
  /// At most `count` decades, evenly spaced.
  [[nodiscard]] std::vector<Tick> ticks(int count) const;

 private:
  int low_ = -1;
  int high_ = 0;
};

/// At most about `count` round numbers in [0, size).
std::vector<int64_t> index_ticks(int64_t size, int64_t count);

}  // namespace deltatape::harness::html

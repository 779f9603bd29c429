#include "harness/report/html/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/report/markup.h"

namespace deltatape::harness::html {
namespace {

std::string power_of_ten(int exponent) {
  if (exponent == 0) {
    return "1";
  }
  constexpr std::string_view digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = exponent < 0 ? "10⁻" : "10";
  for (const char digit : std::to_string(std::abs(exponent))) {
    text += digits[digit - '0'];
  }
  return text;
}

}  // namespace

std::string coordinate(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.size() > 2 && text.substr(text.size() - 2) == ".0") {
    text.resize(text.size() - 2);
  }
  return text == "-0" ? "0" : text;
}

Drawing::Drawing(double width, double height, std::string_view label)
    : width_(width), height_(height), label_(escaped(label)) {}

void Drawing::line(double x1, double y1, double x2, double y2, std::string_view css) {
  body_ += fmt::format(R"(<path class="{}" d="M{} {}L{} {}"/>)", css, coordinate(x1), coordinate(y1), coordinate(x2),
                       coordinate(y2));
}

void Drawing::rect(double x, double y, double width, double height, std::string_view css) {
  body_ += fmt::format(R"(<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>)", css, coordinate(x), coordinate(y),
                       coordinate(width), coordinate(height));
}

void Drawing::text(double x, double y, std::string_view words, std::string_view css, double angle) {
  const std::string turn = angle == 0.0 ? ""
                                        : fmt::format(R"svg( transform="rotate({} {} {})")svg", coordinate(angle),
                                                      coordinate(x), coordinate(y));
  body_ += fmt::format(R"(<text class="{}" x="{}" y="{}"{}>{}</text>)", css, coordinate(x), coordinate(y), turn,
                       escaped(words));
}

void Drawing::path(std::string_view data, std::string_view css, std::string_view title) {
  body_ += fmt::format(R"(<path class="{}" d="{}")", css, data);
  body_ += title.empty() ? "/>" : fmt::format("><title>{}</title></path>", escaped(title));
}

std::string Drawing::finish(std::string_view css) const {
  const std::string width = coordinate(width_);
  const std::string height = coordinate(height_);
  return fmt::format(
      R"(<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>)", css, width,
      height, width, height, label_, body_);
}

LogScale::LogScale(const std::vector<double>& values, int most) {
  double low = std::numeric_limits<double>::infinity();
  double high = 0.0;
  for (const double value : values) {
    if (value > 0.0 && std::isfinite(value)) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (high > 0.0) {
    high_ = static_cast<int>(std::ceil(std::log10(high)));
    low_ = std::clamp(static_cast<int>(std::floor(std::log10(low))), high_ - most, high_ - 1);
  }
}

double LogScale::place(double value) const {
  if (value <= 0.0) {
    return 0.0;
  }
  if (!std::isfinite(value)) {
    return 1.0;
  }
  return std::clamp((std::log10(value) - low_) / static_cast<double>(high_ - low_), 0.0, 1.0);
}

std::vector<LogScale::Tick> LogScale::ticks(int count) const {
  const int step = std::max(1, (high_ - low_ + count - 1) / count);
  std::vector<Tick> ticks;
  for (int decade = high_; decade >= low_; decade -= step) {
    ticks.push_back({static_cast<double>(decade - low_) / static_cast<double>(high_ - low_), power_of_ten(decade)});
  }
  return ticks;
}

std::vector<int64_t> index_ticks(int64_t size, int64_t count) {
  int64_t step = 1;
  for (int64_t decade = 1; size / step > count; decade *= 10) {
    for (const int64_t factor : {1, 2, 5}) {
      step = decade * factor;
      if (size / step <= count) {
        break;
      }
    }
  }
  std::vector<int64_t> ticks;
  for (int64_t i = 0; i < size; i += step) {
    ticks.push_back(i);
  }
  return ticks;
}

}  // namespace deltatape::harness::html

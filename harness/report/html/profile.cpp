#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/report/html/plots.h"
#include "harness/report/html/svg.h"
#include "harness/report/markup.h"
#include "harness/report/rows.h"

namespace deltatape::harness::html {
namespace {

constexpr double kWidth = 560.0;
constexpr double kHeight = 300.0;
constexpr double kLeft = 52.0;
constexpr double kTop = 26.0;
constexpr double kBottom = 250.0;
constexpr double kRight = kWidth - 12.0;
constexpr size_t kColours = 6;  // lines with a colour of their own; further ones are grey

struct Line {
  const Judgement* judgement = nullptr;
  std::vector<double> values;  // in multiples of the limit
};

std::vector<Line> lines_of(const CaseReport& c, bool by_row) {
  std::vector<Line> lines;
  for (const Judgement& judgement : c.judgements) {
    const auto& errors = by_row ? judgement.measure.by_row : judgement.measure.by_time;
    if (errors.empty() || !(judgement.fine_limit > 0.0) || is_noise(judgement)) {
      continue;
    }
    Line& line = lines.emplace_back();
    line.judgement = &judgement;
    line.values.reserve(errors.size());
    for (const double error : errors) {
      line.values.push_back(error / judgement.fine_limit);
    }
  }
  // The one to look at, then the worst first: they get the colours.
  std::stable_sort(lines.begin(), lines.end(), [&](const Line& a, const Line& b) {
    const bool a_first = a.judgement->tensor == c.tensor;
    const bool b_first = b.judgement->tensor == c.tensor;
    return a_first != b_first ? a_first : is_worse(*a.judgement, *b.judgement);
  });
  return lines;
}

// Red, the first colour, is for what is not fine.
std::string css_of(const std::vector<Line>& lines, size_t i) {
  const size_t colour = i + (lines.front().judgement->verdict == Verdict::fine ? 1 : 0);
  return colour < kColours ? fmt::format("series s{}", colour) : "series other";
}

// How many lines have a colour of their own.
size_t coloured(const std::vector<Line>& lines) {
  return std::min(lines.size(), kColours - (lines.front().judgement->verdict == Verdict::fine ? 1 : 0));
}

std::string legend(const std::vector<Line>& lines) {
  std::string items;
  const size_t count = coloured(lines);
  for (size_t i = 0; i < count; ++i) {
    items +=
        fmt::format(R"(<li><svg width="18" height="10" aria-hidden="true"><path class="{}" d="M1 5h16"/></svg>{}</li>)",
                    css_of(lines, i), escaped(lines[i].judgement->tensor));
  }
  if (lines.size() > count) {
    std::string others;
    for (size_t i = count; i < lines.size(); ++i) {
      others += (others.empty() ? "" : ", ") + lines[i].judgement->tensor;
    }
    items +=
        fmt::format(R"(<li><svg width="18" height="10" aria-hidden="true"><path class="{}" d="M1 5h16"/></svg>{}</li>)",
                    css_of(lines, kColours), escaped(others));
  }
  return "<ul class=\"legend\">" + items + "</ul>";
}

}  // namespace

std::string profile_plot(const CaseReport& c) {
  bool by_row = true;
  auto lines = lines_of(c, by_row);
  if (lines.empty()) {
    by_row = false;
    lines = lines_of(c, by_row);
  }
  if (lines.empty()) {
    return "";
  }
  size_t length = 0;
  std::vector<double> all = {1.0};
  for (const Line& line : lines) {
    length = std::max(length, line.values.size());
    all.insert(all.end(), line.values.begin(), line.values.end());
  }
  const LogScale scale(all, 8);
  const auto x_of = [&](size_t i) {
    return kLeft + (kRight - kLeft) * (static_cast<double>(i) + 0.5) / static_cast<double>(length);
  };
  const auto y_of = [&](double value) { return kBottom - (kBottom - kTop) * scale.place(value); };

  const std::string what = by_row ? "position in the chunk" : "time within the sequence";
  Drawing drawing(kWidth, kHeight, "Error of every tensor by " + what);
  for (const auto& tick : scale.ticks(6)) {
    const double y = kBottom - (kBottom - kTop) * tick.place;
    drawing.line(kLeft, y, kRight, y, "grid");
    drawing.text(kLeft - 6.0, y + 4.0, tick.label, "tick end");
  }
  for (const int64_t i : index_ticks(static_cast<int64_t>(length), 10)) {
    const double x = x_of(static_cast<size_t>(i));
    drawing.line(x, kBottom, x, kBottom + 4.0, "axis");
    drawing.text(x, kBottom + 17.0, std::to_string(i), "tick middle");
  }
  drawing.line(kLeft, kBottom, kRight, kBottom, "axis");
  drawing.line(kLeft, y_of(1.0), kRight, y_of(1.0), "limit");
  drawing.text(kRight, y_of(1.0) - 5.0, "fine limit", "tick end");
  drawing.text((kLeft + kRight) / 2.0, kBottom + 36.0, what, "label middle");
  drawing.text(14.0, (kTop + kBottom) / 2.0, "error / fine limit", "label middle", -90.0);
  for (size_t k = lines.size(); k-- > 0;) {  // the most important one on top
    std::string data;
    for (size_t i = 0; i < lines[k].values.size(); ++i) {
      data += fmt::format("{}{} {}", i == 0 ? "M" : "L", coordinate(x_of(i)), coordinate(y_of(lines[k].values[i])));
    }
    const bool dot = lines[k].values.size() == 1;
    data += dot ? "h0.1" : "";  // a dot, by its round ends
    drawing.path(data, css_of(lines, k) + (dot ? " dot" : ""), lines[k].judgement->tensor);
  }
  return drawing.finish("plot") + legend(lines);
}

}  // namespace deltatape::harness::html

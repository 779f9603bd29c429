#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "harness/report/html/plots.h"
#include "harness/report/html/svg.h"
#include "harness/report/rows.h"

namespace deltatape::harness::html {
namespace {

constexpr double kWidth = 560.0;
constexpr double kLeft = 52.0;
constexpr double kTop = 26.0;
constexpr double kLargestCell = 30.0;
constexpr int64_t kMostColumns = 250;
constexpr int64_t kMostRows = 120;
constexpr int kSteps = 8;         // colours below the limit, and above it
constexpr int kBad = 2 * kSteps;  // the colour of what is not finite
constexpr double kDecades = 4.0;  // that the colours below the limit stand for

// Which colour an error has: classes m0 .. m7 below the limit, m8 .. m15 above, m16 not finite.
class Colours {
 public:
  Colours(double limit, double largest)
      : limit_(limit > 0.0 && std::isfinite(limit) ? limit : largest), high_(std::max(largest, 10.0 * limit_)) {}

  [[nodiscard]] int of(double error) const {
    if (!std::isfinite(error)) {
      return kBad;
    }
    if (error <= limit_) {
      const double below = error > 0.0 ? std::log10(error / limit_) / kDecades + 1.0 : 0.0;
      return std::clamp(static_cast<int>(below * kSteps), 0, kSteps - 1);
    }
    return kSteps +
           std::clamp(static_cast<int>(std::log(error / limit_) / std::log(high_ / limit_) * kSteps), 0, kSteps - 1);
  }
  [[nodiscard]] double low() const { return limit_ * std::pow(10.0, -kDecades); }
  [[nodiscard]] double limit() const { return limit_; }
  [[nodiscard]] double high() const { return high_; }

 private:
  double limit_;
  double high_;
};

// The map in at most kMostColumns times kMostRows cells: the largest error in each. Columns are times.
struct Cells {
  explicit Cells(const ErrorMap& map)
      : columns(std::min(map.times, kMostColumns)), rows(std::min(map.channels, kMostRows)) {
    errors.assign(static_cast<size_t>(columns * rows), 0.0);
    for (int64_t t = 0; t < map.times; ++t) {
      for (int64_t c = 0; c < map.channels; ++c) {
        double& cell = at(t * columns / map.times, c * rows / map.channels);
        const double error = map.errors[static_cast<size_t>(t * map.channels + c)];
        cell = error <= cell ? cell : error;  // NaN stays
      }
    }
  }
  double& at(int64_t column, int64_t row) { return errors[static_cast<size_t>(row * columns + column)]; }

  int64_t columns;
  int64_t rows;
  std::vector<double> errors;
};

// One path per colour, with a rectangle per run of cells.
std::string cell_paths(Cells& cells, const Colours& colours) {
  std::array<std::string, kBad + 1> paths;
  for (int64_t row = 0; row < cells.rows; ++row) {
    for (int64_t begin = 0; begin < cells.columns;) {
      const int colour = colours.of(cells.at(begin, row));
      int64_t end = begin + 1;
      while (end < cells.columns && colours.of(cells.at(end, row)) == colour) {
        ++end;
      }
      paths[static_cast<size_t>(colour)] += fmt::format("M{} {}h{}v1h-{}z", begin, row, end - begin, end - begin);
      begin = end;
    }
  }
  std::string out;
  for (size_t colour = 0; colour < paths.size(); ++colour) {
    if (!paths[colour].empty()) {
      out += fmt::format(R"(<path class="m{}" d="{}"/>)", colour, paths[colour]);
    }
  }
  return out;
}

void draw_legend(Drawing& drawing, double y, const Colours& colours, bool limit_known, bool bad) {
  constexpr double kStep = 18.0;
  const int steps = limit_known ? 2 * kSteps : kSteps;
  for (int i = 0; i < steps; ++i) {
    drawing.rect(kLeft + kStep * i, y, kStep, 10.0, fmt::format("m{}", i));
  }
  drawing.text(kLeft, y + 24.0, "≤ " + short_number(colours.low()), "tick");
  drawing.text(kLeft + kStep * kSteps, y + 24.0, short_number(colours.limit()) + (limit_known ? " fine limit" : ""),
               limit_known ? "tick middle" : "tick end");
  if (limit_known) {
    drawing.line(kLeft + kStep * kSteps, y - 3.0, kLeft + kStep * kSteps, y + 13.0, "axis");
    drawing.text(kLeft + kStep * steps, y + 24.0, short_number(colours.high()), "tick end");
  }
  if (bad) {
    drawing.rect(kLeft + kStep * steps + 24.0, y, kStep, 10.0, fmt::format("m{}", kBad));
    drawing.text(kLeft + kStep * steps + 24.0 + kStep + 6.0, y + 9.0, "not finite", "tick");
  }
}

// Chunks are as long as errors by row reach, wherever a sequence is longer.
int64_t chunk_length(const Judgement* judgement) {
  return judgement == nullptr ? 0 : static_cast<int64_t>(judgement->measure.by_row.size());
}

}  // namespace

std::string error_map_plot(const CaseReport& c) {
  if (!c.map || c.map->times <= 0 || c.map->channels <= 0 ||
      static_cast<int64_t>(c.map->errors.size()) != c.map->times * c.map->channels) {
    return "";
  }
  const ErrorMap& map = *c.map;
  const auto found = std::find_if(c.judgements.begin(), c.judgements.end(),
                                  [&](const Judgement& judgement) { return judgement.tensor == map.tensor; });
  const Judgement* judgement = found == c.judgements.end() ? nullptr : &*found;
  double largest = 0.0;
  bool bad = false;
  for (const double error : map.errors) {
    bad = bad || !std::isfinite(error);
    largest = std::isfinite(error) ? std::max(largest, error) : largest;
  }
  const bool limit_known = judgement != nullptr && judgement->fine_limit > 0.0 && std::isfinite(judgement->fine_limit);
  const Colours colours(limit_known ? judgement->fine_limit : 0.0, largest > 0.0 ? largest : 1.0);
  const bool over_time = judgement == nullptr || !judgement->measure.by_time.empty();
  Cells cells(map);
  const double width = std::min(kWidth - kLeft - 12.0, kLargestCell * static_cast<double>(cells.columns));
  const double height = std::min(240.0, kLargestCell * static_cast<double>(cells.rows));
  const double bottom = kTop + height;

  Drawing drawing(kWidth, bottom + 84.0,
                  fmt::format("Error of {} by {} and channel, {} of them and {} channels", map.tensor,
                              over_time ? "time" : "row", map.times, map.channels));
  drawing.add(fmt::format(R"svg(<g class="cells" transform="translate({} {}) scale({:.5g} {:.5g})">{}</g>)svg",
                          coordinate(kLeft), coordinate(kTop), width / static_cast<double>(cells.columns),
                          height / static_cast<double>(cells.rows), cell_paths(cells, colours)));
  const auto x_of = [&](double time) { return kLeft + width * time / static_cast<double>(map.times); };
  const auto y_of = [&](double channel) { return kTop + height * channel / static_cast<double>(map.channels); };
  for (const int64_t t : index_ticks(map.times, 10)) {
    drawing.line(x_of(static_cast<double>(t) + 0.5), bottom, x_of(static_cast<double>(t) + 0.5), bottom + 4.0, "axis");
    drawing.text(x_of(static_cast<double>(t) + 0.5), bottom + 17.0, std::to_string(t), "tick middle");
  }
  for (const int64_t channel : index_ticks(map.channels, 8)) {
    drawing.line(kLeft - 4.0, y_of(static_cast<double>(channel) + 0.5), kLeft, y_of(static_cast<double>(channel) + 0.5),
                 "axis");
    drawing.text(kLeft - 7.0, y_of(static_cast<double>(channel) + 0.5) + 4.0, std::to_string(channel), "tick end");
  }
  // In the middle where there is room for them.
  const bool wide = width > 160.0;
  drawing.text(wide ? kLeft + width / 2.0 : kLeft, bottom + 34.0,
               over_time ? "time within the sequence" : "row (all dimensions but the last)",
               wide ? "label middle" : "label");
  drawing.text(14.0, kTop + std::max(height / 2.0, 16.0), "channel", "label middle", -90.0);

  const int64_t chunk = chunk_length(judgement);
  const double chunk_width = chunk > 0 ? width * static_cast<double>(chunk) / static_cast<double>(map.times) : 0.0;
  if (chunk > 0 && chunk < map.times && chunk_width > 8.0) {
    for (int64_t i = 0; i * chunk < map.times; ++i) {
      const double x = x_of(static_cast<double>(i * chunk));
      if (i > 0) {
        drawing.line(x, kTop - 12.0, x, bottom, "border halo");
        drawing.line(x, kTop - 12.0, x, bottom, "border");
      }
      if (chunk_width > 56.0 || i == 0) {
        const bool before = x + 52.0 > kWidth;  // no room behind the border
        drawing.text(before ? x - 4.0 : x + 4.0, kTop - 6.0,
                     i == 0 && chunk_width <= 56.0 ? "chunks" : fmt::format("chunk {}", i),
                     before ? "tick end" : "tick");
      }
    }
  }
  draw_legend(drawing, bottom + 48.0, colours, limit_known, bad);
  return drawing.finish("plot");
}

}  // namespace deltatape::harness::html

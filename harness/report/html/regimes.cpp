#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "harness/report/html/plots.h"
#include "harness/report/html/svg.h"
#include "harness/report/markup.h"
#include "harness/report/rows.h"
#include "harness/report/text_table.h"

namespace deltatape::harness::html {
namespace {

constexpr size_t kMostColumns = 24;  // per panel
constexpr size_t kLongestName = 26;  // below a column
constexpr size_t kMostPanels = 8;
constexpr int kMostTitles = 600;  // texts that show where the pointer rests
constexpr double kLeft = 68.0;
constexpr double kTop = 14.0;
constexpr double kHeight = 230.0;
constexpr double kColumn = 48.0;
constexpr double kSlot = 4.2;  // height and width of the place of a point
constexpr int kSlotsPerRow = 10;

struct Point {
  const Judgement* judgement = nullptr;
  const CaseReport* in = nullptr;
};
struct Column {
  std::string name;
  std::vector<Point> points;
};
struct Panel {
  std::string name;
  std::vector<Column> columns;
};

bool is_word(const Settings& settings, std::string_view name) {
  return settings.has(name) && std::holds_alternative<std::string>(settings.at(name));
}

// The settings that make groups: the first one panels, the others columns.
std::vector<std::string> group_keys(const Report& report) {
  std::vector<std::string> keys;
  for (const char* name : {"dtype", "gate", "decay"}) {
    if (std::any_of(report.cases.begin(), report.cases.end(),
                    [&](const CaseReport& c) { return is_word(c.settings, name); })) {
      keys.emplace_back(name);
    }
  }
  for (const CaseReport& c : report.cases) {
    for (const auto& entry : c.settings.entries()) {
      if (keys.empty() && std::holds_alternative<std::string>(entry.second)) {
        keys.push_back(entry.first);
      }
    }
  }
  return keys;
}

std::string value_of(const Settings& settings, const std::string& key) {
  return is_word(settings, key) ? std::get<std::string>(settings.at(key)) : "-";
}

template <class List>
auto& named(List& list, const std::string& name) {
  for (auto& entry : list) {
    if (entry.name == name) {
      return entry;
    }
  }
  auto& entry = list.emplace_back();
  entry.name = name;
  return entry;
}

std::vector<Panel> panels_of(const Report& report, const std::vector<std::string>& keys) {
  std::vector<Panel> panels;
  for (const CaseReport& c : report.cases) {
    std::string column;
    for (size_t k = 1; k < keys.size(); ++k) {
      column += (column.empty() ? "" : " · ") + value_of(c.settings, keys[k]);
    }
    const std::string first = value_of(c.settings, keys[0]);
    // With one key the values stand side by side.
    Panel& panel = named(panels, keys.size() > 1 ? first : "");
    Column& into = named(panel.columns, keys.size() > 1 ? column : first);
    for (const Judgement& judgement : c.judgements) {
      into.points.push_back({&judgement, &c});
    }
  }
  const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  for (Panel& panel : panels) {
    std::sort(panel.columns.begin(), panel.columns.end(), by_name);
  }
  return panels;
}

// At most kLongestName characters, without cutting one in two.
std::string shortened(const std::string& name) {
  if (text_width(name) <= kLongestName) {
    return name;
  }
  size_t end = 0;
  for (size_t count = 0; end < name.size() && (count < kLongestName - 1 || text_width(name.substr(end, 1)) == 0);
       ++end) {
    count += text_width(name.substr(end, 1));
  }
  return name.substr(0, end) + "…";
}

// What is marked at the middle of a group's limits.
double median(std::vector<double> values) {
  if (values.empty()) {
    return 0.0;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string_view css_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::fine:
      return "point-fine";
    case Verdict::less_accurate:
      return "point-less";
    case Verdict::wrong:
      break;
  }
  return "point-wrong";
}

// A dot, a square or a diamond, so that colour is not all that tells them apart.
std::string shape_of(Verdict verdict, double x, double y) {
  const std::string at = coordinate(x) + " " + coordinate(y);
  switch (verdict) {
    case Verdict::fine:
      return "M" + at + "m-1.7 0a1.7 1.7 0 1 0 3.4 0a1.7 1.7 0 1 0 -3.4 0";
    case Verdict::less_accurate:
      return "M" + at + "m-2 -2h4v4h-4z";
    case Verdict::wrong:
      break;
  }
  return "M" + at + "m0 -3.2l3.2 3.2l-3.2 3.2l-3.2 -3.2z";
}

// Points of one column: the worst first into the slots of their height, from the middle outwards; what finds none is
// not drawn.
void draw_points(Drawing& drawing, double middle, const Column& column, const LogScale& scale, int& titles) {
  std::vector<Point> points = column.points;
  std::stable_sort(points.begin(), points.end(),
                   [](const Point& a, const Point& b) { return a.judgement->verdict > b.judgement->verdict; });
  std::map<int, int> taken;
  std::string fine;
  for (const Point& point : points) {
    const Judgement& judgement = *point.judgement;
    const double error = judgement.problem.empty() ? judgement.measure.error : HUGE_VAL;
    const int slot = static_cast<int>(kHeight * scale.place(error) / kSlot);
    const int number = taken[slot]++;
    if (number >= kSlotsPerRow) {
      continue;
    }
    const double side = number % 2 == 0 ? 0.5 : -0.5;
    const double x = middle + side * kSlot * static_cast<double>(number + 1 - number % 2);
    const double y = kTop + kHeight - kSlot * (static_cast<double>(slot) + 0.5);
    if (judgement.verdict == Verdict::fine) {
      fine += shape_of(judgement.verdict, x, y);
    } else {
      const std::string title =
          titles-- > 0
              ? fmt::format("{}: {} {}\n{}", judgement.tensor, to_string(judgement.verdict),
                            judgement.problem.empty() ? short_number(error) : judgement.problem, point.in->text)
              : "";
      drawing.path(shape_of(judgement.verdict, x, y), css_of(judgement.verdict), title);
    }
  }
  if (!fine.empty()) {
    drawing.path(fine, css_of(Verdict::fine));
  }
}

std::string draw_panel(const Panel& panel, const std::string& key, int& titles) {
  std::vector<double> all;
  size_t longest = 0;
  size_t count = 0;
  for (const Column& column : panel.columns) {
    longest = std::max(longest, text_width(column.name));
    count += column.points.size();
    for (const Point& point : column.points) {
      all.insert(all.end(),
                 {point.judgement->measure.error, point.judgement->fine_limit, point.judgement->wrong_limit});
    }
  }
  const LogScale scale(all, 20);
  const size_t columns = std::min(panel.columns.size(), kMostColumns);
  const double right = kLeft + kColumn * static_cast<double>(std::max<size_t>(columns, 2));
  const double below = 20.0 + 5.6 * static_cast<double>(std::min<size_t>(longest, kLongestName));
  const double bottom = kTop + kHeight;
  const std::string title = panel.name.empty() ? key : fmt::format("{} {}", key, panel.name);
  Drawing drawing(right + 14.0, bottom + below, fmt::format("Errors of {} comparisons, {}", count, title));
  for (const auto& tick : scale.ticks(6)) {
    const double y = bottom - kHeight * tick.place;
    drawing.line(kLeft, y, right, y, "grid");
    drawing.text(kLeft - 6.0, y + 4.0, tick.label, "tick end");
  }
  for (size_t i = 0; i < columns; ++i) {
    const Column& column = panel.columns[i];
    const double middle = kLeft + kColumn * (static_cast<double>(i) + 0.5);
    std::vector<double> fine;
    std::vector<double> wrong;
    for (const Point& point : column.points) {
      fine.push_back(point.judgement->fine_limit);
      wrong.push_back(point.judgement->wrong_limit);
    }
    draw_points(drawing, middle, column, scale, titles);
    for (const auto& [value, css] : {std::pair{median(fine), "tick-fine"}, std::pair{median(wrong), "tick-wrong"}}) {
      if (value > 0.0) {
        const double y = bottom - kHeight * scale.place(value);
        drawing.line(middle - kColumn * 0.46, y, middle + kColumn * 0.46, y, css);
      }
    }
    drawing.text(middle + 4.0, bottom + 13.0, shortened(column.name), "tick end", -55.0);
  }
  drawing.line(kLeft, bottom, right, bottom, "axis");
  const std::string note =
      columns < panel.columns.size()
          ? fmt::format("<p class=\"note\">{} further groups are left out.</p>", panel.columns.size() - columns)
          : "";
  return fmt::format("<figure class=\"panel\"><figcaption>{}</figcaption><div class=\"scroll\">{}</div>{}</figure>",
                     escaped(title), drawing.finish("plot fixed"), note);
}

std::string mark(std::string_view css, std::string_view data, std::string_view words) {
  return fmt::format(R"(<li><svg width="20" height="12" aria-hidden="true"><path class="{}" d="{}"/></svg>{}</li>)",
                     css, data, words);
}

}  // namespace

std::string regime_plot(const Report& report) {
  const auto keys = group_keys(report);
  if (keys.empty()) {
    return "";
  }
  auto panels = panels_of(report, keys);
  const bool any = std::any_of(panels.begin(), panels.end(), [](const Panel& panel) {
    return std::any_of(panel.columns.begin(), panel.columns.end(),
                       [](const Column& column) { return !column.points.empty(); });
  });
  if (!any) {
    return "";
  }
  int titles = kMostTitles;
  std::string out = "<ul class=\"legend\">" + mark(css_of(Verdict::fine), shape_of(Verdict::fine, 10, 6), "fine") +
                    mark(css_of(Verdict::less_accurate), shape_of(Verdict::less_accurate, 10, 6), "less accurate") +
                    mark(css_of(Verdict::wrong), shape_of(Verdict::wrong, 10, 6), "wrong") +
                    mark("tick-fine", "M1 6h18", "fine limit (median)") +
                    mark("tick-wrong", "M1 6h18", "wrong above (median)") + "</ul><div class=\"panels\">";
  for (size_t i = 0; i < panels.size() && i < kMostPanels; ++i) {
    out += draw_panel(panels[i], keys[0], titles);
  }
  out += "</div>";
  if (panels.size() > kMostPanels) {
    out += fmt::format("<p class=\"note\">{} further values of {} are left out.</p>", panels.size() - kMostPanels,
                       escaped(keys[0]));
  }
  return out;
}

}  // namespace deltatape::harness::html

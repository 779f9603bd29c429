#include "harness/report/text_table.h"

#include <algorithm>

namespace deltatape::harness {
namespace {

std::string aligned(const TextCell& cell, size_t width) {
  const std::string gap(width - std::min(width, text_width(cell.text)), ' ');
  return cell.right ? gap + cell.text : cell.text + gap;
}

// Lines of at most `width` columns, unless a part between `, ` alone is longer.
std::vector<std::string> broken(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  for (size_t begin = 0; begin < text.size();) {
    const size_t comma = text.find(", ", begin);
    const size_t end = comma == std::string::npos ? text.size() : comma + 2;
    const std::string part = text.substr(begin, end - begin);
    if (!lines.back().empty() && text_width(lines.back()) + text_width(part) > width + 1) {
      lines.emplace_back();
    }
    lines.back() += part;
    begin = end;
  }
  return lines;
}

void append_line(std::string& out, std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  out += line + "\n";
}

}  // namespace

size_t text_width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

std::string text_table(const std::vector<std::vector<TextCell>>& rows, size_t width) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], text_width(row[c].text));
    }
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c + 1 < row.size(); ++c) {
      line += aligned(row[c], widths[c]) + "  ";
    }
    if (row.empty()) {
      continue;
    }
    const size_t indent = text_width(line);
    if (width == 0 || row.back().right || indent + text_width(row.back().text) <= width) {
      append_line(out, line + aligned(row.back(), widths[row.size() - 1]));
      continue;
    }
    for (const std::string& part : broken(row.back().text, width - std::min(width, indent))) {
      append_line(out, line + part);
      line.assign(indent, ' ');
    }
  }
  return out;
}

}  // namespace deltatape::harness

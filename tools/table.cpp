#include "tools/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "io/file.h"

namespace deltatape::tools {

Cell::Cell(int64_t number) : text(std::to_string(number)), value(number), is_number(true) {}

Cell::Cell(double number, int digits) : text(fmt::format("{:.{}e}", number, digits)), value(number), is_number(true) {}

void Table::add_row(std::vector<Cell> cells) {
  check(cells.size() == columns_.size(), "Table::add_row", "cells has {} entries, expected {}", cells.size(),
        columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::print(std::FILE* to) const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(columns_[c].size());
    for (const auto& row : rows_) {
      widths[c] = std::max(widths[c], row[c].text.size());
    }
  }
  const auto print_line = [&](const auto& text_of, const auto& is_number) {
    std::string line;
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string& text = text_of(c);
      line += is_number(c) ? fmt::format("{:>{}}  ", text, widths[c]) : fmt::format("{:<{}}  ", text, widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print(to, "{}\n", line);
  };
  print_line([&](size_t c) -> const std::string& { return columns_[c]; },
             [&](size_t c) { return !rows_.empty() && rows_.front()[c].is_number; });
  for (const auto& row : rows_) {
    print_line([&](size_t c) -> const std::string& { return row[c].text; }, [&](size_t c) { return row[c].is_number; });
  }
}

nlohmann::ordered_json Table::to_json() const {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& row : rows_) {
    auto object = nlohmann::ordered_json::object();
    for (size_t c = 0; c < columns_.size(); ++c) {
      object[columns_[c]] = row[c].value;
    }
    rows.push_back(std::move(object));
  }
  return rows;
}

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value) {
  io::write_file("--json", path, value.dump(2) + "\n");
}

void check_writable(const std::string& option, const std::filesystem::path& path) {
  check(!std::filesystem::is_directory(path), option, "{} is a folder, expected a file", path.string());
  const io::FileWriter probe(option, path);  // removed again, since nothing commits it
}

}  // namespace deltatape::tools

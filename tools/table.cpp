#include "tools/table.h"

#include <fmt/format.h>

#include "core/error.h"
#include "harness/report/text_table.h"
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
  std::vector<std::vector<harness::TextCell>> lines(1);
  for (size_t c = 0; c < columns_.size(); ++c) {
    lines[0].push_back({columns_[c], !rows_.empty() && rows_.front()[c].is_number});
  }
  for (const auto& row : rows_) {
    auto& line = lines.emplace_back();
    for (const Cell& cell : row) {
      line.push_back({cell.text, cell.is_number});
    }
  }
  fmt::print(to, "{}", harness::text_table(lines));
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

// A table that is printed with aligned columns and written as JSON: the same rows for people and for scripts.
#pragma once

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deltatape::tools {

/// One entry: how it is printed and what the JSON holds.
struct Cell {
  Cell(std::string words) : text(std::move(words)), value(text) {}  // NOLINT(google-explicit-constructor)
  Cell(const char* words) : Cell(std::string(words)) {}             // NOLINT(google-explicit-constructor)
  Cell(int64_t number);                                             // NOLINT(google-explicit-constructor)
  /// Printed in scientific notation with `digits` digits after the point; NaN and infinity are null in JSON.
  Cell(double number, int digits = 2);  // NOLINT(google-explicit-constructor)

  std::string text;
  nlohmann::ordered_json value;
  bool is_number = false;
};

class Table {
 public:
  /// `columns` head the table and are the keys of the JSON rows.
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}
  /// One cell per column.
  void add_row(std::vector<Cell> cells);
  void print(std::FILE* to) const;
  /// An array of objects.
  [[nodiscard]] nlohmann::ordered_json to_json() const;
  [[nodiscard]] const std::vector<std::string>& columns() const { return columns_; }
  [[nodiscard]] const std::vector<std::vector<Cell>>& rows() const { return rows_; }

 private:
  std::vector<std::string> columns_;
  std::vector<std::vector<Cell>> rows_;
};

/// Writes `value` with two blanks per level. Throws Error naming the path when that fails.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value);
/// Throws Error that names `option` unless a file can be made at `path`: to be called before long work.
void check_writable(const std::string& option, const std::filesystem::path& path);

}  // namespace deltatape::tools

// Tables for terminals.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltatape::harness {

struct TextCell {
  std::string text;
  bool right = false;  // numbers stand at the right of their column
};

/// One line per row, with columns aligned and two blanks between them. The last column's text is broken at `, ` where
/// a line would be wider than `width` columns (0: never).
std::string text_table(const std::vector<std::vector<TextCell>>& rows, size_t width = 0);

/// Columns that `text` takes in a terminal: UTF-8 characters, each counted as one.
size_t text_width(std::string_view text);

}  // namespace deltatape::harness

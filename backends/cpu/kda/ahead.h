// Memory that will be needed soon, asked for a few cache lines at a time between pieces of work. Tokens of one head are
// far apart in memory, so the processor does not see what comes next; and asking for all at once would wait as long as
// reading does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cpu/ceil_div.h"

namespace deltatape::cpu::kda {

/// Equal pieces of memory at equal distances, in bytes.
struct SpacedRows {
  const char* first = nullptr;
  int64_t rows = 0;
  int64_t bytes = 0;  // of a row
  int64_t stride = 0;
};

/// A list of such rows that is worked off piece by piece: add(), then spread_over() once, then piece() again and again.
class Ahead {
 public:
  /// Adds rows. This is a hint: what does not fit into the list is left out.
  void add(const SpacedRows& rows) {
    if (count_ < kMost && rows.first != nullptr && rows.rows > 0 && rows.bytes > 0) {
      parts_[count_++] = rows;
      lines_ += rows.rows * ceil_div(rows.bytes, kLine);
    }
  }
  /// The work will be done in `pieces`: from now on each call of piece() asks for an equal share.
  void spread_over(int64_t pieces) { share_ = ceil_div(lines_, pieces > 0 ? pieces : 1); }
  /// Asks for the next share, if anything is left.
  void piece() {
    for (int64_t left = share_; left > 0 && part_ < count_;) {
      const SpacedRows& rows = parts_[part_];
      const char* row = rows.first + row_ * rows.stride;
      for (; left > 0 && byte_ < rows.bytes; --left, byte_ += kLine) {
        __builtin_prefetch(row + byte_, 0, 2);
      }
      if (byte_ >= rows.bytes) {
        byte_ = 0;
        if (++row_ == rows.rows) {
          row_ = 0;
          ++part_;
        }
      }
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr size_t kMost = 8;

  std::array<SpacedRows, kMost> parts_;
  size_t count_ = 0;
  int64_t lines_ = 0;
  int64_t share_ = 0;
  size_t part_ = 0;
  int64_t row_ = 0;
  int64_t byte_ = 0;
};

}  // namespace deltatape::cpu::kda

// Writing rows of large tensors, which are streamed past the caches where they fill whole cache lines.
#include "backends/cpu/kda/rows.h"

#include <doctest/doctest.h>

#include <vector>

#include "ops/creation.h"

namespace deltatape {
namespace {

TEST_CASE("kda kernels: rows of large results arrive whole, whatever their width and alignment") {
  for (const int64_t width : {256, 100, 33, 15}) {
    CAPTURE(width);
    const int64_t rows = cpu::kStreamBytes / (width * 4) + 2;  // just large enough to be streamed
    const Tensor x = full({rows, width}, -1.0);
    const cpu::kda::RowWriter<float> writer(x, width);
    std::vector<float> values(static_cast<size_t>(width));
    const auto value_at = [&](int64_t row, int64_t column) { return static_cast<float>(row * 7 + column); };
    for (int64_t row = 1; row + 1 < rows; row += 2) {  // rows between stay as they are
      for (int64_t first = 0; first < width; first += 32) {
        const int64_t count = std::min<int64_t>(32, width - first);
        for (int64_t c = 0; c < count; ++c) {
          values[static_cast<size_t>(c)] = value_at(row, first + c);
        }
        writer.write(row, first, count, values.data());
      }
    }
    cpu::end_of_stream();
    int64_t wrong = 0;
    const float* data = x.data<float>();
    for (int64_t row = 0; row < rows; ++row) {
      const bool written = row % 2 == 1 && row + 1 < rows;
      for (int64_t c = 0; c < width; ++c) {
        wrong += data[row * width + c] == (written ? value_at(row, c) : -1.0F) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace deltatape

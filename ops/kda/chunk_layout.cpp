#include "ops/kda/chunk_layout.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/joining.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

std::vector<int64_t> inverse(const std::vector<int64_t>& permutation) {
  std::vector<int64_t> result(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i) {
    result[static_cast<size_t>(permutation[i])] = static_cast<int64_t>(i);
  }
  return result;
}

}  // namespace

void check_chunk_size(std::string_view function, int64_t chunk_size) {
  check(chunk_size == 16 || chunk_size == 32 || chunk_size == 64, function, "chunk_size is {}, expected 16, 32 or 64",
        chunk_size);
}

ChunkTable::ChunkTable(const std::vector<int64_t>& bounds, bool packed, int64_t size, Device device)
    : chunk_size(size) {
  const size_t sequences = bounds.size() - 1;
  const int64_t steps = bounds.back();
  const auto chunks_of = [&](int64_t n) {
    const auto i = static_cast<size_t>(n);
    return (bounds[i + 1] - bounds[i] + size - 1) / size;
  };
  std::vector<int64_t> longest_first(sequences);
  std::iota(longest_first.begin(), longest_first.end(), int64_t{0});
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](int64_t a, int64_t b) { return chunks_of(a) > chunks_of(b); });

  std::vector<int64_t> token_of_row;
  std::vector<int64_t> row_of_token(static_cast<size_t>(steps));
  std::vector<std::vector<int64_t>> chunks_of_sequence(sequences);
  for (int64_t position = 0; position < chunks_of(longest_first.front()); ++position) {
    int64_t count = 0;
    for (; count < static_cast<int64_t>(sequences); ++count) {
      const int64_t n = longest_first[static_cast<size_t>(count)];
      if (chunks_of(n) <= position) {
        break;
      }
      const int64_t first = bounds[static_cast<size_t>(n)] + position * size;
      const int64_t end = bounds[static_cast<size_t>(n) + 1];
      chunks_of_sequence[static_cast<size_t>(n)].push_back(num_chunks + count);
      for (int64_t token = first; token < first + size; ++token) {
        if (token < end) {
          row_of_token[static_cast<size_t>(token)] = static_cast<int64_t>(token_of_row.size());
        }
        token_of_row.push_back(token < end ? token : steps);
      }
    }
    active.push_back(count);
    num_chunks += count;
  }
  if (packed) {
    std::vector<int64_t> chunks_by_time;
    for (const std::vector<int64_t>& chunks : chunks_of_sequence) {
      chunks_by_time.insert(chunks_by_time.end(), chunks.begin(), chunks.end());
    }
    tokens = to(from_vector(token_of_row), device);
    rows = to(from_vector(row_of_token), device);
    order = to(from_vector(longest_first), device);
    rank = to(from_vector(inverse(longest_first)), device);
    in_time = to(from_vector(chunks_by_time), device);
    place = to(from_vector(inverse(chunks_by_time)), device);
  }
}

Tensor to_chunks(const ChunkTable& table, const Tensor& x) {
  const Shape& s = x.shape();
  const int64_t padding = table.tokens.defined() ? 1 : table.num_chunks * table.chunk_size - s[1];
  Tensor padded = padding == 0 ? x : cat({x, zeros({s[0], padding, s[2], s[3]}, x.options())}, 1);
  if (table.tokens.defined()) {
    padded = index_select(padded, 1, table.tokens);
  }
  const Tensor chunks = reshape(padded, {s[0], table.num_chunks, table.chunk_size, s[2], s[3]});
  return contiguous(permute(chunks, {1, 0, 3, 2, 4}));
}

Tensor from_chunks(const ChunkTable& table, const Tensor& x, int64_t steps) {
  const Shape& s = x.shape();  // [NC,B,HV,C,D]
  const Tensor padded = reshape(permute(x, {1, 0, 3, 2, 4}), {s[1], s[0] * s[3], s[2], s[4]});
  return table.rows.defined() ? index_select(padded, 1, table.rows) : slice(padded, 1, {0, steps});
}

Tensor chunks_in_time(const ChunkTable& table, const Tensor& x) {
  return transpose(table.in_time.defined() ? index_select(x, 0, table.in_time) : x, 0, 1);
}

Tensor chunks_from_time(const ChunkTable& table, const Tensor& x) {
  const Tensor chunks = transpose(x, 0, 1);
  return table.place.defined() ? index_select(chunks, 0, table.place) : chunks;
}

Tensor to_loop_order(const ChunkTable& table, const Tensor& states) {
  return table.order.defined() ? unsqueeze(index_select(states, 0, table.order), 1) : unsqueeze(states, 0);
}

Tensor from_loop_order(const ChunkTable& table, const Tensor& states) {
  return table.rank.defined() ? index_select(squeeze(states, 1), 0, table.rank) : squeeze(states, 0);
}

}  // namespace deltatape::kda

#include "ops/kda/chunk_layout.h"

#include <algorithm>
#include <numeric>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/joining.h"
#include "ops/views.h"

namespace deltatape::kda {

ChunkTable::ChunkTable(const Problem& p, int64_t size, Device device) : chunk_size(size) {
  const size_t sequences = p.bounds.size() - 1;
  const auto chunks_of = [&](int64_t n) {
    const auto i = static_cast<size_t>(n);
    return (p.bounds[i + 1] - p.bounds[i] + size - 1) / size;
  };
  std::vector<int64_t> longest_first(sequences);
  std::iota(longest_first.begin(), longest_first.end(), int64_t{0});
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](int64_t a, int64_t b) { return chunks_of(a) > chunks_of(b); });

  std::vector<int64_t> token_of_row;
  std::vector<int64_t> row_of_token(static_cast<size_t>(p.T));
  for (int64_t position = 0; position < chunks_of(longest_first.front()); ++position) {
    int64_t count = 0;
    for (; count < static_cast<int64_t>(sequences); ++count) {
      const int64_t n = longest_first[static_cast<size_t>(count)];
      if (chunks_of(n) <= position) {
        break;
      }
      const int64_t first = p.bounds[static_cast<size_t>(n)] + position * size;
      const int64_t end = p.bounds[static_cast<size_t>(n) + 1];
      for (int64_t token = first; token < first + size; ++token) {
        if (token < end) {
          row_of_token[static_cast<size_t>(token)] = static_cast<int64_t>(token_of_row.size());
        }
        token_of_row.push_back(token < end ? token : p.T);
      }
    }
    active.push_back(count);
    num_chunks += count;
  }
  if (p.varlen) {
    std::vector<int64_t> rank_of(sequences);
    for (size_t i = 0; i < sequences; ++i) {
      rank_of[static_cast<size_t>(longest_first[i])] = static_cast<int64_t>(i);
    }
    tokens = to(from_vector(token_of_row), device);
    rows = to(from_vector(row_of_token), device);
    order = to(from_vector(longest_first), device);
    rank = to(from_vector(rank_of), device);
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

Tensor to_loop_order(const ChunkTable& table, const Tensor& states) {
  return table.order.defined() ? unsqueeze(index_select(states, 0, table.order), 1) : unsqueeze(states, 0);
}

Tensor from_loop_order(const ChunkTable& table, const Tensor& states) {
  return table.rank.defined() ? index_select(squeeze(states, 1), 0, table.rank) : squeeze(states, 0);
}

}  // namespace deltatape::kda

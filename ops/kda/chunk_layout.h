// From tokens to chunks and back: which token stands in which row of which chunk.
#pragma once

#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace deltatape::kda {

/// Throws Error unless `chunk_size` is 16, 32 or 64.
void check_chunk_size(std::string_view function, int64_t chunk_size);

/// The chunks of a call. A chunk starts at the first token of its sequence or a multiple of C after it, and never spans
/// two sequences; rows beyond the end of a sequence are padding.
///
/// Chunks are ordered by their position in their sequences: first the first chunks of all sequences, longest sequence
/// first, then all second chunks, and so on. So the chunks that the state loop visits at one time, and the states they
/// need, are ranges. Without cu_seqlens the batch counts as one sequence of B rows.
struct ChunkTable {
  /// Sequence n is [bounds[n], bounds[n + 1]) of the time axis; {0, T} and `packed` false without cu_seqlens.
  ChunkTable(const std::vector<int64_t>& bounds, bool packed, int64_t chunk_size, Device device);

  int64_t chunk_size = 0;       // C
  int64_t num_chunks = 0;       // NC
  std::vector<int64_t> active;  // chunks at position 0, 1, ...; non-increasing
  Tensor tokens;                // i64 [NC*C], the token of every row, T for padding; cu_seqlens only
  Tensor rows;                  // i64 [T], the row of every token; cu_seqlens only
  Tensor order;                 // i64 [N], sequences by falling number of chunks; cu_seqlens only
  Tensor rank;                  // i64 [N], its inverse
  Tensor in_time;               // i64 [NC], the chunks sequence after sequence, then by position; cu_seqlens only
  Tensor place;                 // i64 [NC], its inverse
};

/// x [B,T,HV,D] as [NC,B,HV,C,D], dense; zeros in padding rows.
Tensor to_chunks(const ChunkTable& table, const Tensor& x);
/// The inverse: [NC,B,HV,C,D] as [B,T,HV,D].
Tensor from_chunks(const ChunkTable& table, const Tensor& x, int64_t steps);

/// What there is once per chunk, x [NC,B,..], as [B,NC,..] in the order of time: sequence after sequence.
Tensor chunks_in_time(const ChunkTable& table, const Tensor& x);
/// The inverse.
Tensor chunks_from_time(const ChunkTable& table, const Tensor& x);

/// States [N,HV,K,V] in the order of the state loop: [N,1,HV,K,V] with cu_seqlens, else [1,B,HV,K,V].
Tensor to_loop_order(const ChunkTable& table, const Tensor& states);
/// The inverse.
Tensor from_loop_order(const ChunkTable& table, const Tensor& states);

}  // namespace deltatape::kda

// The sequences of a call and their chunks as tables in device memory.
#pragma once

#include <cstdint>

#include "backends/kda.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda {

using namespace deltatape::kda;  // the problem and its buffers

/// One sequence. "Rows" are the B * T tokens of a call, row * T + t.
struct SequenceEntry {
  int64_t first_row;
  int64_t length;
  int64_t state_in;          // which initial state it starts from; -1: zeros
  int64_t state_out;         // which final state it ends in; -1: none
  int64_t first_chunk;       // how many chunks the sequences before it have, in the order of the problem
  int64_t first_h;           // how many states in `h`
  int64_t first_checkpoint;  // how many kept states
};

/// One chunk: rows [first_row, first_row + length). The last of a sequence may be shorter than the others.
struct ChunkEntry {
  int64_t first_row;
  int32_t length;
  int32_t sequence;  // index into the table of sequences
};

/// Tables on a device, and what the host knows of them.
struct SequenceTables {
  Tensor sequence_memory;
  Tensor chunk_memory;
  int64_t sequences = 0;
  int64_t chunks = 0;
  int64_t checkpoints = 0;
  int64_t longest = 0;  // tokens

  /// [sequences], longest first, in the problem's order where they are equally long. Null where there are none.
  [[nodiscard]] const SequenceEntry* sequence_entries() const {
    return sequence_memory.defined() ? static_cast<const SequenceEntry*>(sequence_memory.raw()) : nullptr;
  }
  /// [chunks], sequence after sequence in the problem's order. Null where there are none.
  [[nodiscard]] const ChunkEntry* chunk_entries() const {
    return chunk_memory.defined() ? static_cast<const ChunkEntry*>(chunk_memory.raw()) : nullptr;
  }
};

/// The tables of a problem for chunks of `chunk` tokens (0: without chunks), made on `device`'s current stream. The
/// numbers travel as to_device says, and a captured graph may run again at any time.
SequenceTables sequence_tables(const KernelProblem& problem, int64_t chunk, Device device);

/// These numbers in device memory, i64 [count]. Up to 7680 are arguments of kernels. More go as
/// copy_from_host says: nothing waits for the stream but where staging memory runs out.
Tensor to_device(const std::vector<int64_t>& numbers, Device device);

/// Which states of its pool a decode call reads and writes, in device memory.
class SlotTables {
 public:
  SlotTables(const KernelDecode& decode, Device device);
  [[nodiscard]] const int64_t* first_slot() const { return static_cast<const int64_t*>(memory_.raw()); }  // [N]
  [[nodiscard]] const int64_t* slots() const { return first_slot() + sequences_; }                        // [N,m]

 private:
  Tensor memory_;  // both, one behind the other: one transfer
  int64_t sequences_;
};

}  // namespace deltatape::cuda::kda

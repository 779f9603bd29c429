#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/launch.h"

namespace deltatape::cuda::kda {
namespace {

/// Some numbers on their way to device memory.
struct Parcel {
  static constexpr int64_t kNumbers = 480;  // arguments of a kernel may have 4 KB everywhere
  int64_t numbers[kNumbers];
  int64_t* to;
  DT_HD void operator()(int64_t i) const { to[i] = numbers[i]; }
};

constexpr auto kEntryNumbers = static_cast<int64_t>(sizeof(SequenceEntry) / sizeof(int64_t));
static_assert(sizeof(SequenceEntry) == kEntryNumbers * sizeof(int64_t));

/// Finds the sequence of each chunk: one of few sequences, so that looking through them all does not matter.
struct FillChunks {
  const SequenceEntry* sequences;
  int64_t count;
  int64_t chunk;
  ChunkEntry* chunks;

  DT_HD void operator()(int64_t i) const {
    for (int64_t n = 0; n < count; ++n) {
      const SequenceEntry& entry = sequences[n];
      const int64_t start = (i - entry.first_chunk) * chunk;
      if (start >= 0 && start < entry.length) {
        const int64_t left = entry.length - start;
        chunks[i] = {entry.first_row + start, static_cast<int32_t>(left < chunk ? left : chunk),
                     static_cast<int32_t>(n)};
      }
    }
  }
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Tensor to_device(const std::vector<int64_t>& numbers, Device device) {
  const auto count = static_cast<int64_t>(numbers.size());
  Tensor result = empty({count}, {DType::i64, device});
  const Stream stream = current_stream(device);
  for (int64_t first = 0; first < count; first += Parcel::kNumbers) {
    const int64_t part = std::min(Parcel::kNumbers, count - first);
    Parcel parcel{};
    std::copy_n(numbers.begin() + first, part, parcel.numbers);
    parcel.to = static_cast<int64_t*>(result.mutable_raw()) + first;
    launch_elements(stream, part, parcel);
  }
  return result;
}

SlotTables::SlotTables(const KernelDecode& decode, Device device)
    : sequences_(static_cast<int64_t>(decode.first_slot.size())) {
  std::vector<int64_t> numbers = decode.first_slot;
  numbers.insert(numbers.end(), decode.slots.begin(), decode.slots.end());
  memory_ = to_device(numbers, device);
}

SequenceTables sequence_tables(const KernelProblem& problem, int64_t chunk, Device device) {
  SequenceTables tables;
  tables.sequences = static_cast<int64_t>(problem.sequences.size());
  std::vector<SequenceEntry> entries;
  entries.reserve(problem.sequences.size());
  int64_t states_in_h = 0;
  for (const Sequence& sequence : problem.sequences) {
    const int64_t length = sequence.length();
    entries.push_back({.first_row = sequence.row * problem.T + sequence.begin,
                       .length = length,
                       .state_in = sequence.state_in,
                       .state_out = sequence.state_out,
                       .first_chunk = tables.chunks,
                       .first_h = states_in_h,
                       .first_checkpoint = tables.checkpoints});
    tables.chunks += chunk > 0 ? ceil_div(length, chunk) : 0;
    tables.checkpoints += checkpoint_count(length);
    tables.longest = std::max(tables.longest, length);
    states_in_h += ceil_div(length, problem.chunk_size);
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const SequenceEntry& a, const SequenceEntry& b) { return a.length > b.length; });
  std::vector<int64_t> numbers(entries.size() * static_cast<size_t>(kEntryNumbers));
  if (!entries.empty()) {
    std::memcpy(numbers.data(), entries.data(), entries.size() * sizeof(SequenceEntry));
  }
  tables.sequence_memory = to_device(numbers, device);
  if (tables.chunks > 0) {
    constexpr auto kNumbers = static_cast<int64_t>(sizeof(ChunkEntry) / sizeof(int64_t));
    tables.chunk_memory = empty({tables.chunks * kNumbers}, {DType::i64, device});
    launch_elements(current_stream(device), tables.chunks,
                    FillChunks{tables.sequence_entries(), tables.sequences, chunk,
                               static_cast<ChunkEntry*>(tables.chunk_memory.mutable_raw())});
  }
  return tables;
}

}  // namespace deltatape::cuda::kda

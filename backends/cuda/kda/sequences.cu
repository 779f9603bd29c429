#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/staging.h"

namespace deltatape::cuda::kda {
namespace {

/// Some numbers on their way to device memory.
struct Parcel {
  static constexpr int64_t kNumbers = 480;  // arguments of a kernel may have 4 KB everywhere
  int64_t numbers[kNumbers];
  int64_t* to;
  DT_HD void operator()(int64_t i) const { to[i] = numbers[i]; }
};

constexpr int64_t kMostParcels = 16;  // more cost more than a copy by way of pinned memory

constexpr auto kEntryNumbers = static_cast<int64_t>(sizeof(SequenceEntry) / sizeof(int64_t));
static_assert(sizeof(SequenceEntry) == kEntryNumbers * sizeof(int64_t));

/// Where chunks begin, of sequences that have any, in the order of the problem.
struct FirstChunk {
  int64_t chunk;
  int64_t sequence;  // index into the table
};
constexpr auto kFirstNumbers = static_cast<int64_t>(sizeof(FirstChunk) / sizeof(int64_t));

/// Finds the sequence of each chunk by bisection.
struct FillChunks {
  const SequenceEntry* sequences;
  const FirstChunk* firsts;
  int64_t count;  // of firsts
  int64_t chunk;
  ChunkEntry* chunks;

  DT_HD void operator()(int64_t i) const {
    int64_t low = 0;  // firsts[low].chunk <= i < firsts[high].chunk
    int64_t high = count;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (firsts[middle].chunk <= i ? low : high) = middle;
    }
    const int64_t n = firsts[low].sequence;
    const SequenceEntry& entry = sequences[n];
    const int64_t start = (i - entry.first_chunk) * chunk;
    const int64_t left = entry.length - start;
    chunks[i] = {entry.first_row + start, static_cast<int32_t>(left < chunk ? left : chunk), static_cast<int32_t>(n)};
  }
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Tensor to_device(const std::vector<int64_t>& numbers, Device device) {
  const auto count = static_cast<int64_t>(numbers.size());
  Tensor result = empty({count}, {DType::i64, device});
  if (count > kMostParcels * Parcel::kNumbers) {
    copy_from_host(result.mutable_raw(), numbers.data(), numbers.size() * sizeof(int64_t), device);
    return result;
  }
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
  std::vector<FirstChunk> firsts;
  for (size_t n = 0; n < entries.size() && chunk > 0; ++n) {
    if (entries[n].length > 0) {
      firsts.push_back({.chunk = entries[n].first_chunk, .sequence = static_cast<int64_t>(n)});
    }
  }
  std::sort(firsts.begin(), firsts.end(), [](const FirstChunk& a, const FirstChunk& b) { return a.chunk < b.chunk; });
  const auto entry_numbers = static_cast<int64_t>(entries.size()) * kEntryNumbers;
  const auto first_count = static_cast<int64_t>(firsts.size());
  std::vector<int64_t> numbers(static_cast<size_t>(entry_numbers + first_count * kFirstNumbers));
  if (!entries.empty()) {
    std::memcpy(numbers.data(), entries.data(), entries.size() * sizeof(SequenceEntry));
  }
  if (!firsts.empty()) {
    std::memcpy(numbers.data() + entry_numbers, firsts.data(), firsts.size() * sizeof(FirstChunk));
  }
  tables.sequence_memory = to_device(numbers, device);
  if (tables.chunks > 0) {
    constexpr auto kNumbers = static_cast<int64_t>(sizeof(ChunkEntry) / sizeof(int64_t));
    tables.chunk_memory = empty({tables.chunks * kNumbers}, {DType::i64, device});
    launch_elements(current_stream(device), tables.chunks,
                    FillChunks{.sequences = tables.sequence_entries(),
                               .firsts = reinterpret_cast<const FirstChunk*>(
                                   static_cast<const int64_t*>(tables.sequence_memory.raw()) + entry_numbers),
                               .count = first_count,
                               .chunk = chunk,
                               .chunks = static_cast<ChunkEntry*>(tables.chunk_memory.mutable_raw())});
  }
  return tables;
}

}  // namespace deltatape::cuda::kda

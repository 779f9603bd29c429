#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/operands.h"
#include "backends/cuda/kda/v1/scan_plan.h"
#include "backends/cuda/kda/v1/segment_kernels.h"
#include "backends/cuda/kda/v1/segments.h"

namespace deltatape::cuda::kda::v1 {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Segments::Segments(const KernelProblem& problem, const SegmentPlan& plan, int C, bool backward, Device device)
    : plan_(plan), C_(C), K_(static_cast<int>(problem.K)) {
  std::vector<SequenceEntry> segments;
  std::vector<SequenceEntry> ends;
  std::vector<SequenceEntry> maps;
  std::vector<SequenceEntry> gradients;
  std::vector<SequenceEntry> starts;
  std::vector<SegmentChain> chains;
  int64_t first_chunk = 0;
  int64_t first_h = 0;
  int64_t state = 0;  // what the next segment starts with; numbers go to those that are given any
  int64_t end = 0;    // the gradient of what it ends with, likewise
  int64_t map = 0;
  for (const Sequence& sequence : problem.sequences) {
    const int64_t length = sequence.length();
    const int64_t parts = parts_of_sequence(ceil_div(length, C), plan.chunks);
    int64_t before = -1;  // the end of the segment before
    if (parts > 1) {
      chains.push_back({.first_state = state + (sequence.state_in >= 0 ? 1 : 0),
                        .first_end = end,
                        .maps = parts - 2,
                        .first_map = map});
    }
    for (int64_t part = 0; part < parts; ++part) {
      const bool first = part == 0;
      const bool last = part == parts - 1;
      const int64_t begin = part * plan.chunks * C;
      SequenceEntry entry{.first_row = sequence.row * problem.T + sequence.begin + begin,
                          .length = last ? length - begin : plan.chunks * C,
                          .state_in = -1,
                          .state_out = -1,
                          .first_chunk = first_chunk + begin / C,
                          .first_h = first_h + begin / problem.chunk_size,
                          .first_checkpoint = 0};
      const auto add = [&](std::vector<SequenceEntry>& to, int64_t in, int64_t out, int64_t tokens) {
        SequenceEntry added = entry;
        added.state_in = in;
        added.state_out = out;
        added.length = tokens;
        to.push_back(added);
      };
      const int64_t given = first ? sequence.state_in : -1;
      const int64_t wanted = last ? sequence.state_out : -1;
      const int64_t begins_with = !first || given >= 0 ? state++ : -1;
      const int64_t ends_with = !last || wanted >= 0 ? end++ : -1;
      add(segments, begins_with, wanted, entry.length);
      add(gradients, given, ends_with, entry.length);
      if (!last) {
        add(ends, given, state, entry.length);
      }
      if (!first) {
        add(starts, before, wanted, entry.length);
      }
      before = ends_with;
      if (!first && !last) {
        add(maps, -1, map++, entry.length);
      }
      // Without tokens a scan copies: what sequences are given comes to stand beside what segments find.
      if (given >= 0) {
        add(ends, given, begins_with, 0);
      }
      if (wanted >= 0) {
        add(starts, ends_with, wanted, 0);
      }
    }
    first_chunk += ceil_div(length, C);
    first_h += ceil_div(length, problem.chunk_size);
  }

  std::vector<int64_t> numbers;
  const auto append = [&](const auto& items) {
    using Item = typename std::decay_t<decltype(items)>::value_type;
    static_assert(std::is_trivially_copyable_v<Item> && sizeof(Item) % sizeof(int64_t) == 0);
    const Table table{.first = static_cast<int64_t>(numbers.size()), .count = static_cast<int64_t>(items.size())};
    numbers.resize(numbers.size() + items.size() * (sizeof(Item) / sizeof(int64_t)));
    if (!items.empty()) {
      std::memcpy(numbers.data() + table.first, items.data(), items.size() * sizeof(Item));
    }
    return table;
  };
  const auto longest_first = [&](std::vector<SequenceEntry>& entries) {
    std::stable_sort(entries.begin(), entries.end(),
                     [](const SequenceEntry& a, const SequenceEntry& b) { return a.length > b.length; });
    return append(entries);
  };
  segments_ = longest_first(segments);
  ends_ = longest_first(ends);
  maps_ = longest_first(maps);
  if (backward) {
    gradients_ = longest_first(gradients);
    starts_ = longest_first(starts);
  }
  chains_ = append(chains);
  numbers_ = to_device(numbers, device);
  const auto states = [&](int64_t count) {
    return empty({count, problem.HV, problem.K, problem.V}, {DType::f32, device});
  };
  map_memory_ = empty({plan.maps, problem.HV, problem.K, problem.K}, {DType::f32, device});
  states_ = states(plan.states);
  d_states_ = backward ? states(plan.ends) : Tensor();
}

const SequenceEntry* Segments::entries(const Table& table) const {
  return reinterpret_cast<const SequenceEntry*>(static_cast<const int64_t*>(numbers_.raw()) + table.first);
}

void Segments::launch(const Stream& stream, const ScanArguments& scan, const ReverseArguments* reverse) const {
  const int warps = plan_.scan.warps;
  const auto blocks = [&](const Table& table, int slices) {
    return table.count * scan.heads * slices;  // in 64 bits: the launch refuses what a grid cannot have
  };
  SegmentArguments p;
  p.ends = scan;
  p.ends.o = nullptr;
  p.ends.h = nullptr;
  p.ends.sequences = entries(ends_);
  p.ends.final_state = mutable_data_of<float>(states_);
  p.ends.slices = scan.V / kRowsOfWarp / warps;
  p.ends.stages = plan_.scan.stages;
  p.maps = p.ends;
  p.maps.v = nullptr;
  p.maps.V = K_;
  p.maps.sequences = entries(maps_);
  p.maps.final_state = mutable_data_of<float>(map_memory_);
  p.maps.slices = K_ / kRowsOfWarp / warps;
  p.maps.v_first = false;
  const int64_t end_blocks = blocks(ends_, p.ends.slices);
  const int64_t map_blocks = blocks(maps_, p.maps.slices);
  p.end_blocks = static_cast<int>(end_blocks);
  p.map_blocks = static_cast<int>(map_blocks);
  int64_t all = end_blocks + map_blocks;
  if (reverse != nullptr) {
    p.starts = *reverse;
    p.starts.sequences = entries(starts_);
    p.starts.d_initial_state = mutable_data_of<float>(d_states_);
    p.starts.slices = p.ends.slices;
    p.starts.stages = plan_.scan.stages;
    all += blocks(starts_, p.starts.slices);
  }
  launch_segment_scans(stream, C_, K_, warps, all, p);

  MergeArguments merge;
  merge.chains = reinterpret_cast<const SegmentChain*>(static_cast<const int64_t*>(numbers_.raw()) + chains_.first);
  merge.maps = p.maps.final_state;
  merge.states = p.ends.final_state;
  merge.gradients = p.starts.d_initial_state;
  merge.count = static_cast<int>(chains_.count);
  merge.HV = scan.HV;
  merge.V = scan.V;
  merge.first_head = scan.first_head;
  merge.heads = scan.heads;
  merge.v_first = scan.v_first;
  launch_merge(stream, K_, merge);
}

void Segments::use(ScanArguments& scan) const {
  scan.sequences = entries(segments_);
  scan.initial_state = data_of<float>(states_);
}
void Segments::use(ReverseArguments& reverse) const {
  reverse.sequences = entries(gradients_);
  reverse.d_final_state = data_of<float>(d_states_);
}

void launch_segment_scans(const Stream& stream, int C, int K, int warps, int64_t blocks, const SegmentArguments& p) {
  const tile::WarpLaunch size{Grid{blocks}, warps, scan_shared_bytes(C, K, warps, p.ends.stages)};
  with_channels(K, [&]<int kChannels>() {
    C == 64 ? launch_segment_scans_of<64, kChannels>(stream, size, p)
            : launch_segment_scans_of<32, kChannels>(stream, size, p);
  });
}

void launch_merge(const Stream& stream, int K, const MergeArguments& p) {
  const int64_t directions = p.gradients != nullptr ? 2 : 1;
  const Grid grid{directions * p.count * p.heads * (p.V / kRowsOfWarp)};
  with_channels(K, [&]<int kChannels>() { launch_merge_of<kChannels>(stream, grid, p); });
}

}  // namespace deltatape::cuda::kda::v1

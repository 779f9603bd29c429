#include "backends/cuda/kda/v1/segment_plan.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace deltatape::cuda::kda::v1 {
namespace {

constexpr int64_t kFewestChunks = 16;      // of a segment
constexpr int64_t kMostParts = 64;         // of a sequence
constexpr double kLeastGain = 1.5;         // of the scans' time
constexpr double kMergeCycles = 3000.0;    // of one product of SegmentMerge
constexpr double kLaunchCycles = 10000.0;  // of two more launches
constexpr double kShareOfMaps = 0.6;       // of a chunk's operands: neither qg nor Aqk

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Lengths {
  std::vector<int64_t> chunks;  // of each sequence
  int64_t total = 0;
  int64_t longest = 0;
};
Lengths lengths_of(const KernelProblem& problem, int C) {
  Lengths lengths;
  for (const Sequence& sequence : problem.sequences) {
    lengths.chunks.push_back(ceil_div(sequence.length(), C));
    lengths.total += lengths.chunks.back();
    lengths.longest = std::max(lengths.longest, lengths.chunks.back());
  }
  return lengths;
}

/// Sizes of the scans that find what segments do, in states of `width` columns.
struct MapWork {
  int64_t width;
  int64_t states;
  double operands;
};
MapWork map_work(const KernelProblem& problem, const SegmentPlan& plan, bool backward) {
  const int64_t width = std::gcd(problem.V, problem.K);
  const int64_t ends = problem.HV * (plan.segments - static_cast<int64_t>(problem.sequences.size())) * problem.V;
  const int64_t maps = problem.HV * plan.maps * problem.K;
  const int64_t starts = backward ? ends : 0;
  const int64_t all = ends + maps + starts;
  const double operands = all > 0 ? (kShareOfMaps * static_cast<double>(ends + maps) + static_cast<double>(starts)) /
                                        static_cast<double>(all)
                                  : 1.0;
  return {.width = width, .states = all / width, .operands = operands};
}

SegmentPlan cut_into(const KernelProblem& problem, const Lengths& lengths, int64_t chunks, int C, bool backward,
                     const DeviceProperties& device) {
  SegmentPlan plan;
  plan.chunks = chunks;
  for (size_t n = 0; n < problem.sequences.size(); ++n) {
    const int64_t parts = parts_of_sequence(lengths.chunks[n], chunks);
    plan.segments += parts;
    plan.states += parts - (problem.sequences[n].state_in >= 0 ? 0 : 1);
    plan.ends += parts - (problem.sequences[n].state_out >= 0 ? 0 : 1);
    plan.chains += parts > 1 ? 1 : 0;
    plan.maps += parts > 1 ? parts - 2 : 0;
  }
  if (!plan.cut()) {
    plan.chunks = 0;
    return plan;
  }
  const MapWork work = map_work(problem, plan, backward);
  plan.scan = plan_scan(work.width, C, static_cast<int>(problem.K), work.states, device);
  return plan;
}

/// Predicted cycles of all scans of a call.
double predicted_cycles(const KernelProblem& problem, const Lengths& lengths, const SegmentPlan& plan, int C,
                        bool backward, const DeviceProperties& device) {
  const auto K = static_cast<int>(problem.K);
  const int64_t states = (backward ? 2 : 1) * problem.HV * plan.segments;
  int64_t longest = 0;
  int64_t most_parts = 1;
  for (const int64_t sequence : lengths.chunks) {
    const int64_t parts = parts_of_sequence(sequence, plan.chunks);
    longest = std::max(longest, parts > 1 ? plan.chunks : sequence);
    most_parts = std::max(most_parts, parts);
  }
  const double mean = static_cast<double>(lengths.total) / static_cast<double>(plan.segments);
  double cycles = scan_cycles(plan_scan(problem.V, C, K, states, device), C, K, states, static_cast<double>(longest),
                              mean, 1.0, device);
  if (plan.cut()) {
    const MapWork work = map_work(problem, plan, backward);
    const auto length = static_cast<double>(plan.chunks);
    cycles += scan_cycles(plan.scan, C, K, work.states, length, length, work.operands, device);
    cycles += kLaunchCycles + kMergeCycles * static_cast<double>(most_parts - 2);
  }
  return cycles;
}

}  // namespace

SegmentPlan plan_segments(const KernelProblem& problem, int C, bool backward, const DeviceProperties& device,
                          int64_t room, std::optional<int64_t> chunks) {
  const Lengths lengths = lengths_of(problem, C);
  const auto cut = [&](int64_t length) { return cut_into(problem, lengths, length, C, backward, device); };
  const int64_t of_h = std::max<int64_t>(1, problem.chunk_size / C);
  if (chunks) {
    check(*chunks >= 0 && *chunks % of_h == 0, "kda::v1", "segments of {} chunks, expected a multiple of {}", *chunks,
          of_h);
    return cut(*chunks);
  }
  SegmentPlan best = cut(0);
  if (lengths.longest < 3 * kFewestChunks) {
    return best;
  }
  const auto cycles = [&](const SegmentPlan& plan) {
    return predicted_cycles(problem, lengths, plan, C, backward, device);
  };
  const double whole = cycles(best);
  int64_t last = 0;
  const int64_t most = std::min(kMostParts, lengths.longest / kFewestChunks);
  for (int64_t parts = 3; parts <= most; ++parts) {
    const int64_t length = ceil_div(ceil_div(lengths.longest, parts), of_h) * of_h;
    if (length == last) {
      continue;
    }
    last = length;
    SegmentPlan plan = cut(length);
    plan.gain = whole / cycles(plan);
    const bool fits = segment_bytes(problem, plan, backward) <= room;
    if (plan.cut() && fits && plan.gain >= kLeastGain && plan.gain > best.gain) {
      best = plan;
    }
  }
  return best;
}

KernelProblem with_states(KernelProblem problem, bool given, bool wanted) {
  for (Sequence& sequence : problem.sequences) {
    sequence.state_in = given ? sequence.state_in : -1;
    sequence.state_out = wanted ? sequence.state_out : -1;
  }
  return problem;
}

int64_t segment_bytes(const KernelProblem& problem, const SegmentPlan& plan, bool backward) {
  if (!plan.cut()) {
    return 0;
  }
  const int64_t states = plan.states + (backward ? plan.ends : 0);
  return 4 * problem.HV * (states * problem.K * problem.V + plan.maps * problem.K * problem.K);
}

}  // namespace deltatape::cuda::kda::v1

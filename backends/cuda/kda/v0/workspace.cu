#include <algorithm>
#include <bit>

#include "backends/cuda/kda/v0/decode.h"
#include "backends/cuda/kda/v0/epilogue.h"
#include "backends/cuda/kda/v0/workspace.h"

namespace deltatape::cuda::kda::v0 {
namespace {

constexpr int kWidest = 32;        // columns of a block
constexpr int kMostParts = 16;     // threads per column
constexpr int kMostSteps = 8;      // tokens read at a time
constexpr int64_t kWorkers = 528;  // blocks of backward: four on each of 132 multiprocessors
/// What a block has without asking for more.
constexpr int64_t kSharedBytes = (int64_t{48} << 10) - Block<kThreads>::kScratch;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T, template <class> class Body>
bool fits(const Call& call, Split& split, int width, int steps) {
  split.width = width;
  split.parts = static_cast<int>(std::min<int64_t>({kThreads / width, kMostParts, call.K}));
  split.part_rows = static_cast<int>(ceil_div(call.K, split.parts));
  split.slices = static_cast<int>(ceil_div(call.V, width));
  split.steps = steps;
  split.shared = Body<T>::bytes(call, split);
  return split.shared <= kSharedBytes;
}

/// The most groups of heads whose working memory, count(call), is within the limit; in launches of about one size.
template <class Count>
Cut most_groups(Call call, int64_t limit, const Count& count) {
  Cut cut;
  int64_t groups = call.H;
  for (;; --groups) {
    call.heads = groups * call.group;
    cut.bytes = count(call, cut.workers);
    if (groups <= 1 || cut.bytes <= limit) {
      break;
    }
  }
  if (groups > 0) {
    groups = ceil_div(call.H, ceil_div(call.H, groups));
    call.heads = groups * call.group;
    cut.bytes = count(call, cut.workers);
  }
  cut.heads = call.heads;
  return cut;
}

}  // namespace

Extent::Extent(const KernelProblem& problem) : sequences(static_cast<int64_t>(problem.sequences.size())) {
  for (const Sequence& sequence : problem.sequences) {
    checkpoints += checkpoint_count(sequence.length());
    longest = std::max(longest, sequence.length());
  }
}

template <class T>
Operands<T> take_operands(Workspace& workspace, const Call& call) {
  const int64_t keys = call.rows * call.key_heads();
  const int64_t values = call.rows * call.heads;
  Operands<T> x;
  x.q = workspace.take<T>(keys * call.K);
  x.k = workspace.take<T>(keys * call.K);
  x.q_norm = workspace.take<T>(keys);
  x.k_norm = workspace.take<T>(keys);
  x.decay = workspace.take<T>(values * call.K);
  x.beta = workspace.take<T>(values);
  return x;
}

template <class T>
BackwardArrays<T>::BackwardArrays(Workspace& workspace, const Call& call, const Split& split, const Extent& extent,
                                  const Wanted& wanted, int64_t workers)
    : x(take_operands<T>(workspace, call)) {
  if (wanted.recompute) {
    checkpoints = {workspace.take<T>(extent.checkpoints * call.heads * call.K * call.V), call.heads, 0};
  }
  const int64_t rows = split.slices * call.rows * call.heads;
  sums.dq = wanted.q ? workspace.take<T>(rows * call.K) : nullptr;
  sums.dk = wanted.k ? workspace.take<T>(rows * call.K) : nullptr;
  sums.dg = wanted.log_decay ? workspace.take<T>(rows * call.K) : nullptr;
  sums.dbeta = wanted.beta ? workspace.take<T>(rows) : nullptr;
  const int64_t gate_sums = ceil_div(call.rows, kSumRows) * call.heads * call.K;
  A_log_sums = wanted.A_log ? workspace.take<double>(gate_sums) : nullptr;
  dt_bias_sums = wanted.dt_bias ? workspace.take<double>(gate_sums) : nullptr;
  states = workspace.take<T>(workers * (extent.window() + 1) * call.K * split.width);
  errors = workspace.take<T>(workers * extent.window() * split.width);
}

template <class T, template <class> class Body>
Split split_of(std::string_view function, const Call& call) {
  Split split;
  const auto widest = static_cast<int>(std::min<uint64_t>(kWidest, std::bit_ceil(static_cast<uint64_t>(call.V))));
  for (int least_steps : {2, 1}) {
    for (int width = widest; width >= 1; width /= 2) {
      for (int steps = kMostSteps; steps >= least_steps; --steps) {
        if (fits<T, Body>(call, split, width, steps)) {
          return split;
        }
      }
    }
  }
  fail(function, "K is {}, expected a head that fits in a block's {} bytes of shared memory on CUDA", call.K,
       kSharedBytes);
}

template <class T>
Cut cut_forward(const Call& call, int64_t limit) {
  return most_groups(call, limit, [](const Call& part, int64_t& /*workers*/) {
    Workspace counted;
    take_operands<T>(counted, part);
    return counted.bytes();
  });
}

template <class T>
Cut cut_backward(const Call& call, const Split& split, const Extent& extent, const Wanted& wanted, int64_t limit) {
  return most_groups(call, limit, [&](const Call& part, int64_t& workers) {
    const int64_t of_one =
        ((extent.window() + 1) * part.K + extent.window()) * split.width * static_cast<int64_t>(sizeof(T));
    const int64_t tasks = extent.sequences * split.slices * part.heads;
    workers = std::max<int64_t>(1, std::min({tasks, kWorkers, limit / 4 / of_one}));
    Workspace counted;
    const BackwardArrays<T> arrays(counted, part, split, extent, wanted, workers);
    return counted.bytes();
  });
}

std::string_view function_name(const KernelProblem& problem) {
  return problem.form == Form::chunk ? "kda::fused_chunk" : "kda::fused_recurrent";
}

template Operands<float> take_operands<float>(Workspace&, const Call&);
template Operands<double> take_operands<double>(Workspace&, const Call&);
template struct BackwardArrays<float>;
template struct BackwardArrays<double>;
template Split split_of<float, Forward>(std::string_view, const Call&);
template Split split_of<double, Forward>(std::string_view, const Call&);
template Split split_of<float, Backward>(std::string_view, const Call&);
template Split split_of<double, Backward>(std::string_view, const Call&);
template Split split_of<float, Decode>(std::string_view, const Call&);
template Split split_of<double, Decode>(std::string_view, const Call&);
template Cut cut_forward<float>(const Call&, int64_t);
template Cut cut_forward<double>(const Call&, int64_t);
template Cut cut_backward<float>(const Call&, const Split&, const Extent&, const Wanted&, int64_t);
template Cut cut_backward<double>(const Call&, const Split&, const Extent&, const Wanted&, int64_t);

}  // namespace deltatape::cuda::kda::v0

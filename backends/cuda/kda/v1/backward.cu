#include <algorithm>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/backward_finish.h"
#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/operands.h"
#include "backends/cuda/kda/v1/scan_plan.h"
#include "backends/cuda/kda/v1/segments.h"
#include "backends/cuda/runtime/device.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v1 {

void launch_both_scans(const Stream& stream, int C, int K, int warps, BothScansArguments p, int64_t pairs) {
  const int64_t blocks = pairs * p.forward.slices;  // the launch refuses what a grid cannot have
  p.forward_blocks = static_cast<int>(blocks);
  const tile::WarpLaunch size{Grid{2 * blocks}, warps, scan_shared_bytes(C, K, warps, p.forward.stages)};
  with_channels(K, [&]<int kChannels>() {
    C == 64 ? launch_both_scans_of<64, kChannels>(stream, size, p)
            : launch_both_scans_of<32, kChannels>(stream, size, p);
  });
}

void launch_main(const Stream& stream, int C, int K, int V, const MainArguments& p, int64_t chunks) {
  with_channels(K, [&]<int kChannels>() {
    C == 64 ? launch_main_of<64, kChannels>(stream, V, p, chunks) : launch_main_of<32, kChannels>(stream, V, p, chunks);
  });
}

int main_shared_bytes(int C, int K, int V) {
  int bytes = 0;
  with_channels(K, [&]<int kChannels>() {
    if (V == 64) {
      bytes = C == 64 ? BackwardMain<64, kChannels, 64>::kSharedBytes : BackwardMain<32, kChannels, 64>::kSharedBytes;
    } else {
      bytes = C == 64 ? BackwardMain<64, kChannels, 128>::kSharedBytes : BackwardMain<32, kChannels, 128>::kSharedBytes;
    }
  });
  return bytes;
}

namespace {

constexpr double kWeakestForCentred = -5.0;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Whether B3 takes chunks of C tokens. For 64 tokens of 128 channels registers suffice from sm_90 on.
bool main_fits(const KernelProblem& problem, int C, Device device) {
  if (C == 64 && problem.K == 128 && device_properties(device).major < 9) {
    return false;
  }
  const int bytes = main_shared_bytes(C, static_cast<int>(problem.K), static_cast<int>(problem.V));
  return static_cast<size_t>(bytes) <= device_properties(device).shared_per_block;
}

/// Bytes of working memory of one value head.
int64_t bytes_of_head(const KernelProblem& problem, const BackwardPlan& plan, bool saved) {
  const int64_t K = problem.K;
  const int64_t V = problem.V;
  const int64_t of_chunk = record_bytes(plan.C, static_cast<int>(K)) + (saved ? 0 : solved_bytes(plan.C)) +
                           2 * K * V * 2 + 2 * K * 4;                           // h and dS, shares of the gate's sums
  const int64_t of_row = 2 * V * 2 + (problem.HV > problem.H ? 2 * K * 4 : 0);  // v_new and dv2, shares of dq and dk
  return plan.chunks * of_chunk + problem.B * problem.T * of_row;
}

/// A gradient's own memory where it has this dtype, otherwise memory that `deliver` copies to it.
class Target {
 public:
  Target(const Tensor& wanted, DType dtype) : wanted_(wanted) {
    if (wanted.defined()) {
      const bool as_it_is = wanted.dtype() == dtype && reinterpret_cast<uintptr_t>(wanted.raw()) % 16 == 0;
      memory_ = as_it_is ? wanted : empty(wanted.shape(), {dtype, wanted.device()});
    }
  }
  template <class T>
  [[nodiscard]] T* data() const {
    return mutable_data_of<T>(memory_);
  }
  [[nodiscard]] bool wanted() const { return wanted_.defined(); }
  void deliver() const {
    if (wanted_.defined() && memory_.raw() != wanted_.raw()) {
      backend_of(memory_).copy(memory_, wanted_);
    }
  }

 private:
  Tensor wanted_;
  Tensor memory_;
};

}  // namespace

std::string why_not_backward(const KernelProblem& problem, DType dtype, Device device) {
  if (std::string reason = why_not(problem, dtype, device); !reason.empty()) {
    return reason;
  }
  if (problem.V != 64 && problem.V != 128) {
    return fmt::format("V is {} and v1's backward takes 64 and 128", problem.V);
  }
  if (!main_fits(problem, 32, device)) {
    return fmt::format("v1's backward takes {} bytes of shared memory and the device has {}",
                       main_shared_bytes(32, static_cast<int>(problem.K), static_cast<int>(problem.V)),
                       device_properties(device).shared_per_block);
  }
  return {};
}

BackwardPlan plan_backward(const KernelProblem& problem, Device device, bool saved,
                           std::optional<int64_t> segment_chunks) {
  BackwardPlan plan;
  const int of_forward = chunk_length(problem, device);
  plan.C = main_fits(problem, of_forward, device) ? of_forward : 32;
  plan.takes_saved = saved && plan.C == of_forward;
  plan.chunks = chunk_count(problem, plan.C);
  plan.centred = problem.gate == Gate::lower_bound && problem.lower_bound >= kWeakestForCentred;
  const int64_t group = std::max<int64_t>(1, problem.HV / std::max<int64_t>(1, problem.H));
  const int64_t of_head = bytes_of_head(problem, plan, plan.takes_saved);
  const int64_t groups = std::max<int64_t>(1, problem.HV / group);
  const int64_t room = problem.workspace_limit - of_head * group;  // one group of heads at a time at least
  plan.segments = plan_segments(problem, plan.C, true, device_properties(device), room, segment_chunks);
  const int64_t of_segments = segment_bytes(problem, plan.segments, true);
  const int64_t fit = of_head > 0 ? (problem.workspace_limit - of_segments) / (of_head * group) : groups;
  const int64_t launches = ceil_div(groups, std::clamp<int64_t>(fit, 1, groups));
  plan.heads = ceil_div(groups, launches) * group;
  plan.bytes = of_head * plan.heads + of_segments;
  const auto K = static_cast<int>(problem.K);
  const int64_t states = 2 * plan.segments.segments * plan.heads;  // of S and of dS
  const ScanPlan scan = plan_scan(problem.V, plan.C, K, states, device_properties(device));
  plan.warps = scan.warps;
  plan.slices = scan.slices;
  plan.stages = scan.stages;
  return plan;
}

void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients) {
  backward_with({}, problem, inputs, upstream, gradients);
}

void backward_with(const BackwardKernels& kernels, const KernelProblem& asked, const KernelInputs& inputs,
                   const KernelUpstream& upstream, const KernelGradients& gradients,
                   std::optional<int64_t> segment_chunks) {
  const bool given = inputs.initial_state.defined() || gradients.d_initial_state.defined();
  const KernelProblem problem = with_states(asked, given, upstream.d_final_state.defined());
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const BackwardPlan plan = plan_backward(problem, device, upstream.saved.defined(), segment_chunks);
  const SequenceTables tables = sequence_tables(problem, plan.C, device);
  const PrepOperands operands(inputs);
  const Tensor g = as_operand(inputs.g, DType::bf16);
  const Tensor beta = as_operand(inputs.beta, DType::bf16);
  const Tensor v = as_operand(inputs.v, DType::bf16);
  const Tensor d_o = as_operand(upstream.d_o, DType::bf16);
  const Tensor initial_state = as_operand(inputs.initial_state, DType::f32);
  const Tensor d_final_state = as_operand(upstream.d_final_state, DType::f32);
  const Tensor saved = plan.takes_saved ? as_operand(upstream.saved, DType::bf16) : Tensor();

  const auto C = plan.C;
  const auto K = static_cast<int>(problem.K);
  const auto V = static_cast<int>(problem.V);
  const int64_t rows = problem.B * problem.T;
  const int group = static_cast<int>(std::max<int64_t>(1, problem.HV / std::max<int64_t>(1, problem.H)));
  const auto memory = [&](int64_t elements, DType dtype) { return empty({elements}, {dtype, device}); };
  const int64_t pairs = plan.chunks * plan.heads;
  const Tensor records = memory(pairs * record_bytes(C, K) / 4, DType::i32);
  const Tensor solved = plan.takes_saved ? saved : memory(pairs * C * C, DType::bf16);
  const Tensor h = memory(pairs * K * V, DType::bf16);
  const Tensor dS = memory(pairs * K * V, DType::bf16);
  const Tensor v_new = memory(rows * plan.heads * V, DType::bf16);
  const Tensor dv2 = memory(rows * plan.heads * V, DType::bf16);

  const Target dq(gradients.dq, DType::bf16);
  const Target dk(gradients.dk, DType::bf16);
  const Target dv(gradients.dv, DType::bf16);
  const Target dg(gradients.dg, DType::bf16);
  const Target dbeta(gradients.dbeta, DType::bf16);
  const Target dA_log(gradients.dA_log, DType::f32);
  const Target ddt_bias(gradients.ddt_bias, DType::f32);
  const Target d_initial_state(gradients.d_initial_state, DType::f32);
  const bool gate_sums = dA_log.wanted() || ddt_bias.wanted();
  const bool parts = group > 1;
  const Tensor shares = gate_sums ? memory(pairs * 2 * K, DType::f32) : Tensor();
  const Tensor dq_parts = parts && dq.wanted() ? memory(rows * plan.heads * K, DType::f32) : Tensor();
  const Tensor dk_parts = parts && dk.wanted() ? memory(rows * plan.heads * K, DType::f32) : Tensor();

  PrepArguments prep = operands.arguments(problem);
  prep.chunks = tables.chunk_entries();
  prep.records = static_cast<unsigned char*>(records.mutable_raw());
  prep.A = static_cast<BFloat16*>(solved.mutable_raw());

  BothScansArguments scans;
  scans.forward.records = scans.reverse.records = prep.records;
  scans.forward.A = prep.A;
  scans.forward.v = data_of<BFloat16>(v);
  scans.forward.sequences = scans.reverse.sequences = tables.sequence_entries();
  scans.forward.initial_state = data_of<float>(initial_state);
  scans.forward.h_bf16 = mutable_data_of<BFloat16>(h);
  scans.forward.v_new = mutable_data_of<BFloat16>(v_new);
  scans.forward.HV = scans.reverse.HV = prep.HV;
  scans.forward.V = scans.reverse.V = V;
  scans.forward.slices = scans.reverse.slices = plan.slices;
  scans.forward.stages = scans.reverse.stages = plan.stages;
  scans.forward.v_first = scans.reverse.v_first = problem.state_v_first;
  scans.reverse.d_o = data_of<BFloat16>(d_o);
  scans.reverse.d_final_state = data_of<float>(d_final_state);
  scans.reverse.d_initial_state = d_initial_state.data<float>();
  scans.reverse.dS = mutable_data_of<BFloat16>(dS);
  scans.reverse.dv2 = mutable_data_of<BFloat16>(dv2);

  MainArguments main;
  main.chunks = tables.chunk_entries();
  main.H = prep.H;
  main.HV = prep.HV;
  main.q = prep.q;
  main.k = prep.k;
  main.v = scans.forward.v;
  main.g = data_of<BFloat16>(g);
  main.beta = data_of<BFloat16>(beta);
  main.d_o = scans.reverse.d_o;
  main.A_log = prep.A_log;
  main.dt_bias = prep.dt_bias;
  main.A = prep.A;
  main.h = scans.forward.h_bf16;
  main.dS = scans.reverse.dS;
  main.v_new = scans.forward.v_new;
  main.dv2 = scans.reverse.dv2;
  main.scale = prep.scale;
  main.gate = problem.gate;
  main.lower_bound = prep.lower_bound;
  main.l2norm = problem.l2norm;
  main.beta_sigmoid = problem.beta_sigmoid;
  main.beta_factor = prep.beta_factor;
  main.dq = parts ? nullptr : dq.data<BFloat16>();
  main.dk = parts ? nullptr : dk.data<BFloat16>();
  main.dv = dv.data<BFloat16>();
  main.dg = dg.data<BFloat16>();
  main.dbeta = dbeta.data<BFloat16>();
  main.dq_parts = mutable_data_of<float>(dq_parts);
  main.dk_parts = mutable_data_of<float>(dk_parts);
  main.gate_sums = mutable_data_of<float>(shares);

  GateSumArguments of_gate;
  of_gate.shares = main.gate_sums;
  of_gate.ddt_bias = ddt_bias.data<float>();
  of_gate.dA_log = dA_log.data<float>();
  of_gate.chunks = plan.chunks;
  of_gate.K = K;

  std::optional<Segments> segments;
  if (plan.segments.cut()) {
    segments.emplace(problem, plan.segments, C, true, device);
  }
  for (int64_t first = 0; first < problem.HV; first += plan.heads) {
    const auto heads = static_cast<int>(std::min(plan.heads, problem.HV - first));
    const auto first_head = static_cast<int>(first);
    prep.first_head = scans.forward.first_head = scans.reverse.first_head = main.first_head = first_head;
    prep.heads = scans.forward.heads = scans.reverse.heads = main.heads = heads;
    prep.A_heads = scans.forward.A_heads = main.A_heads = plan.takes_saved ? prep.HV : heads;
    prep.A_first = scans.forward.A_first = main.A_first = plan.takes_saved ? first_head : 0;
    kernels.prep(stream, {.C = C, .K = K, .centred = plan.centred, .solve = !plan.takes_saved}, prep, plan.chunks);
    BothScansArguments of_launch = scans;
    if (segments) {
      segments->launch(stream, scans.forward, &scans.reverse);
      segments->use(of_launch.forward);
      segments->use(of_launch.reverse);
    }
    kernels.both_scans(stream, C, K, plan.warps, of_launch, plan.segments.segments * heads);
    launch_main(stream, C, K, V, main, plan.chunks);
    if (gate_sums) {
      of_gate.first_head = first_head;
      of_gate.heads = heads;
      tile::launch_warps<GateSums>(stream, Grid{heads}, of_gate);
    }
    const auto sum_heads = [&](const Target& target, const float* from, const BFloat16* x) {
      if (from == nullptr || rows == 0) {
        return;
      }
      HeadSumArguments sums;
      sums.parts = from;
      sums.x = x;
      sums.dx = target.data<BFloat16>();
      sums.rows = rows;
      sums.H = prep.H;
      sums.first_head = first_head / group;
      sums.heads = heads;
      sums.group = group;
      sums.l2norm = problem.l2norm;
      with_channels(K, [&]<int kChannels>() {
        using Kernel = HeadSums<kChannels>;
        const int64_t blocks = ceil_div(rows * (heads / group), Kernel::kWarps);
        tile::launch_warps<Kernel>(stream, Grid{blocks}, sums);
      });
    };
    sum_heads(dq, main.dq_parts, main.q);
    sum_heads(dk, main.dk_parts, main.k);
  }
  for (const Target* target : {&dq, &dk, &dv, &dg, &dbeta, &dA_log, &ddt_bias, &d_initial_state}) {
    target->deliver();
  }
}

}  // namespace deltatape::cuda::kda::v1

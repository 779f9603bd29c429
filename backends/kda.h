// What the fused KDA kernels of a backend take: plain sizes, options and buffers. docs/kda.md has the operator.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace deltatape::kda {

enum class Gate : uint8_t {
  none,         // g is the log decay itself, g <= 0
  standard,     // g is a logit: log decay -exp(A_log) softplus(g + dt_bias)
  lower_bound,  // g is a logit: log decay lower_bound sigmoid(exp(A_log) (g + dt_bias)); without A_log exp(A_log) = 1
};

/// Tokens that share one state: [begin, end) of batch row `row`.
struct Sequence {
  int64_t row = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t state_in = -1;   // which initial state it starts from; -1: zeros
  int64_t state_out = -1;  // which final state it ends in; -1: nobody asked for it
  [[nodiscard]] int64_t length() const { return end - begin; }
};

/// Which of the two fused kernels runs.
enum class Form : uint8_t { recurrent, chunk };

/// The distance in tokens between states that forward may keep for backward.
inline constexpr int64_t kCheckpointSteps = 64;
/// How many it keeps of a sequence: none of the initial state, which is at hand.
constexpr int64_t checkpoint_count(int64_t length) { return length > 0 ? (length - 1) / kCheckpointSteps : 0; }

/// How many bytes of a device's memory a call may use for itself unless told otherwise. With less, heads are worked on
/// group after group, which changes no bit of any result.
inline constexpr int64_t kWorkspaceLimit = int64_t{4} << 30;

/// Sizes and options of a call that passed the checks.
struct KernelProblem {
  int64_t B = 0;
  int64_t T = 0;
  int64_t H = 0;   // heads of q and k
  int64_t HV = 0;  // heads of v, g, beta and the states
  int64_t K = 0;
  int64_t V = 0;
  std::vector<Sequence> sequences;
  Form form = Form::chunk;
  double scale = 1.0;
  Gate gate = Gate::none;
  double lower_bound = -5.0;
  bool l2norm = false;
  bool beta_sigmoid = false;
  double beta_factor = 1.0;  // of the sigmoid: 2 with negative eigenvalues
  bool safe_gate = false;    // tiles of 16 rows whose log decay lies in [-5, 0] may be centred
  bool state_v_first = false;
  int64_t chunk_size = 64;                    // between the states in `h`
  DType compute_dtype = DType::f32;           // f64 or f32
  bool save_intermediates = false;            // forward is to keep for backward what kda_plan says
  int64_t workspace_limit = kWorkspaceLimit;  // bytes of device memory that a call may use beside its tensors
};

/// The tensors of a call, all dense and row-major. Floating-point tensors have any floating dtype.
struct KernelInputs {
  Tensor q;              // [B,T,H,K]
  Tensor k;              // [B,T,H,K]
  Tensor v;              // [B,T,HV,V]
  Tensor g;              // [B,T,HV,K]
  Tensor beta;           // [B,T,HV]
  Tensor A_log;          // [HV] or undefined
  Tensor dt_bias;        // [HV*K] or undefined
  Tensor initial_state;  // [N,HV,K,V] ([N,HV,V,K] with state_v_first) or undefined
};

/// Results of forward; all but `o` may be undefined (not wanted).
struct KernelOutputs {
  Tensor o;            // [B,T,HV,V]
  Tensor final_state;  // as initial_state
  Tensor h;            // [chunks,HV,K,V] ([..,V,K]), states before the chunks of sequence 0, 1, ..; compute_dtype
  Tensor saved;        // for backward, of the shape and dtype that kda_plan says
};

/// What backward is given besides the inputs.
struct KernelUpstream {
  Tensor d_o;            // [B,T,HV,V] or undefined: zeros
  Tensor d_final_state;  // as final_state or undefined: zeros
  Tensor saved;          // what forward kept, or undefined: it is computed again
};

/// Gradients of the inputs, each like its input; any may be undefined (not wanted). dA_log and ddt_bias are sums over
/// all tokens in a fixed order.
struct KernelGradients {
  Tensor dq;
  Tensor dk;
  Tensor dv;
  Tensor dg;
  Tensor dbeta;
  Tensor dA_log;
  Tensor ddt_bias;
  Tensor d_initial_state;
};

/// One step, or a few, on a pool of states in place.
struct KernelDecode {
  Tensor pool;                      // [P,HV,K,V] ([P,HV,V,K]), compute dtype
  std::vector<int64_t> first_slot;  // [N], the state that a sequence starts from; negative: padding, no token is read
  std::vector<int64_t> slots;       // [N,m], where token j leaves its state; negative: the token is padding
  Tensor o;                         // [N,m,HV,V], zeros at padding
};

/// What a backend runs for a call.
struct KernelPlan {
  std::string text = {};           // which kernels and why, in words; empty where there is but one choice
  Shape saved_shape = {};          // of KernelOutputs::saved
  DType saved_dtype = DType::f32;  // of KernelOutputs::saved
  int64_t forward_bytes = 0;       // of device memory beside the tensors of the call
  int64_t backward_bytes = 0;      // likewise, where all gradients are wanted
};

/// The states that a kernel keeps which goes from token to token or from tile to tile: [*,HV,K,V], one after every
/// kCheckpointSteps tokens of a sequence that others follow, sequence after sequence.
inline Shape checkpoint_shape(const KernelProblem& problem) {
  int64_t count = 0;
  for (const Sequence& sequence : problem.sequences) {
    count += checkpoint_count(sequence.length());
  }
  return {count, problem.HV, problem.K, problem.V};
}

}  // namespace deltatape::kda

/* The C interface of a kernel for Kimi Delta Attention that `deltatape check --plugin libmine.so` loads and checks.
 *
 * A plugin is a shared library that exports the functions at the end of this file. It needs nothing else of deltatape
 * and is loaded in a process of its own. Any language that can export C functions will do.
 *
 * The operator, with all its options, is that of docs/kda.md. Tensors are dense and row-major:
 *
 *   inputs    q, k     [B,T,H,K]    dtype of the call
 *             v        [B,T,HV,V]   dtype of the call
 *             g        [B,T,HV,K]   dtype of the call; log decays, or logits of the gate
 *             beta     [B,T,HV]     dtype of the call; write strengths, or logits
 *             A_log    [HV]         f32, or f64 with f64; as the next three, only where the case has it
 *             dt_bias  [HV*K]       f32, or f64 with f64
 *             h0       [N,HV,K,V]   f32, or f64 with f64; [N,HV,V,K] with state_v_first
 *             cu_seqlens  [N+1]     i64
 *             segment_ids [B,T]     i64
 *             do       [B,T,HV,V]   dtype of the call; the gradient of o. Absent: zeros (forward only, if dht is too)
 *             dht      like ht      f32, or f64 with f64; the gradient of ht. Absent: zeros
 *   results   o        like v
 *             ht       like h0
 *             dq, dk, dv, dg, dbeta, dA_log, ddt_bias, dh0   each like its input
 *   optional results, the intermediates of the chunk form (docs/harness.md has their definitions), C = chunk_size:
 *             g_cumsum [B,T,HV,K], Aqk, Akk [B,T,HV,C], w, qg, kg [B,T,HV,K], u, v_new [B,T,HV,V], h [B,NT,HV,K,V],
 *             dAqk, dAkk [B,T,HV,C], dh [B,NT,HV,K,V]: f32, or f64 with f64
 *
 * A case with N = 0, T = 0 or an empty sequence has tensors without elements; their pointers are not to be followed.
 *
 * Around every tensor there is poison: reading it gives NaN, writing it is found. On the CPU, what goes far beyond it,
 * in front of the first tensor or behind the last, crashes. Results are filled with garbage before the call, in turn
 * NaN and numbers, and every element must be written. Inputs must not be written. Every tensor starts at a multiple of
 * 64 bytes.
 *
 * The process stays alive from call to call: what is costly may be done once. It has a time limit per call
 * (`--timeout`) and is started anew after a crash or any other fault. Its stdout goes to stderr.
 *
 * examples/plugin/my_kda.c is one to start from:
 *
 *   cc -O2 -shared -fPIC -I DELTATAPE/harness/plugin my_kda.c -o libmy_kda.so -lm
 *   deltatape check --plugin ./libmy_kda.so
 */
#ifndef DELTATAPE_PLUGIN_H
#define DELTATAPE_PLUGIN_H

/* NOLINTBEGIN(modernize-deprecated-headers,modernize-use-using): this is C. */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this file. A structure only ever grows at its end, and `size` says how much of it the caller knows. */
#define DELTATAPE_PLUGIN_ABI_VERSION 1

enum deltatape_dtype { DELTATAPE_F64 = 0, DELTATAPE_F32 = 1, DELTATAPE_BF16 = 2, DELTATAPE_F16 = 3, DELTATAPE_I64 = 4 };

enum deltatape_gate {
  DELTATAPE_GATE_NONE = 0,       /* g is the log decay */
  DELTATAPE_GATE_STANDARD = 1,   /* -exp(A_log) softplus(g + dt_bias) */
  DELTATAPE_GATE_LOWER_BOUND = 2 /* lower_bound sigmoid(exp(A_log) (g + dt_bias)) */
};

typedef struct deltatape_tensor {
  const char* name;
  void* data; /* of the device that deltatape_plugin_device names */
  int32_t dtype;
  int32_t rank;
  int64_t shape[8];
} deltatape_tensor;

typedef struct deltatape_kda_call {
  uint64_t size; /* of this structure, in bytes */
  int64_t B, T, H, HV, K, V;
  int64_t N; /* states: B, or the number of sequences with cu_seqlens */
  int32_t dtype;
  int32_t gate;
  double scale;       /* always given, K^-1/2 unless the case has another one */
  double lower_bound; /* of the lower-bound gate */
  int32_t use_qk_l2norm;
  int32_t use_beta_sigmoid;
  int32_t allow_neg_eigval;
  int32_t safe_gate;
  int32_t state_v_first;
  int32_t chunk_size;
  int32_t backward; /* 0: only o and ht are wanted */
  int32_t threads;  /* to use at most */
  int32_t input_count;
  int32_t result_count; /* of those that deltatape_plugin_results lists, the ones that this case has */
  const deltatape_tensor* inputs;
  const deltatape_tensor* results;
} deltatape_kda_call;

enum deltatape_status {
  DELTATAPE_OK = 0,
  DELTATAPE_UNSUPPORTED = 1, /* such cases are not for this kernel: counted, not judged */
  DELTATAPE_FAILED = 2       /* counted as a failure of the case */
};

/* Required: DELTATAPE_PLUGIN_ABI_VERSION as the plugin was compiled with it. */
int32_t deltatape_plugin_abi_version(void);
/* Required: what it computes, with commas: "o,ht,dq,dk,dv,dg,dbeta,dA_log,ddt_bias,dh0". Static. */
const char* deltatape_plugin_results(void);
/* Required: one case. On another status than DELTATAPE_OK it may write a reason, with its final zero, to `message`,
 * which has `message_size` bytes. For device pointers everything must be done, not just started, on return. */
int32_t deltatape_plugin_run(const deltatape_kda_call* call, char* message, int64_t message_size);
/* Optional: a name for reports. Static. */
const char* deltatape_plugin_name(void);
/* Optional: "cpu" (also without this function) or "cuda". Static. */
const char* deltatape_plugin_device(void);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-deprecated-headers,modernize-use-using) */

#endif

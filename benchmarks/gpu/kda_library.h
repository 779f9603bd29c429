// Kimi Delta Attention on a GPU behind a C interface, so that a script can time it beside another implementation on the
// same tensors (kda_times.py). Every function gives nullptr or a negative number where something went wrong, and
// deltatape_kda_error() then says what.
#pragma once

#include <cstdint>

extern "C" {

/// One problem with its inputs on the first GPU.
struct DeltatapeKda;

/// What went wrong in the last call of this thread.
const char* deltatape_kda_error();

/// A problem from JSON: B, T, H, HV, K, V, and optionally dtype ("bf16"), device ("cuda"), lengths (of packed
/// sequences, B = 1), save_intermediates, decode (T tokens on B states in a pool). Inputs are random: q, k, v normal,
/// logits of the gate (lower bound -5) and of beta normal, norm within the operator.
DeltatapeKda* deltatape_kda_open(const char* json);
void deltatape_kda_close(DeltatapeKda* problem);

/// Which kernel runs, and why. Valid until the problem is closed.
const char* deltatape_kda_plan(DeltatapeKda* problem);

/// Where a tensor lies: q k v g beta A_log dt_bias do, after a run o, dq .. ddt_bias, with decode pool. Its size in
/// bytes goes to `bytes`.
void* deltatape_kda_tensor(DeltatapeKda* problem, const char* name, int64_t* bytes);

/// One run of a pass, without waiting: "forward" (no tape), "record" (forward on the tape), "backward" (of the last
/// record), "both", "decode"; "forward v1", "backward v1", "forward v2", "backward v2": the kernels of one version
/// alone, an error where that version does not run.
int deltatape_kda_run(DeltatapeKda* problem, const char* pass);
/// Milliseconds of one run of a pass on the device, after `flush` bytes were written to push the inputs from the cache.
double deltatape_kda_time(DeltatapeKda* problem, const char* pass, int64_t flush);
/// Waits for everything.
int deltatape_kda_synchronize(DeltatapeKda* problem);
/// Bytes of device memory at the highest since the problem was opened.
int64_t deltatape_kda_peak_bytes(DeltatapeKda* problem);
}

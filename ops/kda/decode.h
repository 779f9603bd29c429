// Decoding on a pool of states: one token, or a few drafts of speculative decoding, per sequence and call.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Which states of a pool N sequences of m tokens start from and write. i64 or i32, each on q's device or on the CPU. A
/// call reads them on the host: one on a CUDA device costs a wait for all that the device has to do, and cannot be read
/// while a graph is being recorded; one on the CPU costs neither, and a graph keeps its numbers.
struct DecodeSlots {
  /// [N,m], or [N] for m = 1: token j of sequence n leaves its state in slots[n][j]. Negative: the token is padding; it
  /// is not read, the state passes it by, nothing is written and its output is zero.
  Tensor slots;
  /// [N], optional: how many of the tokens of the step before were kept, a = 0..m. The sequence starts from
  /// slots[n][a-1], and with a = 0 from base_slot[n]. A negative start makes the whole sequence padding.
  Tensor num_accepted = {};
  /// [N], optional: where the state before the last step's tokens is. Alone, without num_accepted: a = 0 everywhere.
  Tensor base_slot = {};
};

/// Kimi Delta Attention (ops/kda/options.h) on states that lie in a pool, which is changed in place: inputs q, k
/// [N,m,H,K], v [N,m,HV,V], g [N,m,HV,K], beta [N,m,HV] and the gate's parameters; gives o [N,m,HV,V]. `pool`
/// [P,HV,K,V] ([P,HV,V,K] with state_v_first) is contiguous, in f64 for f64 inputs and in f32 for all others. Neither
/// num_accepted nor base_slot, with m = 1: the state in slots[n] is replaced by the one after the token. Slots that no
/// token writes keep their bits.
///
/// There are no gradients through a pool: an input, or the pool, that requires a gradient is refused while gradients
/// are recorded. Throws Error, and has written nothing, for what kda::recurrent refuses; for initial_state, cu_seqlens,
/// segment_ids, output_final_state and output_h, which have no meaning here; for slots that are not below P, counts
/// outside [0, m], a count of 0 without base_slot, and a slot that two sequences read or write.
Tensor decode(const Inputs& inputs, Tensor& pool, const DecodeSlots& slots, const Options& options = {});

/// The same by kda::recurrent, one token at a time, with the states gathered from the pool and copied back.
Tensor decode_composed(const Inputs& inputs, Tensor& pool, const DecodeSlots& slots, const Options& options = {});

}  // namespace deltatape::kda

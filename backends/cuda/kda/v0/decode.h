// Decoding, a token or a few per sequence on a pool of states in place: a block for every sequence, value head and
// slice of columns. The state goes through shared memory, from slot to slot.
#pragma once

#include "backends/cuda/kda/v0/step.h"

namespace deltatape::cuda::kda::v0 {

template <class T>
struct Decode {
  Call call;
  Split split;
  int64_t tokens;                  // of each sequence
  const SequenceEntry* sequences;  // state_in: which it is
  const int64_t* first_slot;       // [N]; negative: all of it is padding
  const int64_t* slots;            // [N, tokens]; negative: padding
  Operands<T> x;
  Reader<T> v;
  T* pool;      // [*, HV, K, V] or [*, HV, V, K]
  Writer<T> o;  // [N, tokens, HV, V]

  static int64_t bytes(const Call& call, const Split& split) {
    return TokenRows<T>::bytes(call, split) + shared_bytes<T>(call.K * split.width);
  }

  DT_HD void operator()(Block<kThreads>& block) const {
    const Task task(call, split, sequences, block.index());
    const TokenRows<T> rows(block, call, split);
    const Shared<T> S = block.template shared<T>(call.K * split.width);
    const int64_t n = task.sequence.state_in;
    const int64_t head = call.first_head + task.head;
    const int64_t first = first_slot[n];
    load_columns<T>(block, call, split, task, pool, first >= 0, first * call.HV + head, call.state_v_first, S);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t slot = slots[n * tokens + t];
      const bool live = first >= 0 && slot >= 0;
      if (live) {
        read_tokens(block, call, split, task, x, v, t, 1, rows);
        step(block, call, split, rows, 0, S, S, [](int64_t /*column*/, T /*error*/) {});
        store_columns<T>(block, call, split, task, S, slot * call.HV + head, call.state_v_first,
                         [&](int64_t element, T value) { pool[element] = value; });
      }
      const int64_t row = n * tokens + t;
      block.each(split.width, [&](int64_t i) {
        if (task.column + i < call.V) {
          o.put((row * call.HV + head) * call.V + task.column + i, live ? output_of(split, rows, i) : T(0));
        }
      });
    }
  }
};

}  // namespace deltatape::cuda::kda::v0

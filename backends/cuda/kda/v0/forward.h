// Forward, token after token: a block for every sequence, value head and slice of columns, the state in shared memory.
#pragma once

#include "backends/cuda/kda/v0/step.h"

namespace deltatape::cuda::kda::v0 {

template <class T>
struct Forward {
  Call call;
  Split split;
  const SequenceEntry* sequences;
  Operands<T> x;
  Reader<T> v;              // [rows, HV, V]
  Reader<T> initial_state;  // [*, HV, K, V]
  Writer<T> o;              // [rows, HV, V]
  Writer<T> final_state;    // [*, HV, K, V]
  Writer<T> h;              // [*, HV, K, V], in the layout of the states
  Checkpoints<T> checkpoints;

  static int64_t bytes(const Call& call, const Split& split) {
    return TokenRows<T>::bytes(call, split) + shared_bytes<T>(call.K * split.width);
  }

  DT_HD void operator()(Block<kThreads>& block) const {
    const Task task(call, split, sequences, block.index());
    const TokenRows<T> rows(block, call, split);
    const Shared<T> S = block.template shared<T>(call.K * split.width);
    const int64_t head = call.first_head + task.head;
    const SequenceEntry& sequence = task.sequence;

    load_columns<T>(block, call, split, task, initial_state, initial_state.present() && sequence.state_in >= 0,
                    sequence.state_in * call.HV + head, call.state_v_first, S);
    for (int64_t first = 0; first < sequence.length; first += split.steps) {
      const int64_t left = sequence.length - first;
      const int64_t count = left < split.steps ? left : split.steps;
      read_tokens(block, call, split, task, x, v, first, count, rows);
      for (int64_t t = 0; t < count; ++t) {
        keep(block, task, S, first + t);
        step(block, call, split, rows, t, S, S, [](int64_t /*column*/, T /*error*/) {});
        if (o.wanted()) {
          const int64_t row = sequence.first_row + first + t;
          block.each(split.width, [&](int64_t i) {
            if (task.column + i < call.V) {
              o.put((row * call.HV + head) * call.V + task.column + i, output_of(split, rows, i));
            }
          });
        }
      }
    }
    if (final_state.wanted() && sequence.state_out >= 0) {
      store_columns<T>(block, call, split, task, S, sequence.state_out * call.HV + head, call.state_v_first,
                       [&](int64_t element, T value) { final_state.put(element, value); });
    }
  }

 private:
  /// S is the state before `token`: it goes where it is wanted.
  DT_HD void keep(Block<kThreads>& block, const Task& task, const Shared<T>& S, int64_t token) const {
    if (h.wanted() && token % call.chunk_size == 0) {
      const int64_t number = task.sequence.first_h + token / call.chunk_size;
      store_columns<T>(block, call, split, task, S, number * call.HV + call.first_head + task.head, call.state_v_first,
                       [&](int64_t element, T value) { h.put(element, value); });
    }
    if (checkpoints.states != nullptr && token > 0 && token % kCheckpointSteps == 0) {
      store_columns<T>(block, call, split, task, S, checkpoints.number(task, token), false,
                       [&](int64_t element, T value) { checkpoints.states[element] = value; });
    }
  }
};

}  // namespace deltatape::cuda::kda::v0

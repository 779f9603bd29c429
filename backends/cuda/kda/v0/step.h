// One token of the recurrence on a block's columns of the state.
#pragma once

#include "backends/cuda/block.h"
#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/v0/call.h"
#include "backends/cuda/kda/v0/elements.h"

namespace deltatape::cuda::kda::v0 {

/// What a block works on: some columns of the state of one value head of one sequence.
struct Task {
  SequenceEntry sequence;
  int64_t head = 0;    // among the launch's
  int64_t column = 0;  // the first of the block's
  int64_t slice = 0;

  /// Task `index` of sequences * slices * heads.
  DT_HD Task(const Call& call, const Split& split, const SequenceEntry* sequences, int64_t index)
      : sequence(sequences[index / call.heads / split.slices]),
        head(index % call.heads),
        column(index / call.heads % split.slices * split.width),
        slice(index / call.heads % split.slices) {}
};

/// Kept states [*, heads, K, V], one after every kCheckpointSteps tokens that others follow; the launch's heads begin
/// at `first_head` of them.
template <class T>
struct Checkpoints {
  T* states = nullptr;
  int64_t heads = 0;
  int64_t first_head = 0;

  /// The state of a task before token `token`, a multiple of kCheckpointSteps.
  [[nodiscard]] DT_HD int64_t number(const Task& task, int64_t token) const {
    return (task.sequence.first_checkpoint + token / kCheckpointSteps - 1) * heads + first_head + task.head;
  }
};

/// The operands of some tokens in shared memory, and room for sums.
template <class T>
struct TokenRows {
  Shared<T> q;       // [steps, K], times scale
  Shared<T> k;       // [steps, K]
  Shared<T> decay;   // [steps, K]
  Shared<T> v;       // [steps, width]
  Shared<T> beta;    // [steps]
  Shared<T> k_sums;  // [parts, width]: k . S~ over the rows of a part
  Shared<T> q_sums;  // [parts, width]: q . S

  DT_HD TokenRows(Block<kThreads>& block, const Call& call, const Split& split)
      : q(block.template shared<T>(split.steps * call.K)),
        k(block.template shared<T>(split.steps * call.K)),
        decay(block.template shared<T>(split.steps * call.K)),
        v(block.template shared<T>(split.steps * split.width)),
        beta(block.template shared<T>(split.steps)),
        k_sums(block.template shared<T>(split.parts * split.width)),
        q_sums(block.template shared<T>(split.parts * split.width)) {}

  static int64_t bytes(const Call& call, const Split& split) {
    return 3 * shared_bytes<T>(split.steps * call.K) + shared_bytes<T>(split.steps * split.width) +
           shared_bytes<T>(split.steps) + 2 * shared_bytes<T>(split.parts * split.width);
  }
};

/// Reads the operands of tokens [first, first + count) of a task's sequence, count <= steps.
template <class T>
DT_HD void read_tokens(Block<kThreads>& block, const Call& call, const Split& split, const Task& task,
                       const Operands<T>& x, const Reader<T>& v, int64_t first, int64_t count,
                       const TokenRows<T>& rows) {
  const int64_t K = call.K;
  const int64_t row = task.sequence.first_row + first;
  const int64_t key_head = task.head / call.group;
  const T scale = static_cast<T>(call.scale);
  block.each(count * K, [&](int64_t i) {
    const int64_t token = row + i / K;
    const int64_t key = (token * call.key_heads() + key_head) * K + i % K;
    rows.q[i] = x.q[key] * scale;
    rows.k[i] = x.k[key];
    rows.decay[i] = x.decay[(token * call.heads + task.head) * K + i % K];
  });
  block.each(count * split.width, [&](int64_t i) {
    const int64_t token = row + i / split.width;
    const int64_t column = task.column + i % split.width;
    rows.v[i] = column < call.V ? v[(token * call.HV + call.first_head + task.head) * call.V + column] : T(0);
  });
  block.each(count, [&](int64_t i) { rows.beta[i] = x.beta[(row + i) * call.heads + task.head]; });
}

/// Token `t` of `rows`: S = diag(decay) from; to = S + k (beta (v - S' k))', both [K, width]; they may be the same
/// memory. keep_error(column, v - S' k) is called once for each column. rows.q_sums gets the parts of to' q.
template <class T, class From, class To, class KeepError>
DT_HD void step(Block<kThreads>& block, const Call& call, const Split& split, const TokenRows<T>& rows, int64_t t,
                From from, To to, KeepError keep_error) {
  const int width = split.width;
  const int K = static_cast<int>(call.K);
  const Shared<T> q = rows.q + t * K;
  const Shared<T> k = rows.k + t * K;
  const Shared<T> decay = rows.decay + t * K;
  block.each(split.parts * width, [&](int64_t i) {
    const int part = static_cast<int>(i) / width;
    const int column = static_cast<int>(i) % width;
    const int end = (part + 1) * split.part_rows < K ? (part + 1) * split.part_rows : K;
    T sum = 0;
    for (int c = part * split.part_rows; c < end; ++c) {
      const T decayed = decay[c] * from[c * width + column];
      sum += k[c] * decayed;
    }
    rows.k_sums[i] = sum;
  });
  block.each(split.parts * width, [&](int64_t i) {
    const int part = static_cast<int>(i) / width;
    const int column = static_cast<int>(i) % width;
    T predicted = 0;
    for (int p = 0; p < split.parts; ++p) {
      predicted += rows.k_sums[p * width + column];
    }
    const T error = rows.v[t * width + column] - predicted;
    if (part == 0) {
      keep_error(column, error);
    }
    const T write = rows.beta[t] * error;
    const int end = (part + 1) * split.part_rows < K ? (part + 1) * split.part_rows : K;
    T sum = 0;
    for (int c = part * split.part_rows; c < end; ++c) {
      const T decayed = decay[c] * from[c * width + column];
      const T state = decayed + k[c] * write;
      to[c * width + column] = state;
      sum += q[c] * state;
    }
    rows.q_sums[i] = sum;
  });
}

/// o of a column after `step`.
template <class T>
DT_HD T output_of(const Split& split, const TokenRows<T>& rows, int64_t column) {
  T sum = 0;
  for (int p = 0; p < split.parts; ++p) {
    sum += rows.q_sums[p * split.width + column];
  }
  return sum;
}

/// to [K, width] = a task's columns of state `state` of a tensor [*,K,V] ([*,V,K] with `v_first`); zeros where there is
/// no tensor or no state, and behind column V.
template <class T, class From, class To>
DT_HD void load_columns(Block<kThreads>& block, const Call& call, const Split& split, const Task& task,
                        const From& states, bool present, int64_t state, bool v_first, To to) {
  block.each(call.K * split.width, [&](int64_t i) {
    const int64_t column = task.column + i % split.width;
    const bool there = present && state >= 0 && column < call.V;
    to[i] = there ? static_cast<T>(states[call.state_element(state, i / split.width, column, v_first)]) : T(0);
  });
}

/// The reverse: put(element, value) for a task's columns of state `state`.
template <class T, class From, class Put>
DT_HD void store_columns(Block<kThreads>& block, const Call& call, const Split& split, const Task& task, From from,
                         int64_t state, bool v_first, Put put) {
  block.each(call.K * split.width, [&](int64_t i) {
    const int64_t column = task.column + i % split.width;
    if (column < call.V) {
      const T value = from[i];
      put(call.state_element(state, i / split.width, column, v_first), value);
    }
  });
}

}  // namespace deltatape::cuda::kda::v0

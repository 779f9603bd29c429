// Backward, the adjoint in time: a block for every sequence, value head and slice of columns goes through windows of 64
// tokens from the last to the first. The states inside a window are computed again from the kept state before it, into
// memory of the block's own; then dS goes back through them. Sums over the columns of a slice are exact in order, and
// every slice has its own: the epilogue adds them up.
#pragma once

#include "backends/cuda/kda/v0/step.h"

namespace deltatape::cuda::kda::v0 {

/// Sums over the columns of each slice; [slices, rows, heads, K] and [slices, rows, heads]. Null: not wanted.
template <class T>
struct SliceSums {
  T* dq = nullptr;  // with respect to q times scale
  T* dk = nullptr;
  T* dg = nullptr;  // with respect to the log decay
  T* dbeta = nullptr;
};

template <class T>
struct Backward {
  Call call;
  Split split;
  const SequenceEntry* sequences;
  int64_t tasks;
  int64_t workers;  // blocks; each takes every workers-th task
  Operands<T> x;
  Reader<T> v;
  Reader<T> initial_state;
  Checkpoints<T> checkpoints;
  Reader<T> d_o;
  Reader<T> d_final_state;
  SliceSums<T> sums;
  Writer<T> dv;
  Writer<T> d_initial_state;
  int64_t window;  // tokens: kCheckpointSteps, or fewer where all sequences are shorter
  T* states;       // [workers, window + 1, K, width], the states before every token of a window and after the last
  T* errors;       // [workers, window, width], v - S~' k

  static int64_t bytes(const Call& call, const Split& split) {
    return TokenRows<T>::bytes(call, split) + shared_bytes<T>(call.K * (split.width + 1)) +
           shared_bytes<T>(split.steps * split.width) + 3 * shared_bytes<T>(split.width);
  }

  DT_HD void operator()(Block<kThreads>& block) const {
    const TokenRows<T> rows(block, call, split);
    const Memory m{block.template shared<T>(call.K * (split.width + 1)),
                   block.template shared<T>(split.steps * split.width),
                   block.template shared<T>(split.width),
                   block.template shared<T>(split.width),
                   block.template shared<T>(split.width),
                   states + block.index() * (window + 1) * call.K * split.width,
                   errors + block.index() * window * split.width};
    for (int64_t index = block.index(); index < tasks; index += workers) {
      const Task task(call, split, sequences, index);
      const int64_t head = call.first_head + task.head;
      const SequenceEntry& sequence = task.sequence;
      const bool upstream = d_final_state.present() && sequence.state_out >= 0;
      load_columns<T>(block, call, split, task, d_final_state, upstream, sequence.state_out * call.HV + head,
                      call.state_v_first, Padded{m.dS, split.width});
      const int64_t windows = (sequence.length + kCheckpointSteps - 1) / kCheckpointSteps;
      for (int64_t number = windows - 1; number >= 0; --number) {
        const int64_t first = number * kCheckpointSteps;
        const int64_t left = sequence.length - first;
        const int64_t tokens = left < kCheckpointSteps ? left : kCheckpointSteps;
        replay(block, task, first, tokens, rows, m);
        go_back(block, task, first, tokens, rows, m);
      }
      if (d_initial_state.wanted() && sequence.state_in >= 0) {
        store_columns<T>(block, call, split, task, Padded{m.dS, split.width}, sequence.state_in * call.HV + head,
                         call.state_v_first, [&](int64_t element, T value) { d_initial_state.put(element, value); });
      }
    }
  }

 private:
  struct Memory {
    Shared<T> dS;      // [K, width + 1]: a thread may walk along a row, too, without bank conflicts
    Shared<T> d_o;     // [steps, width]
    Shared<T> write;   // [width], beta (v - S~' k)
    Shared<T> d_read;  // [width], the gradient of v - S~' k
    Shared<T> terms;   // [width], the summands of dbeta
    T* states;
    T* errors;
  };
  /// dS as if it were [K, width].
  struct Padded {
    Shared<T> dS;
    int64_t width;
    DT_HD decltype(auto) operator[](int64_t i) const { return dS[i / width * (width + 1) + i % width]; }
  };

  /// m.states and m.errors of tokens [first, first + tokens).
  DT_HD void replay(Block<kThreads>& block, const Task& task, int64_t first, int64_t tokens, const TokenRows<T>& rows,
                    const Memory& m) const {
    const int64_t state = call.K * split.width;
    if (first == 0) {
      load_columns<T>(block, call, split, task, initial_state, initial_state.present() && task.sequence.state_in >= 0,
                      task.sequence.state_in * call.HV + call.first_head + task.head, call.state_v_first, m.states);
    } else {
      load_columns<T>(block, call, split, task, checkpoints.states, true, checkpoints.number(task, first), false,
                      m.states);
    }
    for (int64_t start = 0; start < tokens; start += split.steps) {
      const int64_t count = tokens - start < split.steps ? tokens - start : split.steps;
      read_tokens(block, call, split, task, x, v, first + start, count, rows);
      for (int64_t t = 0; t < count; ++t) {
        const int64_t token = start + t;
        const T* from = m.states + token * state;
        T* errors_of_token = m.errors + token * split.width;
        const auto keep_error = [errors_of_token](int64_t column, T error) { errors_of_token[column] = error; };
        step(block, call, split, rows, t, from, m.states + (token + 1) * state, keep_error);
      }
    }
  }

  /// dS goes from after to before tokens [first, first + tokens).
  DT_HD void go_back(Block<kThreads>& block, const Task& task, int64_t first, int64_t tokens, const TokenRows<T>& rows,
                     const Memory& m) const {
    const int64_t batches = (tokens + split.steps - 1) / split.steps;
    for (int64_t batch = batches - 1; batch >= 0; --batch) {
      const int64_t start = batch * split.steps;
      const int64_t count = tokens - start < split.steps ? tokens - start : split.steps;
      read_tokens(block, call, split, task, x, v, first + start, count, rows);
      const int64_t row = task.sequence.first_row + first + start;
      block.each(count * split.width, [&](int64_t i) {
        const int64_t column = task.column + i % split.width;
        const int64_t element = ((row + i / split.width) * call.HV + call.first_head + task.head) * call.V + column;
        m.d_o[i] = d_o.present() && column < call.V ? d_o[element] : T(0);
      });
      for (int64_t t = count - 1; t >= 0; --t) {
        token_back(block, task, row + t, t, start + t, rows, m);
      }
    }
  }

  /// One token: `t` in `rows`, `token` in the window, `row` in the tensors.
  DT_HD void token_back(Block<kThreads>& block, const Task& task, int64_t row, int64_t t, int64_t token,
                        const TokenRows<T>& rows, const Memory& m) const {
    const int width = split.width;
    const int K = static_cast<int>(call.K);
    const Shared<T> q = rows.q + t * K;
    const Shared<T> k = rows.k + t * K;
    const Shared<T> decay = rows.decay + t * K;
    const Shared<T> d_out = m.d_o + t * width;
    // dS becomes the gradient of the state after the token, complete; k_sums the parts of that of what was written.
    block.each(split.parts * width, [&](int64_t i) {
      const int part = static_cast<int>(i) / width;
      const int column = static_cast<int>(i) % width;
      const int end = (part + 1) * split.part_rows < K ? (part + 1) * split.part_rows : K;
      T sum = 0;
      for (int c = part * split.part_rows; c < end; ++c) {
        const int64_t place = c * (width + 1) + column;
        const T complete = m.dS[place] + q[c] * d_out[column];
        m.dS[place] = complete;
        sum += k[c] * complete;
      }
      rows.k_sums[i] = sum;
    });
    block.each(width, [&](int64_t column) {
      T lambda = 0;
      for (int p = 0; p < split.parts; ++p) {
        lambda += rows.k_sums[p * width + column];
      }
      const T error = m.errors[token * width + column];
      const T beta = rows.beta[t];
      m.write[column] = beta * error;
      m.d_read[column] = beta * lambda;
      m.terms[column] = lambda * error;
      if (dv.wanted() && task.column + column < call.V) {
        dv.put((row * call.HV + call.first_head + task.head) * call.V + task.column + column, beta * lambda);
      }
    });
    const int64_t place = (task.slice * call.rows + row) * call.heads + task.head;
    const T* before = m.states + token * K * width;
    block.each(K + 1, [&](int64_t c) {
      if (c == K) {
        T dbeta = 0;
        for (int column = 0; column < width; ++column) {
          dbeta += m.terms[column];
        }
        if (sums.dbeta != nullptr) {
          sums.dbeta[place] = dbeta;
        }
        return;
      }
      T for_q = 0;
      T for_k = 0;
      T for_g = 0;
      for (int column = 0; column < width; ++column) {
        const int64_t element = c * (width + 1) + column;
        const T decayed = decay[c] * before[c * width + column];
        const T after = decayed + k[c] * m.write[column];
        const T complete = m.dS[element];
        const T d_decayed = complete - k[c] * m.d_read[column];
        for_q += after * d_out[column];
        for_k += complete * m.write[column] - decayed * m.d_read[column];
        for_g += d_decayed * decayed;
        m.dS[element] = decay[c] * d_decayed;
      }
      put(sums.dq, place * K + c, for_q);
      put(sums.dk, place * K + c, for_k);
      put(sums.dg, place * K + c, for_g);
    });
  }

  static DT_HD void put(T* sums, int64_t i, T value) {
    if (sums != nullptr) {
      sums[i] = value;
    }
  }
};

}  // namespace deltatape::cuda::kda::v0

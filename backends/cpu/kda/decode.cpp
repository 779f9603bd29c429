// Decoding: a token or a few per sequence, on a pool of states in place. Moving the states is nearly all the work, so a
// state is walked in strips of columns (rows, where the value is first) that stay in the first-level cache between the
// pass that predicts and the pass that writes, and goes from slot to slot without a copy between.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/kda/gate.h"
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/kda/prologue.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_sums.h"
#include "backends/cpu/thread_split.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu::kda {
namespace {

/// `count` elements of a dense tensor, from element `first` on.
template <class T>
void load_elements(const Tensor& x, int64_t first, int64_t count, T* to) {
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  convert_row(x.dtype(), dtype_of<T>)(static_cast<const char*>(x.raw()) + first * size, size,
                                      reinterpret_cast<char*>(to), sizeof(T), count);
}

template <class T>
void store_elements(const T* from, int64_t count, const Tensor& x, int64_t first) {
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  convert_row(dtype_of<T>, x.dtype())(reinterpret_cast<const char*>(from), sizeof(T),
                                      static_cast<char*>(x.mutable_raw()) + first * size, size, count);
}

/// What one token brings to one value head, ready for the recurrence.
template <class T>
struct DecodeToken {
  const T* q;      // [K], normalised, times scale
  const T* k;      // [K], normalised
  const T* decay;  // [K], exp(g)
  const T* v;      // [V]
  T beta;
};

/// Norm, gate and sigmoid of the tokens of one value head, one token at a time.
template <class T>
class TokenReader {
 public:
  using Pack = Vec<T>;

  TokenReader(const KernelProblem& problem, const KernelInputs& inputs, int64_t head)
      : p_(problem),
        in_(inputs),
        head_(head),
        Kp_(Sizes<T>::padded(problem.K)),
        rows_(4 * Kp_ + problem.V),
        q_(rows_.data()),
        k_(q_ + Kp_),
        decay_(k_ + Kp_),
        v_(decay_ + 2 * Kp_),
        gate_(problem, inputs, head, decay_ + Kp_) {}

  /// `token` counts over all sequences. The result is valid until the next call.
  DecodeToken<T> read(int64_t token) {
    const int64_t key = (token * p_.H + head_ / (p_.HV / p_.H)) * p_.K;
    const int64_t value = token * p_.HV + head_;
    load_elements(in_.q, key, p_.K, q_);
    load_elements(in_.k, key, p_.K, k_);
    load_elements(in_.g, value * p_.K, p_.K, decay_);
    load_elements(in_.v, value * p_.V, p_.V, v_);
    T beta = 0;
    load_elements(in_.beta, value, 1, &beta);
    if (p_.beta_sigmoid) {
      beta = static_cast<T>(p_.beta_factor) * elementwise::sigmoid(beta);
    }
    normalize_and_scale(q_, p_.scale);
    normalize_and_scale(k_, 1.0);
    make_decay();
    return {.q = q_, .k = k_, .decay = decay_, .v = v_, .beta = beta};
  }

 private:
  void normalize_and_scale(T* x, double scale) const {
    double factor = scale;
    if (p_.l2norm) {
      factor /= std::sqrt(sum_row<T>([](Pack value) { return value * value; }, p_.K, x) + kNormEps);
    }
    map_row([factor = Pack(factor)](Pack value) { return value * factor; }, RowView<T>{x, 1}, x, p_.K);
  }

  /// exp of the log decay, from g as it was given.
  void make_decay() {
    std::fill(decay_ + p_.K, decay_ + Kp_, T(0));
    for_registers<T>(Kp_, [&](int64_t c) {
      const Pack g = Pack::load(decay_ + c);
      exp(p_.gate == Gate::none ? g : gate_(g, c)).store(decay_ + c);
    });
  }

  const KernelProblem& p_;
  const KernelInputs& in_;
  int64_t head_;
  int64_t Kp_;
  Scratch<T> rows_;
  T* q_;
  T* k_;
  T* decay_;
  T* v_;
  GateOfHead<T> gate_;
};

/// `count` whole registers of neighbouring columns.
template <class T, int count>
struct WholeColumns {
  static constexpr int kRegisters = count;
  [[nodiscard]] Vec<T> load(const T* row, int r) const { return Vec<T>::load(row + r * Vec<T>::kSize); }
  void store(Vec<T> value, T* row, int r) const { value.store(row + r * Vec<T>::kSize); }
};

/// The last columns, fewer than a register has lanes.
template <class T>
struct LastColumns {
  static constexpr int kRegisters = 1;
  int64_t count;
  [[nodiscard]] Vec<T> load(const T* row, int /*r*/) const { return Vec<T>::load_part(row, count); }
  void store(Vec<T> value, T* row, int /*r*/) const { value.store_part(row, count); }
};

/// One step of the columns from `column` on; states [K,V]. `from` and `to` may be the same state.
template <class T, class Columns>
void step_columns(const KernelProblem& p, const DecodeToken<T>& x, Columns columns, int64_t column, const T* from,
                  T* to, T* o) {
  using Pack = Vec<T>;
  constexpr int kRegisters = Columns::kRegisters;
  from += column;
  to += column;
  Pack predicted[kRegisters];
  std::fill_n(predicted, kRegisters, Pack(0.0));
  for (int64_t i = 0; i < p.K; ++i) {
    const Pack decay(static_cast<double>(x.decay[i]));
    const Pack k(static_cast<double>(x.k[i]));
    for (int r = 0; r < kRegisters; ++r) {
      predicted[r] = predicted[r] + decay * columns.load(from + i * p.V, r) * k;
    }
  }
  Pack delta[kRegisters];
  Pack out[kRegisters];
  for (int r = 0; r < kRegisters; ++r) {
    delta[r] = Pack(static_cast<double>(x.beta)) * (columns.load(x.v + column, r) - predicted[r]);
    out[r] = Pack(0.0);
  }
  for (int64_t i = 0; i < p.K; ++i) {
    const Pack decay(static_cast<double>(x.decay[i]));
    const Pack k(static_cast<double>(x.k[i]));
    const Pack q(static_cast<double>(x.q[i]));
    for (int r = 0; r < kRegisters; ++r) {
      const Pack state = decay * columns.load(from + i * p.V, r) + k * delta[r];
      columns.store(state, to + i * p.V, r);
      out[r] = out[r] + q * state;
    }
  }
  for (int r = 0; r < kRegisters; ++r) {
    columns.store(out[r], o + column, r);
  }
}

/// One step of a state [K,V] of one head, into `to`, and its output row [V].
template <class T>
void step_key_first(const KernelProblem& p, const DecodeToken<T>& x, const T* from, T* to, T* o) {
  constexpr int kStrip = 4;
  constexpr int64_t kSize = Vec<T>::kSize;
  int64_t column = 0;
  for (; column + kStrip * kSize <= p.V; column += kStrip * kSize) {
    step_columns(p, x, WholeColumns<T, kStrip>{}, column, from, to, o);
  }
  for (; column + kSize <= p.V; column += kSize) {
    step_columns(p, x, WholeColumns<T, 1>{}, column, from, to, o);
  }
  if (column < p.V) {
    step_columns(p, x, LastColumns<T>{p.V - column}, column, from, to, o);
  }
}

/// The same for a state [V,K].
template <class T>
void step_value_first(const KernelProblem& p, const DecodeToken<T>& x, const T* from, T* to, T* o) {
  using Pack = Vec<T>;
  for (int64_t j = 0; j < p.V; ++j) {
    const T* before = from + j * p.K;
    T* after = to + j * p.K;
    map_row([](Pack s, Pack decay) { return s * decay; }, RowView<T>{before, 1}, RowView<T>{x.decay, 1}, after, p.K);
    const double predicted = sum_row<T>([](Pack s, Pack k) { return s * k; }, p.K, after, x.k);
    const Pack delta(static_cast<double>(x.beta) * (static_cast<double>(x.v[j]) - predicted));
    map_row([delta](Pack s, Pack k) { return s + k * delta; }, RowView<T>{after, 1}, RowView<T>{x.k, 1}, after, p.K);
    o[j] = static_cast<T>(sum_row<T>([](Pack s, Pack q) { return s * q; }, p.K, after, x.q));
  }
}

/// All tokens of one value head of one sequence.
template <class T>
void decode_head(const KernelProblem& p, const KernelInputs& inputs, const KernelDecode& decode, int64_t sequence,
                 int64_t head) {
  const auto row_bytes = static_cast<size_t>(p.V) * size_of(decode.o.dtype());
  auto* states = static_cast<T*>(decode.pool.mutable_raw());
  const auto state_in = [&](int64_t slot) { return states + (slot * p.HV + head) * p.K * p.V; };
  TokenReader<T> reader(p, inputs, head);
  Scratch<T> out(p.V);
  int64_t current = decode.first_slot[static_cast<size_t>(sequence)];
  const bool padding = current < 0;
  for (int64_t j = 0; j < p.T; ++j) {
    const int64_t token = sequence * p.T + j;
    const int64_t row = (token * p.HV + head) * p.V;
    const int64_t slot = decode.slots[static_cast<size_t>(token)];
    if (padding || slot < 0) {
      std::memset(static_cast<char*>(decode.o.mutable_raw()) + row * static_cast<int64_t>(size_of(decode.o.dtype())), 0,
                  row_bytes);
      continue;
    }
    const DecodeToken<T> x = reader.read(token);
    const auto step = p.state_v_first ? step_value_first<T> : step_key_first<T>;
    step(p, x, state_in(current), state_in(slot), out.data());
    store_elements(out.data(), p.V, decode.o, row);
    current = slot;
  }
}

}  // namespace

template <class T>
void decode_steps(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode) {
  constexpr double kNanosecondsPerElement = 0.5;  // of a state that is in memory
  const int64_t sequences = problem.B;
  const double work = static_cast<double>(problem.T * problem.K * problem.V) * kNanosecondsPerElement;
  parallel_for(sequences * problem.HV, work,
               [&](int64_t i) { decode_head<T>(problem, inputs, decode, i / problem.HV, i % problem.HV); });
}

template void decode_steps<float>(const KernelProblem&, const KernelInputs&, const KernelDecode&);
template void decode_steps<double>(const KernelProblem&, const KernelInputs&, const KernelDecode&);

}  // namespace deltatape::cpu::kda

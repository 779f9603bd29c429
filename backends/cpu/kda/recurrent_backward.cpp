// The adjoint of the recurrence in time (docs/chunk-backward.md, "The recurrent kernel"). Windows of 64 tokens from the
// last to the first: the states inside a window are computed again from the checkpoint before it, then dS goes back
// through them, block of columns by block of columns.
#include "backends/cpu/kda/backward_states.h"
#include "backends/cpu/kda/epilogue.h"
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/kda/recurrent_step.h"
#include "backends/cpu/kda/schedule.h"

namespace deltatape::cpu::kda {
namespace {

constexpr int64_t kTilesPerWindow = kCheckpointSteps / kTileRows;

/// One token back, on R registers of columns. `before` and `after` are the states before and after the token, dS the
/// gradient of the latter, which becomes that of the former.
template <class T>
struct TokenAdjoint {
  const T* before;
  const T* after;
  int64_t ld;  // between rows of `before` and `after`
  T* dS;
  int64_t ld_dS;
  const T* d_o;
  const T* e;  // what the token found wrong
};
/// Adds to dq (of the scaled q), dk and dg [K]; gives dv, and returns dbeta.
template <class T, int R>
T token_backward(int64_t K, const Token<T>& token, const TokenAdjoint<T>& at, T* dq, T* dk, T* dg, T* dv) {
  using V = Vec<T>;
  V d_o[R];
  V lambda[R];  // gradient of what the token writes
  for (int64_t r = 0; r < R; ++r) {
    d_o[r] = V::load(at.d_o + r * V::kSize);
    lambda[r] = V(0.0);
  }
  for (int64_t c = 0; c < K; ++c) {
    const V q = broadcast(token.q + c);
    const V k = broadcast(token.k + c);
    for (int64_t r = 0; r < R; ++r) {
      T* place = at.dS + c * at.ld_dS + r * V::kSize;
      const V complete = fma(q, d_o[r], V::load(place));
      complete.store(place);
      lambda[r] = fma(k, complete, lambda[r]);
    }
  }
  const V beta = broadcast(&token.beta);
  V write[R];
  V d_error[R];
  V dbeta(0.0);
  for (int64_t r = 0; r < R; ++r) {
    const V error = V::load(at.e + r * V::kSize);
    write[r] = beta * error;
    d_error[r] = beta * lambda[r];
    d_error[r].store(dv + r * V::kSize);
    dbeta = fma(lambda[r], error, dbeta);
  }
  for (int64_t c = 0; c < K; ++c) {
    const V decay = broadcast(token.decay + c);
    const V k = broadcast(token.k + c);
    V for_q(0.0);
    V for_k(0.0);
    V for_g(0.0);
    for (int64_t r = 0; r < R; ++r) {
      const int64_t i = c * at.ld + r * V::kSize;
      T* dS = at.dS + c * at.ld_dS + r * V::kSize;
      const V decayed = decay * V::load(at.before + i);
      const V complete = V::load(dS);
      for_q = fma(V::load(at.after + i), d_o[r], for_q);
      for_k = for_k + (complete * write[r] - decayed * d_error[r]);
      const V d_decayed = complete - k * d_error[r];
      for_g = fma(d_decayed, decayed, for_g);
      (decay * d_decayed).store(dS);
    }
    dq[c] += static_cast<T>(sum_of_lanes(for_q));
    dk[c] += static_cast<T>(sum_of_lanes(for_k));
    dg[c] += static_cast<T>(sum_of_lanes(for_g));
  }
  return static_cast<T>(sum_of_lanes(dbeta));
}

/// How large the parts of HeadMemory are.
struct HeadSizes {
  int64_t rows;
  int64_t checkpoints;
  int64_t state;
  int64_t window;
  int64_t states;
  int64_t block;
};

/// Working memory of one sequence and head of q and k.
template <class T>
struct HeadMemory {
  T* dq;           // [tokens, Kp], sums over the group's value heads
  T* dk;           // [tokens, Kp]
  T* checkpoints;  // [windows, K, Vp]
  T* S;            // [K, Vp]
  T* dS;           // [K, Vp]
  T* q;            // [64, Kp] of one window, as the next three
  T* k;
  T* decay;
  T* dg;
  T* states;  // [65, K, block of columns]
  T* errors;  // [64, block of columns], as the next
  T* d_o;

  static int64_t elements(const HeadSizes& part) {
    const auto rounded = Pieces<T>::rounded;
    return 2 * rounded(part.rows) + rounded(part.checkpoints) + 2 * rounded(part.state) + 4 * rounded(part.window) +
           rounded(part.states) + 2 * rounded(part.block);
  }
  HeadMemory(T* memory, const HeadSizes& part) {
    Pieces<T> pieces(memory);
    dq = pieces.take(part.rows);
    dk = pieces.take(part.rows);
    checkpoints = pieces.take(part.checkpoints);
    S = pieces.take(part.state);
    dS = pieces.take(part.state);
    for (T** window : {&q, &k, &decay, &dg}) {
      *window = pieces.take(part.window);
    }
    states = pieces.take(part.states);
    errors = pieces.take(part.block);
    d_o = pieces.take(part.block);
  }
};

template <class T>
class RecurrentBackward {
 public:
  RecurrentBackward(const KernelProblem& p, const KernelInputs& in, const KernelUpstream& up,
                    const KernelGradients& out)
      : p_(p),
        out_(out),
        size_(p),
        prologue_(p, in),
        epilogue_(p, in, out),
        d_o_(up.d_o, p.V),
        tasks_(p, p.H),
        states_(p, in, up, out),
        sums_(p, out) {}

  void run() {
    const int64_t longest = longest_in_tiles(p_);
    const HeadSizes part{.rows = longest * kTileRows * size_.Kp,
                         .checkpoints = ceil_div(longest, kTilesPerWindow) * size_.state(),
                         .state = size_.state(),
                         .window = kCheckpointSteps * size_.Kp,
                         .states = (kCheckpointSteps + 1) * size_.K * kBlockColumns<T>,
                         .block = kCheckpointSteps * kBlockColumns<T>};
    const int64_t group = p_.HV / p_.H;
    const double per_token = 2.0 * static_cast<double>(size_.K * size_.V * group);
    const int64_t workers = worker_count(tasks_, per_token);
    const WorkerMemory<T> memory(workers, HeadMemory<T>::elements(part));
    run_tasks(tasks_, workers, [&](int64_t task, int64_t worker) {
      sequence_and_head(tasks_.sequence(task), tasks_.head(task), HeadMemory<T>(memory.of(worker), part));
    });
    sums_.finish(out_);
  }

 private:
  void sequence_and_head(int64_t n, int64_t head, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t tiles = tile_count(sequence);
    const int64_t per_tile = kTileRows * size_.Kp;
    std::fill_n(m.dq, tiles * per_tile, T(0));
    std::fill_n(m.dk, tiles * per_tile, T(0));
    const int64_t group = p_.HV / p_.H;
    for (int64_t value_head = head * group; value_head < (head + 1) * group; ++value_head) {
      backward_of_value_head(n, value_head, m);
    }
    for (int64_t i = 0; i < tiles; ++i) {
      const Place place = place_of(sequence, i);
      alignas(64) T norm[kTileRows];
      prologue_.queries(place, head, m.q, norm);
      epilogue_.queries(place, head, m.q, norm, m.dq + i * per_tile);
      prologue_.keys(place, head, m.k, norm);
      epilogue_.keys(place, head, m.k, norm, m.dk + i * per_tile);
    }
  }

  void backward_of_value_head(int64_t n, int64_t head, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t windows = ceil_div(tile_count(sequence), kTilesPerWindow);
    find_checkpoints(n, head, windows, m);
    states_.load_gradient(n, head, m.dS);
    for (int64_t window = windows - 1; window >= 0; --window) {
      backward_of_window(n, head, window, m);
    }
    states_.store_gradient(n, head, m.dS);
  }

  void find_checkpoints(int64_t n, int64_t head, int64_t windows, const HeadMemory<T>& m) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    states_.load_initial(n, head, m.S);
    if (states_.kept() && windows > 0) {
      std::copy_n(m.S, size_.state(), m.checkpoints);
      for (int64_t window = 1; window < windows; ++window) {
        states_.load_kept(n, head, window * kCheckpointSteps, m.checkpoints + window * size_.state());
      }
      return;
    }
    for (int64_t window = 0; window < windows; ++window) {
      std::copy_n(m.S, size_.state(), m.checkpoints + window * size_.state());
      if (window + 1 == windows) {
        return;
      }
      alignas(64) T beta[kCheckpointSteps];
      read_window(sequence, head, window, beta, m);
      for (int64_t column = 0; column < size_.Vp; column += kBlockColumns<T>) {
        const int64_t columns = std::min(kBlockColumns<T>, size_.Vp - column);
        read_errors(sequence, head, window, column, columns, m);
        for (int64_t t = 0; t < kCheckpointSteps; ++t) {
          step(token_at(m, beta, t), m.errors + t * kBlockColumns<T>, columns, m.S + column, size_.Vp);
        }
      }
    }
  }

  /// q, k and decay of all tokens of a window.
  void read_window(const Sequence& sequence, int64_t head, int64_t window, T* beta, const HeadMemory<T>& m) const {
    const int64_t elements = kTileRows * size_.Kp;
    for (int64_t i = 0; i < tiles_in(sequence, window); ++i) {
      const Place place = place_of(sequence, window * kTilesPerWindow + i);
      prologue_.queries(place, head / (p_.HV / p_.H), m.q + i * elements, nullptr);
      prologue_.keys(place, head / (p_.HV / p_.H), m.k + i * elements, nullptr);
      prologue_.log_decays(place, head, m.decay + i * elements);
      prologue_.betas(place, head, beta + i * kTileRows);
    }
    for_registers<T>(tiles_in(sequence, window) * elements,
                     [&](int64_t i) { exp(Vec<T>::load(m.decay + i)).store(m.decay + i); });
  }
  static int64_t tiles_in(const Sequence& sequence, int64_t window) {
    return std::min(kTilesPerWindow, tile_count(sequence) - window * kTilesPerWindow);
  }
  [[nodiscard]] Token<T> token_at(const HeadMemory<T>& m, const T* beta, int64_t t) const {
    return {m.q + t * size_.Kp, m.k + t * size_.Kp, m.decay + t * size_.Kp, beta[t]};
  }

  /// v of a window into `errors`, where token_forward turns it into errors.
  void read_errors(const Sequence& sequence, int64_t head, int64_t window, int64_t column, int64_t columns,
                   const HeadMemory<T>& m) const {
    for (int64_t i = 0; i < tiles_in(sequence, window); ++i) {
      prologue_.value_columns(place_of(sequence, window * kTilesPerWindow + i), head, column, columns,
                              m.errors + i * kTileRows * kBlockColumns<T>, kBlockColumns<T>);
    }
  }

  void step(const Token<T>& token, T* v_then_error, int64_t columns, T* S, int64_t ld) const {
    for_register_groups<T>(columns, [&](int64_t first, auto registers) {
      token_forward<T, registers.count>(size_.K, token, v_then_error + first, S + first, ld, v_then_error + first,
                                        static_cast<T*>(nullptr));
    });
  }

  void backward_of_window(int64_t n, int64_t head, int64_t window, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t first_tile = window * kTilesPerWindow;
    const int64_t tokens = std::min(kCheckpointSteps, sequence.length() - window * kCheckpointSteps);
    alignas(64) T beta[kCheckpointSteps];
    alignas(64) T dbeta[kCheckpointSteps] = {};
    read_window(sequence, head, window, beta, m);
    std::fill_n(m.dg, kCheckpointSteps * size_.Kp, T(0));
    for (int64_t column = 0; column < size_.Vp; column += kBlockColumns<T>) {
      const int64_t columns = std::min(kBlockColumns<T>, size_.Vp - column);
      replay(sequence, head, window, tokens, beta, column, columns, m);
      read_d_o(sequence, head, window, column, columns, m);
      back(window, tokens, beta, column, columns, dbeta, m);
      // dv stands where the errors were.
      for (int64_t i = 0; i < tiles_in(sequence, window); ++i) {
        epilogue_.values(place_of(sequence, first_tile + i), head, column, columns,
                         m.errors + i * kTileRows * kBlockColumns<T>, kBlockColumns<T>);
      }
    }
    GateSums& sums = sums_.at(n, head);
    for (int64_t i = tiles_in(sequence, window) - 1; i >= 0; --i) {
      const Place place = place_of(sequence, first_tile + i);
      epilogue_.betas(place, head, dbeta + i * kTileRows);
      epilogue_.log_decays(place, head, m.dg + i * kTileRows * size_.Kp, sums);
    }
  }

  /// The states before and after every token of a window, and the errors, in a block of columns.
  void replay(const Sequence& sequence, int64_t head, int64_t window, int64_t tokens, const T* beta, int64_t column,
              int64_t columns, const HeadMemory<T>& m) const {
    constexpr int64_t kLd = kBlockColumns<T>;
    const T* checkpoint = m.checkpoints + window * size_.state() + column;
    for (int64_t c = 0; c < size_.K; ++c) {
      std::copy_n(checkpoint + c * size_.Vp, columns, m.states + c * kLd);
    }
    read_errors(sequence, head, window, column, columns, m);
    for (int64_t t = 0; t < tokens; ++t) {
      T* after = m.states + (t + 1) * size_.K * kLd;
      std::copy_n(after - size_.K * kLd, size_.K * kLd, after);
      step(token_at(m, beta, t), m.errors + t * kLd, columns, after, kLd);
    }
  }

  void read_d_o(const Sequence& sequence, int64_t head, int64_t window, int64_t column, int64_t columns,
                const HeadMemory<T>& m) const {
    constexpr int64_t kLd = kBlockColumns<T>;
    std::fill_n(m.d_o, kCheckpointSteps * kLd, T(0));
    for (int64_t i = 0; d_o_.present() && i < tiles_in(sequence, window); ++i) {
      read_columns(d_o_, place_of(sequence, window * kTilesPerWindow + i), p_.T, p_.HV, head, size_.V, column, columns,
                   m.d_o + i * kTileRows * kLd, kLd);
    }
  }

  void back(int64_t window, int64_t tokens, const T* beta, int64_t column, int64_t columns, T* dbeta,
            const HeadMemory<T>& m) const {
    constexpr int64_t kLd = kBlockColumns<T>;
    const int64_t first_row = window * kCheckpointSteps * size_.Kp;
    for (int64_t t = tokens - 1; t >= 0; --t) {
      const T* before = m.states + t * size_.K * kLd;
      T* error = m.errors + t * kLd;
      for_register_groups<T>(columns, [&](int64_t first, auto registers) {
        const TokenAdjoint<T> at{before + first, before + size_.K * kLd + first, kLd,          m.dS + column + first,
                                 size_.Vp,       m.d_o + t * kLd + first,        error + first};
        dbeta[t] +=
            token_backward<T, registers.count>(size_.K, token_at(m, beta, t), at, m.dq + first_row + t * size_.Kp,
                                               m.dk + first_row + t * size_.Kp, m.dg + t * size_.Kp, error + first);
      });
    }
  }

  const KernelProblem& p_;
  const KernelGradients& out_;
  Sizes<T> size_;
  Prologue<T> prologue_;
  Epilogue<T> epilogue_;
  RowReader<T> d_o_;
  Tasks tasks_;
  BackwardStates<T> states_;
  GateSumTable sums_;
};

}  // namespace

template <class T>
void recurrent_backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
                        const KernelGradients& gradients) {
  RecurrentBackward<T>(problem, inputs, upstream, gradients).run();
}

template void recurrent_backward<float>(const KernelProblem&, const KernelInputs&, const KernelUpstream&,
                                        const KernelGradients&);
template void recurrent_backward<double>(const KernelProblem&, const KernelInputs&, const KernelUpstream&,
                                         const KernelGradients&);

}  // namespace deltatape::cpu::kda

// docs/chunk-backward.md. Batches of tiles from the last to the first; in each
//   make     the tiles again                                               parallel over tiles
//   replay   the states before the tiles, what is written, what is wrong   parallel over blocks of columns
//   adjoint  the gradient of the state, back through the tiles             parallel over blocks of columns
//   finish   everything that a tile needs no other tile for                parallel over tiles
#include "backends/cpu/gemm.h"
#include "backends/cpu/kda/backward_states.h"
#include "backends/cpu/kda/chunk_state.h"
#include "backends/cpu/kda/chunk_tile.h"
#include "backends/cpu/kda/epilogue.h"
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/kda/row_dots.h"
#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/triangle.h"

namespace deltatape::cpu::kda {
namespace {

/// Tiles whose states are in memory at a time; more where threads share one head.
constexpr int64_t kTilesPerBatch = kCheckpointSteps / kTileRows;
constexpr int64_t kTilesPerSharedBatch = 4 * kTilesPerBatch;

/// What backward keeps of one tile of one value head between its four passes.
template <class T>
struct BackwardTile {
  ChunkTile<T> operands;
  TileRows<T> rows;
  T* S;       // [Vp, K], the state before the tile, transposed for the products that sum over V
  T* dS;      // [Vp, K], the gradient of the state after the tile, likewise
  T* errors;  // [16, Vp], e: what each token finds wrong
  T* writes;  // [16, Vp], d = beta e: what it writes
  T* d_o;     // [16, Vp]
  T* lambda;  // [16, Vp], the gradient of d; behind d_o, so that both are one matrix of 32 rows
  T* dg;      // [16, Kp]

  static int64_t elements(const Sizes<T>& s) {
    return ChunkTile<T>::elements(s.Kp) + TileRows<T>::elements(s.Kp) + 2 * Pieces<T>::rounded(s.state()) +
           4 * Pieces<T>::rounded(kTileRows * s.Vp) + Pieces<T>::rounded(kTileRows * s.Kp);
  }
  BackwardTile(T* memory, const Sizes<T>& s)
      : operands(memory, s.Kp), rows(memory + ChunkTile<T>::elements(s.Kp), s.Kp) {
    Pieces<T> pieces(memory + ChunkTile<T>::elements(s.Kp) + TileRows<T>::elements(s.Kp));
    S = pieces.take(s.state());
    dS = pieces.take(s.state());
    errors = pieces.take(kTileRows * s.Vp);
    writes = pieces.take(kTileRows * s.Vp);
    d_o = pieces.take(2 * kTileRows * s.Vp);
    lambda = d_o + kTileRows * s.Vp;
    dg = pieces.take(kTileRows * s.Kp);
  }
};

/// Working memory of one sequence and head of q and k.
template <class T>
struct HeadMemory {
  T* dq;           // [tiles, 16, Kp], sums over the group's value heads
  T* dk;           // [tiles, 16, Kp]
  T* checkpoints;  // [batches, K, Vp], states before the batches
  T* S;            // [K, Vp], while the checkpoints are looked for
  T* dS;           // [K, Vp], carried from batch to batch
  T* tiles;        // of one batch
};

template <class T>
void copy_block(int64_t rows, int64_t columns, const T* from, int64_t ld_from, T* to, int64_t ld_to) {
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(from + i * ld_from, columns, to + i * ld_to);
  }
}

/// out[c] = sum over rows of x[row * columns + c] y[row * columns + c].
template <class T>
void column_dots(int64_t rows, int64_t columns, const T* x, const T* y, T* out) {
  using V = Vec<T>;
  int64_t c = 0;
  for (; c + V::kSize <= columns; c += V::kSize) {
    V sums[2] = {V(0.0), V(0.0)};
    for (int64_t row = 0; row + 2 <= rows; row += 2) {  // rows come in whole registers
      const int64_t at = row * columns + c;
      sums[0] = fma(V::load(x + at), V::load(y + at), sums[0]);
      sums[1] = fma(V::load(x + at + columns), V::load(y + at + columns), sums[1]);
    }
    (sums[0] + sums[1]).store(out + c);
  }
  if (c < columns) {
    V sum(0.0);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = row * columns + c;
      sum = fma(V::load_part(x + at, columns - c), V::load_part(y + at, columns - c), sum);
    }
    sum.store_part(out + c, columns - c);
  }
}

template <class T>
class ChunkBackward {
 public:
  ChunkBackward(const KernelProblem& p, const KernelInputs& in, const KernelUpstream& up, const KernelGradients& out)
      : p_(p),
        out_(out),
        size_(p),
        prologue_(p, in),
        epilogue_(p, in, out),
        d_o_(up.d_o, p.V),
        tasks_(p, p.H),
        states_(p, in, up, out),
        batch_(side_by_side(tasks_) ? kTilesPerBatch : kTilesPerSharedBatch),
        scratch_(decay_scratch<T>(size_.Kp) + 3 * kTileRows * size_.Kp + 4 * kSquare + Pieces<T>::rounded(size_.Kp)),
        sums_(p, out) {}

  void run() {
    const int64_t group = p_.HV / p_.H;
    const double per_token = 0.4 * static_cast<double>(size_.K * size_.V * group);
    const int64_t longest = longest_in_tiles(p_);
    const int64_t workers = side_by_side(tasks_) ? worker_count(tasks_, per_token) : 1;
    const int64_t rows = longest * kTileRows * size_.Kp;
    const int64_t checkpoints = ceil_div(longest, batch_) * size_.state();
    const WorkerMemory<T> memory(workers, 2 * rows + checkpoints + 2 * size_.state() +
                                              std::min(longest, batch_) * BackwardTile<T>::elements(size_));
    run_tasks(tasks_, workers, [&](int64_t task, int64_t worker) {
      T* place = memory.of(worker);
      const HeadMemory<T> m{.dq = place,
                            .dk = place + rows,
                            .checkpoints = place + 2 * rows,
                            .S = place + 2 * rows + checkpoints,
                            .dS = place + 2 * rows + checkpoints + size_.state(),
                            .tiles = place + 2 * rows + checkpoints + 2 * size_.state()};
      sequence_and_head(tasks_.sequence(task), tasks_.head(task), m);
    });
    sums_.finish(out_);
  }

 private:
  [[nodiscard]] BackwardTile<T> tile_in(const HeadMemory<T>& m, int64_t index) const {
    return BackwardTile<T>(m.tiles + index * BackwardTile<T>::elements(size_), size_);
  }
  template <class F>
  void for_tiles(int64_t count, F f) const {
    parallel_for(count, 0.2 * static_cast<double>(kTileRows * size_.K * size_.V), f);
  }
  /// Calls f(first column, columns) for every block of columns.
  template <class F>
  void for_columns(int64_t tiles, F f) const {
    const double each = 0.2 * static_cast<double>(tiles * kTileRows * size_.K * kBlockColumns<T>);
    parallel_for(size_.column_blocks(), each, [&](int64_t block) {
      const int64_t column = block * kBlockColumns<T>;
      f(column, std::min(kBlockColumns<T>, size_.Vp - column));
    });
  }

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
    for_tiles(tiles, [&](int64_t i) {
      epilogue_.queries(place_of(sequence, i), head, m.dq + i * per_tile);
      epilogue_.keys(place_of(sequence, i), head, m.dk + i * per_tile);
    });
  }

  void backward_of_value_head(int64_t n, int64_t head, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t tiles = tile_count(sequence);
    find_checkpoints(n, head, m);
    states_.load_gradient(n, head, m.dS);
    for (int64_t batch = ceil_div(tiles, batch_) - 1; batch >= 0; --batch) {
      const int64_t first = batch * batch_;
      const int64_t count = std::min(batch_, tiles - first);
      for_tiles(count, [&](int64_t i) { make(place_of(sequence, first + i), head, tile_in(m, i)); });
      for_columns(count, [&](int64_t column, int64_t columns) {
        T* S = m.checkpoints + batch * size_.state() + column;
        for (int64_t i = 0; i < count; ++i) {
          const BackwardTile<T> tile = tile_in(m, i);
          pack_matrix<T>(columns, size_.K, {S, 1, size_.Vp}, tile.S + column * size_.K);
          read_and_write(place_of(sequence, first + i), head, tile.operands, S, column, columns, tile.errors + column,
                         tile.writes + column);
        }
        for (int64_t i = count - 1; i >= 0; --i) {
          adjoint_of_tile(place_of(sequence, first + i), head, tile_in(m, i), m.dS + column, column, columns);
        }
      });
      for_tiles(count, [&](int64_t i) {
        const int64_t row = (first + i) * kTileRows * size_.Kp;
        finish_tile(place_of(sequence, first + i), head, tile_in(m, i), m.dq + row, m.dk + row);
      });
      GateSums& sums = sums_.at(n, head);
      for (int64_t i = count - 1; i >= 0; --i) {
        epilogue_.log_decays(place_of(sequence, first + i), head, tile_in(m, i).dg, sums);
      }
    }
    states_.store_gradient(n, head, m.dS);
  }

  /// The states before all batches: read, or found by going through the sequence once more.
  void find_checkpoints(int64_t n, int64_t head, const HeadMemory<T>& m) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t tiles = tile_count(sequence);
    const int64_t batches = ceil_div(tiles, batch_);
    states_.load_initial(n, head, m.S);
    if (states_.kept() && batches > 0) {
      std::copy_n(m.S, size_.state(), m.checkpoints);
      parallel_for(batches - 1, static_cast<double>(size_.state()), [&](int64_t i) {
        states_.load_kept(n, head, (i + 1) * batch_ * kTileRows, m.checkpoints + (i + 1) * size_.state());
      });
      return;
    }
    for (int64_t batch = 0; batch < batches; ++batch) {
      std::copy_n(m.S, size_.state(), m.checkpoints + batch * size_.state());
      if (batch + 1 == batches) {
        return;
      }
      const int64_t first = batch * batch_;
      for_tiles(batch_, [&](int64_t i) { make(place_of(sequence, first + i), head, tile_in(m, i)); });
      for_columns(batch_, [&](int64_t column, int64_t columns) {
        for (int64_t i = 0; i < batch_; ++i) {
          const BackwardTile<T> tile = tile_in(m, i);
          read_and_write(place_of(sequence, first + i), head, tile.operands, m.S + column, column, columns,
                         tile.errors + column, tile.writes + column);
        }
      });
    }
  }

  void make(const Place& place, int64_t head, const BackwardTile<T>& tile) const {
    make_tile(prologue_, p_, place, head, size_, tile.rows, tile.operands, scratch_.mine());
  }

  /// One tile through a block of columns: errors and writes of its tokens, then the state after it.
  void read_and_write(const Place& place, int64_t head, const ChunkTile<T>& tile, T* S, int64_t column, int64_t columns,
                      T* errors, T* writes) const {
    small_gemm<T>(kTileRows, columns, size_.K, {tile.k_read(), size_.Kp, 1}, {S, size_.Vp, 1}, errors, size_.Vp,
                  Update::set);
    prologue_.values(place, head, column, columns, writes, size_.Vp);
    subtract_rows(kTileRows, columns, writes, size_.Vp, errors, size_.Vp);
    solve_writes(tile.N, tile.beta, columns, errors, size_.Vp, writes, size_.Vp);
    carry_state(tile, size_, columns, writes, size_.Vp, S);
  }

  /// From the gradient of the state after a tile to that before it, in a block of columns; dv on the way.
  void adjoint_of_tile(const Place& place, int64_t head, const BackwardTile<T>& tile, T* dS, int64_t column,
                       int64_t columns) const {
    const ChunkTile<T>& t = tile.operands;
    T* d_o = tile.d_o + column;
    T* lambda = tile.lambda + column;
    pack_matrix<T>(columns, size_.K, {dS, 1, size_.Vp}, tile.dS + column * size_.K);
    read_d_o(place, head, column, columns, d_o);
    small_gemm<T>(kTileRows, columns, size_.K, {t.kg, size_.Kp, 1}, {dS, size_.Vp, 1}, lambda, size_.Vp, Update::set);
    add_lower_product_adjoint(t.Aqk, columns, d_o, size_.Vp, lambda, size_.Vp);
    solve_writes_adjoint(t.N, t.beta, columns, lambda, size_.Vp);

    // dv = beta lambda, and what reaches the state before the tile: -k^' dv + q^' do, one product with 32 rows.
    constexpr int64_t kLd = kBlockColumns<T>;
    alignas(64) T dv[kTileRows * kLd];
    alignas(64) T both[2 * kTileRows * kLd];
    for (int64_t i = 0; i < kTileRows; ++i) {
      const Vec<T> beta = broadcast(t.beta + i);
      for_registers<T>(columns, [&](int64_t c) {
        const Vec<T> row = beta * Vec<T>::load(lambda + i * size_.Vp + c);
        row.store(dv + i * kLd + c);
        (Vec<T>(0.0) - row).store(both + i * kLd + c);
      });
    }
    copy_block(kTileRows, columns, d_o, size_.Vp, both + kTileRows * kLd, kLd);
    epilogue_.values(place, head, column, columns, dv, kLd);
    scale_rows(size_.K, columns, t.whole, dS, size_.Vp);
    small_gemm<T>(size_.K, columns, 2 * kTileRows, {t.read, 1, size_.Kp}, {both, kLd, 1}, dS, size_.Vp, Update::add);
  }

  void read_d_o(const Place& place, int64_t head, int64_t column, int64_t columns, T* d_o) const {
    if (d_o_.present()) {
      read_tile(d_o_, place, p_.T, p_.HV, head, size_.V, column, columns, d_o, size_.Vp);
      return;
    }
    for (int64_t i = 0; i < kTileRows; ++i) {
      std::fill_n(d_o + i * size_.Vp, columns, T(0));
    }
  }

  /// dbeta and dg of a tile; adds to its dq (of the scaled, normalised q) and dk.
  void finish_tile(const Place& place, int64_t head, const BackwardTile<T>& tile, T* dq, T* dk) const {
    Pieces<T> pieces(scratch_.mine());
    T* for_decay = pieces.take(decay_scratch<T>(size_.Kp));
    T* reads = pieces.take(2 * kTileRows * size_.Kp);  // do S', lambda S'
    T* arrivals = pieces.take(kTileRows * size_.Kp);   // d dS'
    T* squares = pieces.take(2 * kSquare);             // do d', lambda d'
    T* dN = pieces.take(kSquare);
    T* dAqk = pieces.take(kSquare);
    T* passing = pieces.take(size_.Kp);  // rowsum(S o dS)
    const int64_t Vp = size_.Vp;
    const int64_t Kp = size_.Kp;

    row_dots(2 * kTileRows, kTileRows, Vp, tile.d_o, Vp, tile.writes, Vp, squares, kTileRows);
    lower_parts(squares, tile.operands.beta, dAqk, dN);
    std::fill_n(reads, 2 * kTileRows * Kp, T(0));
    std::fill_n(arrivals, kTileRows * Kp, T(0));
    std::fill_n(passing, Kp, T(0));
    const int64_t K = size_.K;
    small_gemm<T>(2 * kTileRows, K, Vp, {tile.d_o, Vp, 1}, {tile.S, K, 1}, reads, Kp, Update::set);
    small_gemm<T>(kTileRows, K, Vp, {tile.writes, Vp, 1}, {tile.dS, K, 1}, arrivals, Kp, Update::set);
    column_dots(Vp, K, tile.S, tile.dS, passing);
    through_the_state(tile, reads, arrivals, passing, dq, dk);

    const bool centred = p_.safe_gate && may_be_centred(tile.rows.g, Kp);
    decay_products_backward(centred, DecayInputs<T>{tile.rows.q, tile.rows.k, tile.rows.g, Kp}, dN, dAqk, dq, dk,
                            tile.dg, for_decay);

    alignas(64) T dbeta[kTileRows];
    for (int64_t i = 0; i < kTileRows; ++i) {
      row_dots(1, 1, Vp, tile.lambda + i * Vp, Vp, tile.errors + i * Vp, Vp, dbeta + i, 1);
    }
    epilogue_.betas(place, head, dbeta);
  }

  /// dAqk = do d' with the diagonal, dN = -diag(beta) lambda d' without it; zeros elsewhere, whatever stands there.
  static void lower_parts(const T* squares, const T* beta, T* dAqk, T* dN) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t j = 0; j < kTileRows; ++j) {
        const int64_t at = i * kTileRows + j;
        dAqk[at] = j <= i ? squares[at] : T(0);
        dN[at] = j < i ? -(beta[i] * squares[kSquare + at]) : T(0);
      }
    }
  }

  /// The paths through the states before and after the tile: what its tokens read of the former, what they leave in the
  /// latter, and what passes by. Sets dg, adds to dq and dk.
  void through_the_state(const BackwardTile<T>& tile, const T* reads, const T* arrivals, const T* passing, T* dq,
                         T* dk) const {
    using V = Vec<T>;
    const int64_t Kp = size_.Kp;
    for_registers<T>(Kp, [&](int64_t c) {
      const V around = V::load(tile.operands.whole + c) * V::load(passing + c);
      V crossing = around;  // step i decays what is read at i and later
      for (int64_t i = kTileRows - 1; i >= 0; --i) {
        const int64_t at = i * Kp + c;
        const V from_start = V::load(tile.rows.from_start + at);
        const V d_q = from_start * V::load(reads + at);
        const V d_k_read =
            V(0.0) - from_start * (broadcast(tile.operands.beta + i) * V::load(reads + kTileRows * Kp + at));
        const V d_k_write = V::load(tile.rows.to_end + at) * V::load(arrivals + at);
        crossing = crossing + V::load(tile.rows.q + at) * d_q + V::load(tile.rows.k + at) * d_k_read;
        crossing.store(tile.dg + at);
        (V::load(dq + at) + d_q).store(dq + at);
        (V::load(dk + at) + (d_k_read + d_k_write)).store(dk + at);
      }
      crossing = V(0.0);  // and what was written before i
      for (int64_t i = 0; i < kTileRows; ++i) {
        const int64_t at = i * Kp + c;
        (V::load(tile.dg + at) + crossing).store(tile.dg + at);
        crossing = crossing + V::load(tile.rows.k + at) * (V::load(tile.rows.to_end + at) * V::load(arrivals + at));
      }
    });
  }

  const KernelProblem& p_;
  const KernelGradients& out_;
  Sizes<T> size_;
  Prologue<T> prologue_;
  Epilogue<T> epilogue_;
  RowReader<T> d_o_;
  Tasks tasks_;
  BackwardStates<T> states_;
  int64_t batch_;  // tiles
  ThreadMemory<T> scratch_;
  GateSumTable sums_;
};

}  // namespace

template <class T>
void chunk_backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
                    const KernelGradients& gradients) {
  ChunkBackward<T>(problem, inputs, upstream, gradients).run();
}

template void chunk_backward<float>(const KernelProblem&, const KernelInputs&, const KernelUpstream&,
                                    const KernelGradients&);
template void chunk_backward<double>(const KernelProblem&, const KernelInputs&, const KernelUpstream&,
                                     const KernelGradients&);

}  // namespace deltatape::cpu::kda

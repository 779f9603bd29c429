// docs/chunk-backward.md. Batches of tiles from the last to the first; in each
//   make     the tiles again                                               parallel over tiles
//   replay   the states before the tiles, what is wrong, what is written   parallel over blocks of columns
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
#include "backends/cpu/row_sums.h"

namespace deltatape::cpu::kda {
namespace {

/// Tiles whose states are in memory at a time; more where threads share one head.
constexpr int64_t kTilesPerBatch = kCheckpointSteps / kTileRows;
constexpr int64_t kTilesPerSharedBatch = 4 * kTilesPerBatch;

/// What backward keeps of one tile of one value head between its passes.
template <class T>
struct BackwardTile {
  ChunkTile<T> operands;
  TileRows<T> rows;
  T* S;       // [K, Vp], the state before the tile; that before the first tile of a batch is elsewhere
  T* dS;      // [K, Vp], the gradient of the state after the tile; that after the last tile of a batch is elsewhere
  T* w;       // [16, Vp], the gradient of k^ S: -beta lambda, lambda being the gradient of d
  T* d_o;     // [16, Vp], behind w, as q^ is behind k^
  T* writes;  // [16, Vp], d; behind d_o: finish_tile takes the three as one matrix of 48 rows
  T* dg;      // [16, Kp]

  static int64_t elements(const Sizes<T>& s) {
    return ChunkTile<T>::elements(s) + TileRows<T>::elements(s.Kp) + 2 * Pieces<T>::rounded(s.state()) +
           Pieces<T>::rounded(3 * kTileRows * s.Vp) + Pieces<T>::rounded(kTileRows * s.Kp);
  }
  BackwardTile(T* memory, const Sizes<T>& s) : operands(memory, s), rows(memory + ChunkTile<T>::elements(s), s.Kp) {
    Pieces<T> pieces(memory + ChunkTile<T>::elements(s) + TileRows<T>::elements(s.Kp));
    S = pieces.take(s.state());
    dS = pieces.take(s.state());
    w = pieces.take(3 * kTileRows * s.Vp);
    d_o = w + kTileRows * s.Vp;
    writes = d_o + kTileRows * s.Vp;
    dg = pieces.take(kTileRows * s.Kp);
  }
};

/// Working memory of one sequence and head of q and k.
template <class T>
struct HeadMemory {
  T* dq;           // [batch, 16, Kp], sums over the group's value heads
  T* dk;           // [batch, 16, Kp]
  T* checkpoints;  // [group, batches, K, Vp], states before the batches
  T* errors;       // [group, tiles, 16, Vp], e: what each token finds wrong
  T* dS;           // [group, 2, K, Vp], carried from batch to batch
  T* tiles;        // of one batch
  TileGateSums* gate_sums;
};

/// What belongs to one value head of the group.
template <class T>
struct ValueHead {
  int64_t n;  // the sequence
  int64_t head;
  T* checkpoints;
  T* errors;
  T* dS;  // [2, K, Vp]
};

template <class T>
class ChunkBackward {
 public:
  ChunkBackward(const KernelProblem& p, const KernelInputs& in, const KernelUpstream& up, const KernelGradients& out)
      : p_(p),
        out_(out),
        size_(p),
        group_(p.HV / p.H),
        prologue_(p, in),
        epilogue_(p, in, out),
        d_o_(up.d_o, p.V),
        tasks_(p, p.H),
        states_(p, in, up, out),
        side_by_side_(side_by_side(tasks_)),
        blocks_(size_, !side_by_side_),
        batch_(side_by_side_ ? kTilesPerBatch : kTilesPerSharedBatch),
        scratch_(decay_scratch<T>(size_.Kp) + 9 * kTileRows * std::max(size_.Kp, size_.Vp) + 4 * kSquare +
                 Pieces<T>::rounded(size_.Kp)),
        sums_(p, out) {}

  void run() {
    const double per_token = 0.4 * static_cast<double>(size_.K * size_.V * group_);
    const int64_t tiles = longest_in_tiles(p_);
    const int64_t batches = ceil_div(tiles, batch_);
    const int64_t workers = side_by_side_ ? worker_count(tasks_, per_token) : 1;
    const int64_t in_batch = std::min(tiles, batch_);
    const int64_t rows = in_batch * kTileRows * size_.Kp;
    const int64_t checkpoints = group_ * (states_.kept() ? 0 : batches * size_.state());
    const int64_t errors = group_ * (states_.kept() ? in_batch : tiles) * kTileRows * size_.Vp;
    const int64_t gradients = group_ * 2 * size_.state();
    const auto rounded = Pieces<T>::rounded;
    const WorkerMemory<T> memory(workers, 2 * rounded(rows) + rounded(checkpoints) + rounded(errors) +
                                              rounded(gradients) + in_batch * BackwardTile<T>::elements(size_));
    std::vector<TileGateSums> gate_sums(static_cast<size_t>(workers),
                                        TileGateSums(in_batch, sums_.with_bias() ? size_.K : 0));
    run_tasks(tasks_, workers, [&](int64_t task, int64_t worker) {
      HeadMemory<T> m{};
      Pieces<T> pieces(memory.of(worker));
      m.dq = pieces.take(rows);
      m.dk = pieces.take(rows);
      m.checkpoints = pieces.take(checkpoints);
      m.errors = pieces.take(errors);
      m.dS = pieces.take(gradients);
      m.tiles = pieces.take(0);
      m.gate_sums = &gate_sums[static_cast<size_t>(worker)];
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
    parallel_for(count, 0.2 * static_cast<double>(kTileRows * size_.K * size_.V), [&](int64_t i) {
      f(i);
      end_of_shared_part();
    });
  }
  /// Calls f(first column, columns) for every block of columns.
  template <class F>
  void for_columns(int64_t tiles, F f) const {
    const double each = 0.2 * static_cast<double>(tiles * kTileRows * size_.K * blocks_.width());
    parallel_for(blocks_.count(), each, [&](int64_t block) {
      f(blocks_.first(block), blocks_.columns(block));
      end_of_shared_part();
    });
  }
  /// Of tasks side by side, run_tasks ends the streams, once.
  void end_of_shared_part() const {
    if (!side_by_side_) {
      end_of_stream();
    }
  }

  [[nodiscard]] ValueHead<T> value_head(int64_t n, int64_t head, int64_t member, const HeadMemory<T>& m) const {
    const int64_t tiles = tile_count(p_.sequences[static_cast<size_t>(n)]);
    const int64_t errors = states_.kept() ? std::min(tiles, batch_) : tiles;
    return {n, head * group_ + member, m.checkpoints + member * ceil_div(tiles, batch_) * size_.state(),
            m.errors + member * errors * kTileRows * size_.Vp, m.dS + member * 2 * size_.state()};
  }
  /// The gradient of the state after a batch; -1 stands for that of the state before the first one.
  [[nodiscard]] T* gradient_after(const ValueHead<T>& v, int64_t batch) const {
    return v.dS + (batch & 1) * size_.state();
  }

  void sequence_and_head(int64_t n, int64_t head, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t tiles = tile_count(sequence);
    const int64_t batches = ceil_div(tiles, batch_);
    const int64_t per_tile = kTileRows * size_.Kp;
    for (int64_t member = 0; member < group_; ++member) {
      const ValueHead<T> v = value_head(n, head, member, m);
      states_.load_gradient(n, v.head, gradient_after(v, batches - 1));
      find_checkpoints(v, m);
    }
    for (int64_t batch = batches - 1; batch >= 0; --batch) {
      const int64_t first = batch * batch_;
      const int64_t count = std::min(batch_, tiles - first);
      std::fill_n(m.dq, count * per_tile, T(0));
      std::fill_n(m.dk, count * per_tile, T(0));
      for (int64_t member = 0; member < group_; ++member) {
        backward_of_batch(value_head(n, head, member, m), batch, count, m);
      }
      for_tiles(count, [&](int64_t i) {
        const TileRows<T> rows = tile_in(m, i).rows;
        const Place place = place_of(sequence, first + i);
        epilogue_.queries(place, head, rows.q, rows.q_norm, m.dq + i * per_tile);
        epilogue_.keys(place, head, rows.k, rows.k_norm, m.dk + i * per_tile);
      });
    }
    for (int64_t member = 0; member < group_; ++member) {
      const ValueHead<T> v = value_head(n, head, member, m);
      states_.store_gradient(n, v.head, gradient_after(v, -1));
    }
  }

  /// Unless forward kept states: those before all batches, and the errors of all batches but the last, by going
  /// through the sequence once more.
  void find_checkpoints(const ValueHead<T>& v, const HeadMemory<T>& m) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(v.n)];
    const int64_t batches = ceil_div(tile_count(sequence), batch_);
    if (states_.kept() || batches == 0) {
      return;
    }
    states_.load_initial(v.n, v.head, v.checkpoints);
    for (int64_t batch = 0; batch + 1 < batches; ++batch) {
      const int64_t first = batch * batch_;
      for_tiles(batch_, [&](int64_t i) {
        const BackwardTile<T> tile = tile_in(m, i);
        make(place_of(sequence, first + i), v.head, tile, TileParts::keys);
        prologue_.values(place_of(sequence, first + i), v.head, tile.operands.v);
      });
      for_columns(batch_, [&](int64_t column, int64_t columns) {
        const T* before = v.checkpoints + batch * size_.state() + column;
        T* after = v.checkpoints + (batch + 1) * size_.state() + column;
        for (int64_t i = 0; i < batch_; ++i) {
          const BackwardTile<T> tile = tile_in(m, i);
          T* writes = tile.writes + column;
          find_errors(tile.operands, before, column, columns, errors_of(v, first + i) + column, writes);
          Ahead ahead;  // the inputs of the next batch
          const RowShare share(column / blocks_.width(), blocks_.count());
          prologue_.ask(place_of(sequence, first + batch_ + i), share.first, share.count, v.head, true, ahead);
          update_state(size_.K, columns, kTileRows, tile.operands.whole, tile.operands.kg, size_.Kp, writes, size_.Vp,
                       before, after, size_.Vp, ahead);
          before = after;
        }
      });
    }
  }
  [[nodiscard]] T* errors_of(const ValueHead<T>& v, int64_t tile) const {
    return v.errors + (states_.kept() ? tile % batch_ : tile) * kTileRows * size_.Vp;
  }

  void make(const Place& place, int64_t head, const BackwardTile<T>& tile, TileParts parts) const {
    make_tile(prologue_, p_, place, head, size_, tile.rows, tile.operands, scratch_.mine(), parts);
  }

  /// e and d of a tile from the state before it, in a block of columns.
  void find_errors(const ChunkTile<T>& tile, const T* S, int64_t column, int64_t columns, T* errors, T* writes) const {
    constexpr int64_t kLd = kBlockColumns<T>;
    alignas(64) T read[kTileRows * kLd];
    small_gemm<T>(kTileRows, columns, size_.K, {tile.k_read(), size_.Kp, 1}, {S, size_.Vp, 1}, read, kLd, Update::set);
    solve_writes(tile.N, tile.beta, columns, tile.v + column, size_.Vp, read, kLd, errors, size_.Vp, writes, size_.Vp);
  }

  void backward_of_batch(const ValueHead<T>& v, int64_t batch, int64_t count, const HeadMemory<T>& m) {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(v.n)];
    const int64_t first = batch * batch_;
    const bool errors_known = !states_.kept() && first + count < tile_count(sequence);
    const T* S = first_state(v, batch, m);
    for_tiles(count, [&](int64_t i) {
      const BackwardTile<T> tile = tile_in(m, i);
      const Place place = place_of(sequence, first + i);
      make(place, v.head, tile, TileParts::all);
      if (!errors_known) {
        prologue_.values(place, v.head, tile.operands.v);
      }
      read_d_o(place, v.head, tile.d_o);
    });
    for_columns(count, [&](int64_t column, int64_t columns) {
      replay(v, first, count, errors_known, S, column, columns, m);
      const T* after = gradient_after(v, batch) + column;
      for (int64_t i = count - 1; i >= 0; --i) {
        T* before = (i > 0 ? tile_in(m, i - 1).dS : gradient_after(v, batch - 1)) + column;
        Ahead ahead;
        ask_for_batch_before(v, batch, i, count, column / blocks_.width(), ahead);
        adjoint_of_tile(place_of(sequence, first + i), v.head, tile_in(m, i), errors_of(v, first + i), after, before,
                        column, columns, ahead);
        after = before;
      }
    });
    for_tiles(count, [&](int64_t i) {
      const BackwardTile<T> tile = tile_in(m, i);
      const int64_t row = i * kTileRows * size_.Kp;
      finish_tile(place_of(sequence, first + i), v.head, tile, i > 0 ? tile.S : S,
                  i + 1 < count ? tile.dS : gradient_after(v, batch), errors_of(v, first + i), m.dq + row, m.dk + row);
      GateSums& sums = m.gate_sums->clear(i);
      epilogue_.log_decays(place_of(sequence, first + i), v.head, tile.dg, sums);
    });
    for (int64_t i = count - 1; i >= 0; --i) {
      sums_.add(v.n, v.head, m.gate_sums->at(i));
    }
  }

  /// What the batch before will read, shared among tiles and blocks of columns.
  void ask_for_batch_before(const ValueHead<T>& v, int64_t batch, int64_t i, int64_t count, int64_t block,
                            Ahead& ahead) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(v.n)];
    const int64_t number = batch * batch_ + i;
    if (batch == 0) {
      return;
    }
    const int64_t blocks = blocks_.count();
    if (!states_.kept()) {
      const T* errors = errors_of(v, (batch - 1) * batch_);
      const T* states = v.checkpoints + (batch - 1) * size_.state();
      ahead.add(piece_of(errors, batch_ * kTileRows * size_.Vp, i * blocks + block, count * blocks));
      ahead.add(piece_of(states, size_.state(), i * blocks + block, count * blocks));
    }
    for (int64_t tile = i; tile < batch_; tile += count) {  // the batch before is a whole one
      const Place place = place_of(sequence, number - batch_ + tile - i);
      const RowShare share(block, blocks);
      const int64_t row = (place.row * p_.T + place.first + share.first) * p_.HV + v.head;
      prologue_.ask(place, share.first, share.count, v.head, states_.kept(), ahead);
      ahead.add(d_o_.place(row, p_.HV, share.count));
    }
  }
  /// The `part`-th of `parts` equal pieces of an array.
  static SpacedRows piece_of(const T* x, int64_t elements, int64_t part, int64_t parts) {
    const int64_t first = elements * part / parts;
    const int64_t bytes = (elements * (part + 1) / parts - first) * static_cast<int64_t>(sizeof(T));
    return {reinterpret_cast<const char*>(x + first), 1, bytes, 0};
  }

  /// The state before a batch.
  [[nodiscard]] const T* first_state(const ValueHead<T>& v, int64_t batch, const HeadMemory<T>& m) const {
    if (!states_.kept()) {
      return v.checkpoints + batch * size_.state();
    }
    T* S = tile_in(m, 0).S;
    if (batch == 0) {
      states_.load_initial(v.n, v.head, S);
    } else {
      states_.load_kept(v.n, v.head, batch * batch_ * kTileRows, S);
    }
    return S;
  }

  /// The states before the tiles of a batch, e and d, in a block of columns.
  void replay(const ValueHead<T>& v, int64_t first, int64_t count, bool errors_known, const T* S, int64_t column,
              int64_t columns, const HeadMemory<T>& m) const {
    const T* before = S + column;
    for (int64_t i = 0; i < count; ++i) {
      const BackwardTile<T> tile = tile_in(m, i);
      T* errors = errors_of(v, first + i) + column;
      T* writes = tile.writes + column;
      if (errors_known) {
        for (int64_t row = 0; row < kTileRows; ++row) {
          const Vec<T> beta = broadcast(tile.operands.beta + row);
          const int64_t at = row * size_.Vp;
          for_registers<T>(columns, [&](int64_t c) { (beta * Vec<T>::load(errors + at + c)).store(writes + at + c); });
        }
      } else {
        find_errors(tile.operands, before, column, columns, errors, writes);
      }
      if (i + 1 < count) {
        T* after = tile_in(m, i + 1).S + column;
        Ahead nothing;
        update_state(size_.K, columns, kTileRows, tile.operands.whole, tile.operands.kg, size_.Kp, writes, size_.Vp,
                     before, after, size_.Vp, nothing);
        before = after;
      }
    }
  }

  /// From the gradient of the state after a tile to that before it, in a block of columns; w, and dv on the way. The
  /// errors become lambda e, of which dbeta is the sum.
  void adjoint_of_tile(const Place& place, int64_t head, const BackwardTile<T>& tile, T* errors, const T* after,
                       T* before, int64_t column, int64_t columns, Ahead& ahead) const {
    constexpr int64_t kLd = kBlockColumns<T>;
    const ChunkTile<T>& t = tile.operands;
    const int64_t Vp = size_.Vp;
    alignas(64) T lambda[kTileRows * kLd];
    alignas(64) T dv[kTileRows * kLd];
    small_gemm<T>(kTileRows, columns, size_.K, {t.kg, size_.Kp, 1}, {after, Vp, 1}, lambda, kLd, Update::set);
    add_lower_product_adjoint(t.Aqk, columns, tile.d_o + column, Vp, lambda, kLd);
    solve_writes_adjoint(t.N, t.beta, columns, lambda, kLd);
    for (int64_t i = 0; i < kTileRows; ++i) {
      const Vec<T> beta = broadcast(t.beta + i);
      T* error = errors + i * Vp + column;
      for_registers<T>(columns, [&](int64_t c) {
        const Vec<T> x = Vec<T>::load(lambda + i * kLd + c);
        const Vec<T> row = beta * x;
        row.store(dv + i * kLd + c);
        (-row).store(tile.w + i * Vp + column + c);
        (x * Vec<T>::load(error + c)).store(error + c);
      });
    }
    epilogue_.values(place, head, column, columns, dv, kLd);
    // What reaches the state before the tile: k^' w + q^' do, one product with 32 rows.
    update_state(size_.K, columns, 2 * kTileRows, t.whole, t.read, size_.Kp, tile.w + column, Vp, after, before, Vp,
                 ahead);
  }

  void read_d_o(const Place& place, int64_t head, T* d_o) const {
    if (d_o_.present()) {
      read_columns(d_o_, place, p_.T, p_.HV, head, size_.V, 0, size_.Vp, d_o, size_.Vp);
    } else {
      std::fill_n(d_o, kTileRows * size_.Vp, T(0));
    }
  }

  /// dbeta and dg of a tile; adds to its dq (of the scaled, normalised q) and dk.
  void finish_tile(const Place& place, int64_t head, const BackwardTile<T>& tile, const T* S, const T* dS,
                   const T* lambda_errors, T* dq, T* dk) const {
    constexpr int64_t kAll = 3 * kTileRows;
    const int64_t Vp = size_.Vp;
    const int64_t Kp = size_.Kp;
    const int64_t K = size_.K;
    Pieces<T> pieces(scratch_.mine());
    T* for_decay = pieces.take(decay_scratch<T>(Kp));
    T* columns = pieces.take(kAll * std::max(Kp, Vp));  // [w; do; d]' [Vp, 48]
    T* rows = pieces.take(kAll * Kp);                   // w S', do S', d dS', [48, Kp]
    T* squares = pieces.take(2 * kSquare);              // w d', do d'
    T* dN = pieces.take(kSquare);
    T* dAqk = pieces.take(kSquare);
    T* passing = pieces.take(Kp);  // rowsum(S o dS)

    row_dots(2 * kTileRows, kTileRows, Vp, tile.w, Vp, tile.writes, Vp, squares, kTileRows);
    lower_parts(squares, dAqk, dN);
    // Transposed: the products' vectors then run along these 48 rows, and the two states are read as they are.
    T* results = pieces.take(kAll * Kp);  // [Kp, 48]
    pack_matrix<T>(Vp, kAll, {tile.w, 1, Vp}, columns);
    small_gemm<T>(K, 2 * kTileRows, Vp, {S, Vp, 1}, {columns, kAll, 1}, results, kAll, Update::set);
    small_gemm<T>(K, kTileRows, Vp, {dS, Vp, 1}, {columns + 2 * kTileRows, kAll, 1}, results + 2 * kTileRows, kAll,
                  Update::set);
    std::fill_n(results + K * kAll, (Kp - K) * kAll, T(0));
    pack_matrix<T>(kAll, Kp, {results, 1, kAll}, rows);
    dots_of_rows(K, Vp, S, dS, Vp, passing);
    std::fill_n(passing + K, Kp - K, T(0));
    through_the_state(tile, rows, passing, dq, dk);

    const bool centred = p_.safe_gate && may_be_centred(tile.rows.g, Kp);
    decay_products_backward(centred, DecayInputs<T>{tile.rows.q, tile.rows.k, tile.rows.g, Kp}, dN, dAqk, dq, dk,
                            tile.dg, for_decay);

    alignas(64) T dbeta[kTileRows];
    for (int64_t i = 0; i < kTileRows; ++i) {
      dbeta[i] = static_cast<T>(sum_row<T>([](Vec<T> x) { return x; }, Vp, lambda_errors + i * Vp));
    }
    epilogue_.betas(place, head, dbeta);
  }

  /// dAqk = do d' with the diagonal, dN = w d' without it; zeros elsewhere, whatever stands there.
  static void lower_parts(const T* squares, T* dAqk, T* dN) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t j = 0; j < kTileRows; ++j) {
        const int64_t at = i * kTileRows + j;
        dN[at] = j < i ? squares[at] : T(0);
        dAqk[at] = j <= i ? squares[kSquare + at] : T(0);
      }
    }
  }

  /// The paths through the states before and after the tile: what its tokens read of the former, what they leave in the
  /// latter, and what passes by. Sets dg, adds to dq and dk.
  void through_the_state(const BackwardTile<T>& tile, const T* products, const T* passing, T* dq, T* dk) const {
    using V = Vec<T>;
    const int64_t Kp = size_.Kp;
    const T* d_k_reads = products;  // w S'
    const T* d_q_reads = d_k_reads + kTileRows * Kp;
    const T* arrivals = d_q_reads + kTileRows * Kp;
    for_registers<T>(Kp, [&](int64_t c) {
      const V around = V::load(tile.operands.whole + c) * V::load(passing + c);
      V crossing = around;  // step i decays what is read at i and later
      for (int64_t i = kTileRows - 1; i >= 0; --i) {
        const int64_t at = i * Kp + c;
        const V from_start = V::load(tile.rows.from_start + at);
        const V d_q = from_start * V::load(d_q_reads + at);
        const V d_k_read = from_start * V::load(d_k_reads + at);
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
  int64_t group_;  // value heads of a head of q and k
  Prologue<T> prologue_;
  Epilogue<T> epilogue_;
  RowReader<T> d_o_;
  Tasks tasks_;
  BackwardStates<T> states_;
  bool side_by_side_;
  ColumnBlocks<T> blocks_;
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

// docs/chunk-forward.md: tiles are made (in parallel), then the state goes through them, block of columns by block of
// columns (in parallel), so that a block stays in the first-level cache.
#include "backends/cpu/gemm.h"
#include "backends/cpu/kda/chunk_state.h"
#include "backends/cpu/kda/chunk_tile.h"
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/state_keeper.h"
#include "backends/cpu/kda/triangle.h"

namespace deltatape::cpu::kda {
namespace {

/// Tiles that are made at a time: 64 tokens stay in the second-level cache; more where threads share one head.
constexpr int64_t kTilesPerBatch = kCheckpointSteps / kTileRows;
constexpr int64_t kTilesPerSharedBatch = 16 * kTilesPerBatch;

template <class T>
class ChunkForward {
 public:
  ChunkForward(const KernelProblem& p, const KernelInputs& in, const KernelOutputs& out)
      : p_(p),
        size_(p),
        prologue_(p, in),
        o_(out.o, p.V),
        tasks_(p, p.HV),
        side_by_side_(side_by_side(tasks_)),
        blocks_(size_, !side_by_side_),
        scratch_(TileRows<T>::elements(size_.Kp) + decay_scratch<T>(size_.Kp)),
        keeper_(p, in, out) {}

  void run() {
    const double per_token = 0.1 * static_cast<double>(size_.K * size_.V);
    const int64_t workers = side_by_side_ ? worker_count(tasks_, per_token) : 1;
    const int64_t longest = longest_in_tiles(p_);
    tiles_per_batch_ = std::min(side_by_side_ ? kTilesPerBatch : kTilesPerSharedBatch, std::max<int64_t>(longest, 1));
    const int64_t per_tile = ChunkTile<T>::elements(size_);
    const WorkerMemory<T> memory(workers, size_.state() + tiles_per_batch_ * per_tile);
    run_tasks(tasks_, workers, [&](int64_t task, int64_t worker) {
      sequence_and_head(tasks_.sequence(task), tasks_.head(task), memory.of(worker));
    });
  }

 private:
  ChunkTile<T> tile_in(T* tiles, int64_t index) const {
    return ChunkTile<T>(tiles + index * ChunkTile<T>::elements(size_), size_);
  }

  void sequence_and_head(int64_t n, int64_t head, T* memory) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    T* S = memory;
    T* tiles = memory + size_.state();
    keeper_.load_initial(n, head, S);
    const int64_t count = tile_count(sequence);
    for (int64_t first = 0; first < count; first += tiles_per_batch_) {
      const int64_t in_batch = std::min(tiles_per_batch_, count - first);
      parallel_for(in_batch, 100.0 * static_cast<double>(size_.K),
                   [&](int64_t i) { make(sequence, first + i, head, tile_in(tiles, i)); });
      const double per_block = static_cast<double>(in_batch * size_.K * blocks_.width());
      parallel_for(blocks_.count(), per_block, [&](int64_t block) {
        const int64_t column = blocks_.first(block);
        const int64_t columns = blocks_.columns(block);
        for (int64_t i = 0; i < in_batch; ++i) {
          keeper_.keep(n, first + i, head, S, column, columns);
          Ahead ahead;  // the inputs of the next batch, shared among the blocks
          const RowShare share(block, blocks_.count());
          prologue_.ask(place_of(sequence, first + i + in_batch), share.first, share.count, head, true, ahead);
          step(place_of(sequence, first + i), head, tile_in(tiles, i), S + column, column, columns, ahead);
        }
        if (!side_by_side_) {
          end_of_stream();  // of tasks side by side, run_tasks does it, once
        }
      });
    }
    keeper_.keep_final(n, head, S, 0, size_.Vp);
  }

  void make(const Sequence& sequence, int64_t number, int64_t head, const ChunkTile<T>& tile) const {
    const TileRows<T> rows(scratch_.mine(), size_.Kp);
    const Place place = place_of(sequence, number);
    make_tile(prologue_, p_, place, head, size_, rows, tile, scratch_.mine() + TileRows<T>::elements(size_.Kp));
    prologue_.values(place, head, tile.v);
  }

  [[nodiscard]] int64_t row_of(const Place& place, int64_t i, int64_t head) const {
    return (place.row * p_.T + place.first + i) * p_.HV + head;
  }

  /// One tile through one block of columns; S points to the block's first column.
  void step(const Place& place, int64_t head, const ChunkTile<T>& tile, T* S, int64_t column, int64_t columns,
            Ahead& ahead) const {
    alignas(64) T read[2 * kTileRows * kBlockColumns<T>];  // what keys and queries read of S
    alignas(64) T writes[kTileRows * kBlockColumns<T>];
    constexpr int64_t kLd = kBlockColumns<T>;
    const int64_t present = std::min(columns, size_.V - column);
    small_gemm<T>(2 * kTileRows, columns, size_.K, {tile.read, size_.Kp, 1}, {S, size_.Vp, 1}, read, kLd, Update::set);
    solve_writes(tile.N, tile.beta, columns, tile.v + column, size_.Vp, read, kLd, read, kLd, writes, kLd);
    T* o = read + kTileRows * kLd;
    add_lower_product(tile.Aqk, columns, writes, kLd, o, kLd);
    for (int64_t i = 0; i < place.count; ++i) {
      o_.write(row_of(place, i, head), column, present, o + i * kLd);
    }
    update_state(size_.K, columns, kTileRows, tile.whole, tile.kg, size_.Kp, writes, kLd, S, S, size_.Vp, ahead);
  }

  const KernelProblem& p_;
  Sizes<T> size_;
  Prologue<T> prologue_;
  RowWriter<T> o_;
  Tasks tasks_;
  bool side_by_side_;
  ColumnBlocks<T> blocks_;
  ThreadMemory<T> scratch_;
  StateKeeper<T> keeper_;
  int64_t tiles_per_batch_ = 0;
};

}  // namespace

template <class T>
void chunk_forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs) {
  ChunkForward<T>(problem, inputs, outputs).run();
}

template void chunk_forward<float>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);
template void chunk_forward<double>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);

}  // namespace deltatape::cpu::kda

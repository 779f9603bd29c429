#include "backends/cpu/kda/chunk_tile.h"

namespace deltatape::cpu::kda {

template <class T>
void make_tile(const Prologue<T>& prologue, const KernelProblem& problem, const Place& place, int64_t value_head,
               const Sizes<T>& size, const TileRows<T>& rows, const ChunkTile<T>& tile, T* scratch, TileParts parts) {
  using V = Vec<T>;
  const int64_t head = value_head / (problem.HV / problem.H);
  const bool with_queries = parts == TileParts::all;
  if (with_queries) {
    prologue.queries(place, head, rows.q, rows.q_norm);
  }
  prologue.keys(place, head, rows.k, rows.k_norm);
  prologue.log_decays(place, value_head, rows.g);
  prologue.betas(place, value_head, tile.beta);

  decay_products(problem.safe_gate && may_be_centred(rows.g, size.Kp),
                 DecayInputs<T>{with_queries ? rows.q : nullptr, rows.k, rows.g, size.Kp},
                 DecayProducts<T>{rows.from_start, rows.to_end, tile.N, tile.Aqk}, scratch);
  const int64_t elements = kTileRows * size.Kp;
  for_registers<T>(elements, [&](int64_t i) {
    const V k = V::load(rows.k + i);
    const V from_start = V::load(rows.from_start + i);
    (k * from_start).store(tile.read + i);
    if (with_queries) {
      (V::load(rows.q + i) * from_start).store(tile.read + elements + i);
    }
    (k * V::load(rows.to_end + i)).store(tile.kg + i);
  });
  std::copy_n(rows.from_start + elements - size.Kp, size.Kp, tile.whole);
}

template void make_tile(const Prologue<float>&, const KernelProblem&, const Place&, int64_t, const Sizes<float>&,
                        const TileRows<float>&, const ChunkTile<float>&, float*, TileParts);
template void make_tile(const Prologue<double>&, const KernelProblem&, const Place&, int64_t, const Sizes<double>&,
                        const TileRows<double>&, const ChunkTile<double>&, double*, TileParts);

}  // namespace deltatape::cpu::kda

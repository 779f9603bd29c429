#include "ops/kda/state_loop.h"

#include <algorithm>

#include "ops/arithmetic.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/views.h"

namespace deltatape::kda {

StateHistory carry_states(const ChunkTable& table, const StateSteps& steps, Tensor state, bool want_final) {
  const std::vector<Tensor> u = split(steps.u, table.active, 0);
  const std::vector<Tensor> w = split(steps.w, table.active, 0);
  const std::vector<Tensor> kg = split(transpose(steps.kg, -1, -2), table.active, 0);
  const std::vector<Tensor> decay = split(steps.decay, table.active, 0);
  std::vector<Tensor> before;
  std::vector<Tensor> v_new;
  std::vector<Tensor> finished;  // states of sequences that have ended, the shortest first
  for (size_t c = 0; c < table.active.size(); ++c) {
    const int64_t going_on = table.active[c];
    if (going_on < state.size(0)) {
      const std::vector<Tensor> parted = split(state, {going_on, state.size(0) - going_on}, 0);
      state = parted[0];
      finished.push_back(parted[1]);
    }
    before.push_back(state);
    v_new.push_back(sub(u[c], matmul(w[c], state)));
    if (want_final || c + 1 < table.active.size()) {
      state = add(mul(state, decay[c]), matmul(kg[c], v_new.back()));
    }
  }
  StateHistory history{cat(before, 0), cat(v_new, 0), Tensor()};
  if (want_final) {
    finished.push_back(state);
    std::reverse(finished.begin(), finished.end());
    history.final_states = cat(finished, 0);
  }
  return history;
}

}  // namespace deltatape::kda

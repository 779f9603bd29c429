// The recurrence, token after token. Columns of the state never mix: where sequences and heads are few, blocks of
// columns are shared among the threads, each reading q, k and g for itself.
#include "backends/cpu/kda/kernels.h"
#include "backends/cpu/kda/prologue.h"
#include "backends/cpu/kda/recurrent_step.h"
#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/state_keeper.h"

namespace deltatape::cpu::kda {
namespace {

template <class T>
class RecurrentForward {
 public:
  RecurrentForward(const KernelProblem& p, const KernelInputs& in, const KernelOutputs& out)
      : p_(p),
        size_(p),
        prologue_(p, in),
        o_(out.o, p.V),
        parts_(side_by_side(Tasks(p, p.HV)) ? 1 : size_.column_blocks()),
        tasks_(p, p.HV * parts_),
        keeper_(p, in, out) {}

  void run() {
    const double per_token = 0.3 * static_cast<double>(size_.K * size_.V) / static_cast<double>(parts_);
    const int64_t workers = worker_count(tasks_, per_token);
    const WorkerMemory<T> memory(workers, size_.state() + 3 * kTileRows * size_.Kp);
    run_tasks(tasks_, workers, [&](int64_t task, int64_t worker) {
      sequence_and_head(tasks_.sequence(task), tasks_.head(task) / parts_, tasks_.head(task) % parts_,
                        memory.of(worker));
    });
  }

 private:
  void sequence_and_head(int64_t n, int64_t head, int64_t part, T* memory) const {
    const Sequence& sequence = p_.sequences[static_cast<size_t>(n)];
    const int64_t begin = size_.column_blocks() * part / parts_ * kBlockColumns<T>;
    const int64_t end = std::min(size_.Vp, size_.column_blocks() * (part + 1) / parts_ * kBlockColumns<T>);
    T* S = memory;
    T* q = S + size_.state();
    T* k = q + kTileRows * size_.Kp;
    T* decay = k + kTileRows * size_.Kp;
    alignas(64) T beta[kTileRows];
    keeper_.load_initial(n, head, S);
    for (int64_t tile = 0; tile < tile_count(sequence); ++tile) {
      const Place place = place_of(sequence, tile);
      keeper_.keep(n, tile, head, S, begin, end - begin);
      prologue_.queries(place, head / (p_.HV / p_.H), q, nullptr);
      prologue_.keys(place, head / (p_.HV / p_.H), k, nullptr);
      prologue_.log_decays(place, head, decay);
      prologue_.betas(place, head, beta);
      for_registers<T>(place.count * size_.Kp, [&](int64_t i) { exp(Vec<T>::load(decay + i)).store(decay + i); });
      for (int64_t column = begin; column < end; column += kBlockColumns<T>) {
        const int64_t columns = std::min(kBlockColumns<T>, end - column);
        alignas(64) T values[kTileRows * kBlockColumns<T>];
        alignas(64) T outputs[kTileRows * kBlockColumns<T>];
        prologue_.value_columns(place, head, column, columns, values, kBlockColumns<T>);
        for (int64_t i = 0; i < place.count; ++i) {
          const Token<T> token{q + i * size_.Kp, k + i * size_.Kp, decay + i * size_.Kp, beta[i]};
          T* v = values + i * kBlockColumns<T>;
          T* o = outputs + i * kBlockColumns<T>;
          for_register_groups<T>(columns, [&](int64_t first, auto registers) {
            token_forward<T, registers.count>(size_.K, token, v + first, S + column + first, size_.Vp, v + first,
                                              o + first);
          });
          o_.write((place.row * p_.T + place.first + i) * p_.HV + head, column, std::min(columns, size_.V - column), o);
        }
      }
    }
    keeper_.keep_final(n, head, S, begin, end - begin);
  }

  const KernelProblem& p_;
  Sizes<T> size_;
  Prologue<T> prologue_;
  RowWriter<T> o_;
  int64_t parts_;  // that the columns of a head are cut into
  Tasks tasks_;
  StateKeeper<T> keeper_;
};

}  // namespace

template <class T>
void recurrent_forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs) {
  RecurrentForward<T>(problem, inputs, outputs).run();
}

template void recurrent_forward<float>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);
template void recurrent_forward<double>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);

}  // namespace deltatape::cpu::kda

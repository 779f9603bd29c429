#include "backends/cpu/kda/prologue.h"

#include <cmath>
#include <vector>

#include "backends/cpu/float_rows.h"
#include "backends/cpu/kda/gate.h"
#include "backends/cpu/row_sums.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu::kda {

template <class T>
Prologue<T>::Prologue(const KernelProblem& problem, const KernelInputs& inputs)
    : problem_(problem),
      inputs_(inputs),
      size_(problem),
      q_(inputs.q, problem.K),
      k_(inputs.k, problem.K),
      v_(inputs.v, problem.V),
      g_(inputs.g, problem.K),
      beta_(inputs.beta, 1) {}

template <class T>
void Prologue<T>::rows(const RowReader<T>& reader, const Place& place, int64_t head, double factor, T* out,
                       T* norm) const {
  const auto finish = [&](T* row, int64_t i) {
    double scale = 1.0;
    if (problem_.l2norm) {
      const double squares = sum_row<T>([](Vec<T> x) { return x * x; }, size_.Kp, row);
      scale = 1.0 / std::sqrt(squares + kNormEps);
    }
    if (norm != nullptr) {
      norm[i] = static_cast<T>(scale);
    }
    const Vec<T> scales(factor * scale);
    for_registers<T>(size_.Kp, [&](int64_t c) { (Vec<T>::load(row + c) * scales).store(row + c); });
  };
  read_columns(reader, place, problem_.T, problem_.H, head, size_.K, 0, size_.Kp, out, size_.Kp, finish);
}

template <class T>
void Prologue<T>::queries(const Place& place, int64_t head, T* q, T* norm) const {
  rows(q_, place, head, problem_.scale, q, norm);
}

template <class T>
void Prologue<T>::keys(const Place& place, int64_t head, T* k, T* norm) const {
  rows(k_, place, head, 1.0, k, norm);
}

template <class T>
void Prologue<T>::log_decays(const Place& place, int64_t value_head, T* g) const {
  if (problem_.gate == Gate::none) {
    read_columns(g_, place, problem_.T, problem_.HV, value_head, size_.K, 0, size_.Kp, g, size_.Kp);
    return;
  }
  Scratch<T> bias(size_.Kp);
  const GateOfHead<T> gate(problem_, inputs_, value_head, bias.data());
  const auto finish = [&](T* row, int64_t /*i*/) {
    for_registers<T>(size_.Kp, [&](int64_t c) { gate(Vec<T>::load(row + c), c).store(row + c); });
    std::fill(row + size_.K, row + size_.Kp, T(0));
  };
  read_columns(g_, place, problem_.T, problem_.HV, value_head, size_.K, 0, size_.Kp, g, size_.Kp, finish);
}

template <class T>
void Prologue<T>::betas(const Place& place, int64_t value_head, T* beta) const {
  using V = Vec<T>;
  for (int64_t i = 0; i < kTileRows; ++i) {
    beta[i] = 0;
    if (i < place.count) {
      beta_.read((place.row * problem_.T + place.first + i) * problem_.HV + value_head, 0, 1, beta + i);
    }
  }
  if (problem_.beta_sigmoid) {
    for_registers<T>(kTileRows, [&](int64_t i) {
      (V(problem_.beta_factor) * elementwise::sigmoid(V::load(beta + i))).store(beta + i);
    });
    std::fill(beta + place.count, beta + kTileRows, T(0));
  }
}

template <class T>
void Prologue<T>::values(const Place& place, int64_t value_head, T* v) const {
  read_columns(v_, place, problem_.T, problem_.HV, value_head, size_.V, 0, size_.Vp, v, size_.Vp);
}

template <class T>
void Prologue<T>::value_columns(const Place& place, int64_t value_head, int64_t first, int64_t columns, T* v,
                                int64_t ld) const {
  read_columns(v_, place, problem_.T, problem_.HV, value_head, size_.V, first, columns, v, ld);
}

template <class T>
void Prologue<T>::ask(const Place& place, int64_t first, int64_t count, int64_t value_head, bool values,
                      Ahead& ahead) const {
  const int64_t rows = std::min(count, place.count - first);
  if (rows <= 0) {
    return;
  }
  const int64_t token = place.row * problem_.T + place.first + first;
  const int64_t row = token * problem_.H + value_head / (problem_.HV / problem_.H);
  const int64_t value_row = token * problem_.HV + value_head;
  ahead.add(q_.place(row, problem_.H, rows));
  ahead.add(k_.place(row, problem_.H, rows));
  ahead.add(g_.place(value_row, problem_.HV, rows));
  if (values) {
    ahead.add(v_.place(value_row, problem_.HV, rows));
  }
}

template class Prologue<float>;
template class Prologue<double>;

}  // namespace deltatape::cpu::kda

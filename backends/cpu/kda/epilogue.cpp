#include "backends/cpu/kda/epilogue.h"

#include <cmath>

#include "backends/cpu/float_rows.h"
#include "backends/cpu/kda/gate.h"
#include "backends/cpu/row_sums.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu::kda {

GateSumTable::GateSumTable(const KernelProblem& problem, const KernelGradients& gradients)
    : heads_(problem.HV),
      sequences_(static_cast<int64_t>(problem.sequences.size())),
      K_(static_cast<size_t>(problem.K)),
      sums_(static_cast<size_t>(sequences_ * heads_)) {
  if (gradients.ddt_bias.defined()) {
    bias_sums_.resize(sums_.size() * K_, 0.0);
    for (size_t i = 0; i < sums_.size(); ++i) {
      sums_[i].ddt_bias = bias_sums_.data() + i * K_;
    }
  }
}

void GateSumTable::add(int64_t sequence, int64_t value_head, const GateSums& summand) {
  GateSums& sums = at(sequence, value_head);
  sums.dA_log += summand.dA_log;
  for (size_t c = 0; sums.ddt_bias != nullptr && c < K_; ++c) {
    sums.ddt_bias[c] += summand.ddt_bias[c];
  }
}

void GateSumTable::finish(const KernelGradients& gradients) const {
  const RowWriter<double> dA_log(gradients.dA_log, 1);
  const RowWriter<double> ddt_bias(gradients.ddt_bias, static_cast<int64_t>(K_));
  std::vector<double> bias(K_);
  for (int64_t head = 0; head < heads_; ++head) {
    double total = 0.0;
    std::fill(bias.begin(), bias.end(), 0.0);
    for (int64_t n = 0; n < sequences_; ++n) {
      const GateSums& part = sums_[static_cast<size_t>(n * heads_ + head)];
      total += part.dA_log;
      for (size_t c = 0; part.ddt_bias != nullptr && c < K_; ++c) {
        bias[c] += part.ddt_bias[c];
      }
    }
    dA_log.write(head, 0, 1, &total);
    ddt_bias.write_row(head, bias.data());
  }
}

template <class T>
Epilogue<T>::Epilogue(const KernelProblem& problem, const KernelInputs& inputs, const KernelGradients& gradients)
    : problem_(problem),
      inputs_(inputs),
      size_(problem),
      g_(inputs.g, problem.K),
      beta_(inputs.beta, 1),
      dq_(gradients.dq, problem.K),
      dk_(gradients.dk, problem.K),
      dv_(gradients.dv, problem.V),
      dg_(gradients.dg, problem.K),
      dbeta_(gradients.dbeta, 1) {}

/// With r = (x.x + eps)^-1/2 the operand was y = factor r x, so dx = factor r (dy - y (y . dy) / factor^2), for every
/// eps.
template <class T>
void Epilogue<T>::norm_rows(const RowWriter<T>& writer, const Place& place, int64_t head, double factor, const T* y,
                            const T* norm, const T* dy) const {
  using V = Vec<T>;
  if (!writer.present()) {
    return;
  }
  const double shrink = problem_.l2norm && factor != 0.0 ? 1.0 / (factor * factor) : 0.0;
  Scratch<T> dx(size_.Kp);
  for (int64_t i = 0; i < place.count; ++i) {
    const T* y_row = y + i * size_.Kp;
    const T* dy_row = dy + i * size_.Kp;
    double along = 0.0;
    if (problem_.l2norm) {
      along = shrink * sum_row<T>([](V a, V b) { return a * b; }, size_.Kp, y_row, dy_row);
    }
    const V scale(factor * static_cast<double>(norm[i]));
    const V part(along);
    for_registers<T>(size_.Kp, [&](int64_t c) {
      const V d = V::load(dy_row + c);  // without the norm y is not looked at: a NaN there stays there
      (scale * (problem_.l2norm ? fnma(part, V::load(y_row + c), d) : d)).store(dx.data() + c);
    });
    writer.write_row((place.row * problem_.T + place.first + i) * problem_.H + head, dx.data());
  }
}

template <class T>
void Epilogue<T>::queries(const Place& place, int64_t head, const T* q, const T* norm, const T* dq) const {
  norm_rows(dq_, place, head, problem_.scale, q, norm, dq);
}

template <class T>
void Epilogue<T>::keys(const Place& place, int64_t head, const T* k, const T* norm, const T* dk) const {
  norm_rows(dk_, place, head, 1.0, k, norm, dk);
}

template <class T>
void Epilogue<T>::log_decays(const Place& place, int64_t value_head, const T* dg, GateSums& sums) const {
  using V = Vec<T>;
  const auto row_of = [&](int64_t i) { return (place.row * problem_.T + place.first + i) * problem_.HV + value_head; };
  if (problem_.gate == Gate::none) {
    for (int64_t i = 0; i < place.count; ++i) {
      dg_.write_row(row_of(i), dg + i * size_.Kp);
    }
    return;
  }
  Scratch<T> bias(size_.Kp);
  Scratch<T> x(size_.Kp);
  const GateOfHead<T> gate(problem_, inputs_, value_head, bias.data());
  for (int64_t i = 0; i < place.count; ++i) {
    g_.read_padded(row_of(i), x.data(), size_.Kp);
    V dA_log(0.0);
    for_registers<T>(size_.Kp, [&](int64_t c) {
      const auto gradient = gate.backward(V::load(x.data() + c), V::load(dg + i * size_.Kp + c), c);
      gradient.dx.store(x.data() + c);
      dA_log = dA_log + gradient.dA_log;
    });
    dg_.write_row(row_of(i), x.data());
    sums.dA_log += sum_of_lanes(dA_log);
    if (sums.ddt_bias != nullptr) {
      for (int64_t c = 0; c < size_.K; ++c) {
        sums.ddt_bias[c] += static_cast<double>(x.data()[c]);
      }
    }
  }
}

template <class T>
void Epilogue<T>::betas(const Place& place, int64_t value_head, const T* dbeta) const {
  using V = Vec<T>;
  alignas(64) T b[kTileRows] = {};
  alignas(64) T db[kTileRows];
  const int64_t row = (place.row * problem_.T + place.first) * problem_.HV + value_head;
  std::copy_n(dbeta, kTileRows, db);
  if (problem_.beta_sigmoid) {
    for (int64_t i = 0; i < place.count; ++i) {
      beta_.read(row + i * problem_.HV, 0, 1, b + i);
    }
    for_registers<T>(kTileRows, [&](int64_t i) {
      const V logit = V::load(b + i);
      const V slope = V(problem_.beta_factor) * elementwise::sigmoid(logit) * elementwise::sigmoid(-logit);
      (V::load(dbeta + i) * slope).store(db + i);
    });
  }
  for (int64_t i = 0; i < place.count; ++i) {
    dbeta_.write(row + i * problem_.HV, 0, 1, db + i);
  }
}

template <class T>
void Epilogue<T>::values(const Place& place, int64_t value_head, int64_t first, int64_t columns, const T* dv,
                         int64_t ld) const {
  const int64_t present = std::min(columns, size_.V - first);
  for (int64_t i = 0; i < place.count; ++i) {
    dv_.write((place.row * problem_.T + place.first + i) * problem_.HV + value_head, first, present, dv + i * ld);
  }
}

template class Epilogue<float>;
template class Epilogue<double>;

}  // namespace deltatape::cpu::kda

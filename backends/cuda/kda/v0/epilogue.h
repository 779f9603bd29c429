// From the slices' sums of backward to gradients of the tensors of a call: the adjoint of prologue.h. All sums have a
// fixed order: slices and heads of a group one after another, tokens in blocks of kSumRows and then block after block.
#pragma once

#include "backends/cuda/block.h"
#include "backends/cuda/kda/v0/call.h"
#include "backends/cuda/kda/v0/elements.h"
#include "backends/cuda/kda/v0/gate.h"

namespace deltatape::cuda::kda::v0 {

/// Rows that one thread adds up for dA_log and ddt_bias.
inline constexpr int64_t kSumRows = 64;

/// dq or dk: the sum over slices and over the value heads of a group, and the adjoint of the norm. A block per row and
/// head of q and k. With y = r x, r = (x.x + eps)^-1/2, dx = r (dy - y (y . dy)), for every eps.
template <class T>
struct KeyGradients {
  Call call;
  int64_t slices;
  const T* sums;  // [slices, rows, heads, K]
  T factor;       // what the sums are to be multiplied by: scale for q, 1 for k
  const T* y;     // [rows, key_heads, K]
  const T* norm;  // [rows, key_heads]
  Writer<T> dx;   // [rows, H, K]

  DT_HD void operator()(Block<32>& block) const {
    const int64_t K = call.K;
    const int64_t row = block.index() / call.key_heads();
    const int64_t head = block.index() % call.key_heads();
    const auto dy = [&](int64_t c) {
      T sum = 0;
      for (int64_t value_head = head * call.group; value_head < (head + 1) * call.group; ++value_head) {
        for (int64_t slice = 0; slice < slices; ++slice) {
          sum += sums[((slice * call.rows + row) * call.heads + value_head) * K + c];
        }
      }
      return factor * sum;
    };
    const T* const y_row = y + block.index() * K;
    const int64_t to = (row * call.H + call.first_key_head() + head) * K;
    if (!call.l2norm) {  // y is not looked at: a NaN there stays there
      block.each(K, [&](int64_t c) { dx.put(to + c, dy(c)); });
      return;
    }
    const T along = block.template sum<T>(K, [&](int64_t c) { return y_row[c] * dy(c); });
    const T r = norm[block.index()];
    block.each(K, [&](int64_t c) { dx.put(to + c, r * (dy(c) - y_row[c] * along)); });
  }
};

/// dg: the sum over slices and the adjoint of the gate, for kSumRows rows of one value head by a block; and these rows'
/// share of dA_log and ddt_bias.
template <class T>
struct GateGradients {
  Call call;
  int64_t slices;
  const T* sums;  // [slices, rows, heads, K]
  Reader<T> g;    // [rows, HV, K]
  GateParameters<T> gate;
  Writer<T> dg;          // [rows, HV, K]
  double* A_log_sums;    // [row blocks, heads, K]; null: not wanted
  double* dt_bias_sums;  // [row blocks, heads, K]; null: not wanted

  DT_HD void operator()(Block<128>& block) const {
    const int64_t K = call.K;
    const int64_t head = block.index() % call.heads;
    const int64_t first = block.index() / call.heads * kSumRows;
    const int64_t end = first + kSumRows < call.rows ? first + kSumRows : call.rows;
    const int64_t value_head = call.first_head + head;
    block.each(K, [&](int64_t c) {
      const T a = gate.rate(value_head);
      double dA_log = 0.0;
      double ddt_bias = 0.0;
      for (int64_t row = first; row < end; ++row) {
        T dy = 0;
        for (int64_t slice = 0; slice < slices; ++slice) {
          dy += sums[((slice * call.rows + row) * call.heads + head) * K + c];
        }
        const int64_t element = (row * call.HV + value_head) * K + c;
        const GateGradient<T> gradient = gate_backward(call, a, gate.shifted(g[element], value_head, K, c), dy);
        dA_log += static_cast<double>(gradient.dA_log);
        ddt_bias += static_cast<double>(gradient.dx);
        if (dg.wanted()) {
          dg.put(element, gradient.dx);
        }
      }
      if (A_log_sums != nullptr) {
        A_log_sums[block.index() * K + c] = dA_log;
      }
      if (dt_bias_sums != nullptr) {
        dt_bias_sums[block.index() * K + c] = ddt_bias;
      }
    });
  }
};

/// dA_log and ddt_bias of one value head from the sums of GateGradients. A block per value head.
template <class T>
struct GateSums {
  Call call;
  int64_t row_blocks;
  const double* A_log_sums;
  const double* dt_bias_sums;
  Writer<T> dA_log;    // [HV]
  Writer<T> ddt_bias;  // [HV*K]

  DT_HD void operator()(Block<128>& block) const {
    const int64_t head = block.index();
    const auto total = [&](const double* sums, int64_t c) {
      double sum = 0.0;
      for (int64_t i = 0; i < row_blocks; ++i) {
        sum += sums[(i * call.heads + head) * call.K + c];
      }
      return sum;
    };
    if (ddt_bias.wanted()) {
      block.each(call.K, [&](int64_t c) {
        ddt_bias.put((call.first_head + head) * call.K + c, static_cast<T>(total(dt_bias_sums, c)));
      });
    }
    if (dA_log.wanted()) {
      const double sum = block.template sum<double>(call.K, [&](int64_t c) { return total(A_log_sums, c); });
      block.once([&] { dA_log.put(call.first_head + head, static_cast<T>(sum)); });
    }
  }
};

/// dbeta, element by element of [rows, heads]: the sum over slices and the adjoint of the sigmoid.
template <class T>
struct BetaGradients {
  Call call;
  int64_t slices;
  const T* sums;   // [slices, rows, heads]
  Reader<T> beta;  // [rows, HV], as given
  Writer<T> dbeta;

  DT_HD void operator()(int64_t i) const {
    T dy = 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
      dy += sums[slice * call.rows * call.heads + i];
    }
    const int64_t element = i / call.heads * call.HV + call.first_head + i % call.heads;
    if (call.beta_sigmoid) {
      const T logit = beta[element];
      dy *= static_cast<T>(call.beta_factor) * elementwise::sigmoid(logit) * elementwise::sigmoid(-logit);
    }
    dbeta.put(element, dy);
  }
};

}  // namespace deltatape::cuda::kda::v0

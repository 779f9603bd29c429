// What prep and the scans must compute, by plain loops in double: the operands of a chunk from their definitions, the
// states, outputs and gradients of states by the recurrence, token after token. Decays are products of steps, so any
// gate is exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/backends/cuda/kda/v1/chunk_model.h"

namespace deltatape::test::kda_v1 {

/// A chunk's operands, C rows; those behind the end of the sequence are zeros, with a one on the diagonal of A.
struct ChunkOperands {
  Matrix<double> w, kg, qg;   // [C,K]
  Matrix<double> Aqk, A;      // [C,C]
  std::vector<double> decay;  // [K], 2^G_last
};

/// The chunk of `rows` tokens from token `first` on.
inline ChunkOperands chunk_operands(const HeadInputs<double>& in, int first, int rows, int C) {
  const int K = in.k.cols;
  ChunkOperands out;
  out.w = out.kg = out.qg = Matrix<double>(C, K);
  out.Aqk = out.A = Matrix<double>(C, C);
  out.decay.assign(static_cast<size_t>(K), 1.0);
  Matrix<double> M(C, C);
  Matrix<double> reading(C, K);  // beta k 2^G
  std::vector<double> step(static_cast<size_t>(rows));
  for (int x = 0; x < K; ++x) {
    double through = 1.0;
    for (int i = 0; i < rows; ++i) {
      step[static_cast<size_t>(i)] = std::exp2(in.g(first + i, x));
      through *= step[static_cast<size_t>(i)];
      out.qg(i, x) = in.scale * in.q(first + i, x) * through;
      reading(i, x) = in.beta[static_cast<size_t>(first) + static_cast<size_t>(i)] * in.k(first + i, x) * through;
    }
    out.decay[static_cast<size_t>(x)] = through;
    double behind = 1.0;
    for (int i = rows - 1; i >= 0; --i) {
      out.kg(i, x) = in.k(first + i, x) * behind;
      behind *= step[static_cast<size_t>(i)];
      double arrived = 1.0;
      for (int j = i; j >= 0; --j) {
        const double pair = in.k(first + j, x) * arrived;
        out.Aqk(i, j) += in.scale * in.q(first + i, x) * pair;
        M(i, j) += in.beta[static_cast<size_t>(first) + static_cast<size_t>(i)] * in.k(first + i, x) * pair;
        arrived *= step[static_cast<size_t>(j)];
      }
    }
  }
  for (int i = 0; i < C; ++i) {
    out.A(i, i) = 1.0;
    for (int j = 0; j < i; ++j) {
      for (int r = j; r < i; ++r) {
        out.A(i, j) -= M(i, r) * out.A(r, j);
      }
    }
    for (int j = 0; j <= i; ++j) {
      for (int x = 0; x < K; ++x) {
        out.w(i, x) += out.A(i, j) * reading(j, x);
      }
    }
  }
  return out;
}

struct ForwardResults {
  Matrix<double> o;               // [T,V]
  Matrix<double> v_new;           // [T,V], what each token writes
  std::vector<Matrix<double>> h;  // [K,V], the states before chunks
  Matrix<double> ht;              // [K,V]
};

/// The recurrence, with the states before every C-th token.
inline ForwardResults forward_recurrence(const HeadInputs<double>& in, int C) {
  const int T = in.k.rows;
  const int K = in.k.cols;
  const int V = in.v.cols;
  ForwardResults out;
  out.o = out.v_new = Matrix<double>(T, V);
  Matrix<double> S = in.h0.rows > 0 ? in.h0 : Matrix<double>(K, V);
  std::vector<double> seen(static_cast<size_t>(V));
  for (int t = 0; t < T; ++t) {
    if (t % C == 0) {
      out.h.push_back(S);
    }
    std::fill(seen.begin(), seen.end(), 0.0);
    for (int x = 0; x < K; ++x) {
      const double decay = std::exp2(in.g(t, x));
      const double k = in.k(t, x);
      double* const row = &S(x, 0);
      for (int y = 0; y < V; ++y) {
        row[y] *= decay;
        seen[static_cast<size_t>(y)] += k * row[y];
      }
    }
    double* const writes = &out.v_new(t, 0);
    double* const o = &out.o(t, 0);
    for (int y = 0; y < V; ++y) {
      writes[y] = in.beta[static_cast<size_t>(t)] * (in.v(t, y) - seen[static_cast<size_t>(y)]);
    }
    for (int x = 0; x < K; ++x) {
      const double k = in.k(t, x);
      const double q = in.scale * in.q(t, x);
      double* const row = &S(x, 0);
      for (int y = 0; y < V; ++y) {
        row[y] += k * writes[y];
        o[y] += q * row[y];
      }
    }
  }
  out.ht = S;
  return out;
}

struct ReverseResults {
  std::vector<Matrix<double>> dS;  // [K,V], the gradients of the states after chunks
  Matrix<double> dv2;              // [T,V], of v_new by what it gives the chunk's outputs and the state after it
  Matrix<double> dh0;              // [K,V]
};

/// The recurrence backwards, token after token: the gradient of the state alone needs no state.
inline ReverseResults reverse_recurrence(const HeadInputs<double>& in, int C) {
  const int T = in.k.rows;
  const int K = in.k.cols;
  const int V = in.v.cols;
  ReverseResults out;
  out.dS.resize(static_cast<size_t>((T + C - 1) / C));
  out.dv2 = Matrix<double>(T, V);
  Matrix<double> P = in.dht.rows > 0 ? in.dht : Matrix<double>(K, V);
  std::vector<double> of_write(static_cast<size_t>(V));
  for (int t = T - 1; t >= 0; --t) {
    if (t % C == C - 1 || t == T - 1) {
      out.dS[static_cast<size_t>(t / C)] = P;
    }
    std::fill(of_write.begin(), of_write.end(), 0.0);
    for (int x = 0; x < K; ++x) {
      for (int y = 0; y < V; ++y) {
        P(x, y) += in.scale * in.q(t, x) * in.d_o(t, y);
        of_write[static_cast<size_t>(y)] += in.k(t, x) * P(x, y);
      }
    }
    for (int x = 0; x < K; ++x) {
      const double decay = std::exp2(in.g(t, x));
      const double read = in.beta[static_cast<size_t>(t)] * in.k(t, x);
      for (int y = 0; y < V; ++y) {
        P(x, y) = decay * (P(x, y) - read * of_write[static_cast<size_t>(y)]);
      }
    }
  }
  out.dh0 = P;
  for (int first = 0; first < T; first += C) {
    const int rows = std::min(C, T - first);
    const ChunkOperands chunk = chunk_operands(in, first, rows, C);
    const Matrix<double>& after = out.dS[static_cast<size_t>(first / C)];
    for (int i = 0; i < rows; ++i) {
      for (int y = 0; y < V; ++y) {
        for (int j = i; j < rows; ++j) {
          out.dv2(first + i, y) += chunk.Aqk(j, i) * in.d_o(first + j, y);
        }
        for (int x = 0; x < K; ++x) {
          out.dv2(first + i, y) += chunk.kg(i, x) * after(x, y);
        }
      }
    }
  }
  return out;
}

}  // namespace deltatape::test::kda_v1

// The chunk form of KDA's backward for one value head of one sequence, in plain loops: what every kernel of B1 to B3
// must compute, with each intermediate under its own name. With Real = double and no rounding it is the reference of
// the kernels' tests; with Real = float and the kernels' rounding points it says which error the kernels may have.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace deltatape::test::kda_v1 {

/// A dense row-major matrix.
template <class R>
struct Matrix {
  int rows = 0;
  int cols = 0;
  std::vector<R> x;
  Matrix() = default;
  Matrix(int m, int n) : rows(m), cols(n), x(static_cast<size_t>(m) * static_cast<size_t>(n), R(0)) {}
  R& operator()(int i, int j) { return x[static_cast<size_t>(i) * static_cast<size_t>(cols) + static_cast<size_t>(j)]; }
  const R& operator()(int i, int j) const {
    return x[static_cast<size_t>(i) * static_cast<size_t>(cols) + static_cast<size_t>(j)];
  }
};

/// The nearest bf16, ties to even.
inline float nearest_bf16(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7f800000U) != 0x7f800000U) {
    bits = (bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U;
  }
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

/// Which rounding points and which rules hold.
struct ModelOptions {
  int chunk = 64;
  bool bf16 = false;           // operands are rounded to bf16
  bool diagonal_apart = true;  // rule (i): the diagonal of dP takes no part in the products nor in dg
  bool same_factors = true;    // rule (ii): both sides of dg from the rounded factors that the products used
  bool safe_leaf = false;      // 16 rows around their middle row; otherwise halving goes on, and then pair by pair
  int pair_rows_forward = 8;   // pieces of so many rows are summed pair by pair, in what prep computes
  int pair_rows_backward = 4;  // .. and in the gradients
};

/// What one value head of one sequence is given, after norm, gate and sigmoid. Row t is token t.
template <class R>
struct HeadInputs {
  Matrix<R> q, k;    // [T,K]
  Matrix<R> v, d_o;  // [T,V]
  Matrix<R> g;       // [T,K], log decay in base 2
  std::vector<R> beta;
  Matrix<R> h0, dht;  // [K,V]
  R scale = R(1);
};

/// Everything about one chunk. C rows, also where the sequence ends before.
template <class R>
struct ChunkValues {
  Matrix<R> q, k, g, G;           // [C,K]
  Matrix<R> v, d_o;               // [C,V]
  std::vector<R> beta;            // [C]
  Matrix<R> Aqk, M, A;            // [C,C]; Aqk with the scale
  Matrix<R> w, qg, kg;            // [C,K]
  Matrix<R> h, dS;                // [K,V], the state before, the gradient of the state after
  Matrix<R> v_new, dv2;           // [C,V]
  Matrix<R> dP, dM;               // [C,C]; dP = scale dAqk
  Matrix<R> Lam, dv;              // [C,V]
  Matrix<R> Z, dkg, dq_inter;     // [C,K]; dkg with its decay, dq_inter too
  Matrix<R> dq, dk, dG, dg;       // [C,K]
  std::vector<R> dbeta, dG_last;  // [C], [K]
  explicit ChunkValues(int C = 0, int K = 0, int V = 0)
      : q(C, K),
        k(C, K),
        g(C, K),
        G(C, K),
        v(C, V),
        d_o(C, V),
        beta(static_cast<size_t>(C)),
        Aqk(C, C),
        M(C, C),
        A(C, C),
        w(C, K),
        qg(C, K),
        kg(C, K),
        h(K, V),
        dS(K, V),
        v_new(C, V),
        dv2(C, V),
        dP(C, C),
        dM(C, C),
        Lam(C, V),
        dv(C, V),
        Z(C, K),
        dkg(C, K),
        dq_inter(C, K),
        dq(C, K),
        dk(C, K),
        dG(C, K),
        dg(C, K),
        dbeta(static_cast<size_t>(C)),
        dG_last(static_cast<size_t>(K)) {}
};

/// Gradients of HeadInputs.
template <class R>
struct HeadGradients {
  Matrix<R> o, ht;
  Matrix<R> dq, dk, dv, dg, dh0;
  std::vector<R> dbeta;
};

template <class R>
class ChunkModel {
 public:
  ChunkModel(const HeadInputs<R>& in, const ModelOptions& options) : in_(in), opt_(options) {
    T_ = in.q.rows;
    K_ = in.q.cols;
    V_ = in.v.cols;
    const int C = opt_.chunk;
    const int chunks = (T_ + C - 1) / C;
    for (int c = 0; c < chunks; ++c) {
      chunks_.emplace_back(C, K_, V_);
      load(c);
      prepare(chunks_.back());
    }
    forward();
    reverse();
    for (auto& c : chunks_) {
      main(c);
    }
    gather();
  }

  [[nodiscard]] const std::vector<ChunkValues<R>>& chunks() const { return chunks_; }
  [[nodiscard]] const HeadGradients<R>& results() const { return out_; }

 private:
  using Mat = Matrix<R>;
  [[nodiscard]] R bf(R x) const { return opt_.bf16 ? static_cast<R>(nearest_bf16(static_cast<float>(x))) : x; }
  [[nodiscard]] Mat bf(Mat m) const {
    for (auto& x : m.x) {
      x = bf(x);
    }
    return m;
  }
  static R tf32(R x) {
    auto f = static_cast<float>(x);
    uint32_t bits = 0;
    std::memcpy(&bits, &f, sizeof(bits));
    bits = (bits + 0x1000U) & 0xffffe000U;
    std::memcpy(&f, &bits, sizeof(f));
    return static_cast<R>(f);
  }
  static Mat transposed(const Mat& a) {
    Mat t(a.cols, a.rows);
    for (int i = 0; i < a.rows; ++i) {
      for (int j = 0; j < a.cols; ++j) {
        t(j, i) = a(i, j);
      }
    }
    return t;
  }
  static Mat product(const Mat& a, const Mat& b) {
    Mat c(a.rows, b.cols);
    for (int i = 0; i < a.rows; ++i) {
      for (int k = 0; k < a.cols; ++k) {
        const R x = a(i, k);
        for (int j = 0; j < b.cols; ++j) {
          c(i, j) += x * b(k, j);
        }
      }
    }
    return c;
  }

  void load(int index) {
    ChunkValues<R>& c = chunks_.back();
    const int C = opt_.chunk;
    for (int i = 0; i < C && index * C + i < T_; ++i) {
      const int t = index * C + i;
      for (int x = 0; x < K_; ++x) {
        c.q(i, x) = bf(in_.q(t, x));
        c.k(i, x) = bf(in_.k(t, x));
        c.g(i, x) = in_.g(t, x);
      }
      for (int x = 0; x < V_; ++x) {
        c.v(i, x) = in_.v(t, x);
        c.d_o(i, x) = in_.d_o(t, x);
      }
      c.beta[static_cast<size_t>(i)] = in_.beta[static_cast<size_t>(t)];
    }
    for (int x = 0; x < K_; ++x) {
      R sum = R(0);
      for (int i = 0; i < C; ++i) {
        sum += c.g(i, x);
        c.G(i, x) = sum;
      }
    }
  }

  /// The sum of the log decays of rows (from, to].
  static R between(const Mat& g, int from, int to, int x) {
    R sum = R(0);
    for (int r = from + 1; r <= to; ++r) {
      sum += g(r, x);
    }
    return sum;
  }

  /// A square of the dyadic tree: its rows, its columns, the anchor row. Rows and columns are the same 16 in a safe
  /// leaf.
  struct Node {
    int row, col, size, anchor;
    bool leaf;
  };
  [[nodiscard]] std::vector<Node> nodes(int smallest) const {
    std::vector<Node> list;
    for (int size = opt_.chunk / 2; size >= (opt_.safe_leaf ? 16 : smallest); size /= 2) {
      for (int begin = 0; begin < opt_.chunk; begin += 2 * size) {
        list.push_back({begin + size, begin, size, begin + size, false});
      }
    }
    if (opt_.safe_leaf) {
      for (int begin = 0; begin < opt_.chunk; begin += 16) {
        list.push_back({begin, begin, 16, begin + 7, true});
      }
    }
    return list;
  }
  /// 2^(G_i - anchor), also where i lies before the anchor.
  static R row_factor(const ChunkValues<R>& c, int i, int anchor, int x) {
    return i >= anchor ? std::exp2(between(c.g, anchor, i, x)) : std::exp2(-between(c.g, i, anchor, x));
  }
  static R column_factor(const ChunkValues<R>& c, int j, int anchor, int x) {
    return j <= anchor ? std::exp2(between(c.g, j, anchor, x)) : std::exp2(-between(c.g, anchor, j, x));
  }

  void prepare(ChunkValues<R>& c) const {
    const int C = opt_.chunk;
    Mat N(C, C);
    for (const Node& n : nodes(opt_.pair_rows_forward)) {
      for (int i = n.row; i < n.row + n.size; ++i) {
        for (int j = n.col; j < n.col + n.size; ++j) {
          if (i <= j && n.leaf) {
            continue;
          }
          R p = R(0);
          R m = R(0);
          for (int x = 0; x < K_; ++x) {
            const R row = row_factor(c, i, n.anchor, x);
            const R column = bf(c.k(j, x) * column_factor(c, j, n.anchor, x));
            p += bf(c.q(i, x) * row) * column;
            m += bf(c.k(i, x) * row) * column;
          }
          c.Aqk(i, j) = in_.scale * p;
          N(i, j) = m;
        }
      }
    }
    for (int i = 0; i < C; ++i) {
      for (int j = opt_.safe_leaf ? i : i / opt_.pair_rows_forward * opt_.pair_rows_forward; j <= i; ++j) {
        R p = R(0);
        R m = R(0);
        for (int x = 0; x < K_; ++x) {
          const R decay = std::exp2(between(c.g, j, i, x));
          p += c.q(i, x) * c.k(j, x) * decay;
          m += c.k(i, x) * c.k(j, x) * decay;
        }
        c.Aqk(i, j) = in_.scale * p;
        if (j < i) {
          N(i, j) = m;
        }
      }
    }
    for (int i = 0; i < C; ++i) {
      for (int j = 0; j < i; ++j) {
        c.M(i, j) = c.beta[static_cast<size_t>(i)] * N(i, j);
      }
    }
    solve(c);
    Mat beta_kg(C, K_);
    for (int i = 0; i < C; ++i) {
      for (int x = 0; x < K_; ++x) {
        const R decay = std::exp2(c.G(i, x));
        beta_kg(i, x) = bf(c.beta[static_cast<size_t>(i)] * c.k(i, x) * decay);
        c.qg(i, x) = bf(in_.scale * c.q(i, x) * decay);
        c.kg(i, x) = bf(c.k(i, x) * std::exp2(between(c.g, i, C - 1, x)));
      }
    }
    c.Aqk = bf(c.Aqk);
    c.A = bf(c.A);
    c.w = bf(product(c.A, beta_kg));
  }

  /// A = (I + M)^-1: 16 rows by substitution, then pairs of neighbours merged, the products in tf32 where the kernels
  /// round.
  void solve(ChunkValues<R>& c) const {
    const int C = opt_.chunk;
    Mat& A = c.A;
    for (int b = 0; b < C; b += 16) {
      for (int i = b; i < b + 16; ++i) {
        for (int j = b; j < i; ++j) {
          R sum = R(0);
          for (int r = j; r < i; ++r) {
            sum += c.M(i, r) * A(r, j);
          }
          A(i, j) = -sum;
        }
        A(i, i) = R(1);
      }
    }
    for (int size = 16; size < C; size *= 2) {
      for (int b = 0; b < C; b += 2 * size) {
        Mat left(size, size);
        for (int i = 0; i < size; ++i) {
          for (int j = 0; j < size; ++j) {
            R sum = R(0);
            for (int r = 0; r < size; ++r) {
              const R a = A(b + size + i, b + size + r);
              const R m = c.M(b + size + r, b + j);
              sum += opt_.bf16 ? tf32(a) * tf32(m) : a * m;
            }
            left(i, j) = sum;
          }
        }
        for (int i = 0; i < size; ++i) {
          for (int j = 0; j < size; ++j) {
            R sum = R(0);
            for (int r = 0; r < size; ++r) {
              const R a = A(b + r, b + j);
              sum += opt_.bf16 ? tf32(left(i, r)) * tf32(a) : left(i, r) * a;
            }
            A(b + size + i, b + j) = -sum;
          }
        }
      }
    }
  }

  void forward() {
    const int C = opt_.chunk;
    Mat S = in_.h0.rows > 0 ? in_.h0 : Mat(K_, V_);
    out_.o = Mat(T_, V_);
    for (size_t index = 0; index < chunks_.size(); ++index) {
      ChunkValues<R>& c = chunks_[index];
      c.h = bf(S);
      Mat beta_v(C, V_);
      for (int i = 0; i < C; ++i) {
        for (int x = 0; x < V_; ++x) {
          beta_v(i, x) = bf(c.beta[static_cast<size_t>(i)] * c.v(i, x));
        }
      }
      const Mat u = product(c.A, beta_v);
      const Mat read = product(c.w, c.h);
      for (size_t i = 0; i < u.x.size(); ++i) {
        c.v_new.x[i] = bf(u.x[i] - read.x[i]);
      }
      const Mat inter = product(c.qg, c.h);
      const Mat intra = product(c.Aqk, c.v_new);
      for (int i = 0; i < C && static_cast<int>(index) * C + i < T_; ++i) {
        for (int x = 0; x < V_; ++x) {
          out_.o(static_cast<int>(index) * C + i, x) = bf(inter(i, x) + intra(i, x));
        }
      }
      const Mat write = product(transposed(c.kg), c.v_new);
      for (int x = 0; x < K_; ++x) {
        const R decay = std::exp2(c.G(C - 1, x));
        for (int y = 0; y < V_; ++y) {
          S(x, y) = decay * S(x, y) + write(x, y);
        }
      }
    }
    out_.ht = S;
  }

  void reverse() {
    const int C = opt_.chunk;
    Mat D = in_.dht.rows > 0 ? in_.dht : Mat(K_, V_);
    for (size_t index = chunks_.size(); index-- > 0;) {
      ChunkValues<R>& c = chunks_[index];
      c.dS = bf(D);
      const Mat local = product(transposed(c.Aqk), c.d_o);
      const Mat later = product(c.kg, c.dS);
      for (size_t i = 0; i < local.x.size(); ++i) {
        c.dv2.x[i] = bf(local.x[i] + later.x[i]);
      }
      const Mat read = product(transposed(c.qg), c.d_o);
      const Mat erased = product(transposed(c.w), c.dv2);
      for (int x = 0; x < K_; ++x) {
        const R decay = std::exp2(c.G(C - 1, x));
        for (int y = 0; y < V_; ++y) {
          D(x, y) = decay * D(x, y) + read(x, y) - erased(x, y);
        }
      }
    }
    out_.dh0 = D;
  }

  void main(ChunkValues<R>& c) const {
    const int C = opt_.chunk;
    const Mat dAqk = product(c.d_o, transposed(c.v_new));
    const Mat Lam = product(transposed(c.A), c.dv2);
    c.Lam = bf(Lam);
    const Mat dM = product(c.Lam, transposed(c.v_new));
    for (int i = 0; i < C; ++i) {
      for (int j = 0; j <= i; ++j) {
        // The diagonal meets no product where rule (i) holds, so it stays as it is.
        const bool kept = j == i && opt_.diagonal_apart;
        c.dP(i, j) = kept ? in_.scale * dAqk(i, j) : bf(in_.scale * dAqk(i, j));
        if (j < i) {
          c.dM(i, j) = bf(-dM(i, j));
        }
      }
    }
    const Mat q_state = product(c.d_o, transposed(c.h));
    c.Z = product(c.Lam, transposed(c.h));
    const Mat arrives = product(c.v_new, transposed(c.dS));
    for (int x = 0; x < K_; ++x) {
      R passing = R(0);
      for (int y = 0; y < V_; ++y) {
        passing += c.h(x, y) * c.dS(x, y);
      }
      c.dG_last[static_cast<size_t>(x)] = std::exp2(c.G(C - 1, x)) * passing;
    }
    for (int i = 0; i < C; ++i) {
      const R beta = c.beta[static_cast<size_t>(i)];
      R dbeta = R(0);
      for (int y = 0; y < V_; ++y) {
        c.dv(i, y) = bf(beta * Lam(i, y));
        dbeta += Lam(i, y) * c.v(i, y);
      }
      for (int x = 0; x < K_; ++x) {
        const R decay = std::exp2(c.G(i, x));
        c.dq_inter(i, x) = in_.scale * decay * q_state(i, x);
        c.dkg(i, x) = std::exp2(between(c.g, i, C - 1, x)) * arrives(i, x);
        const R read = decay * c.Z(i, x);
        dbeta -= c.k(i, x) * read;
        c.dq(i, x) = c.dq_inter(i, x);
        c.dk(i, x) = c.dkg(i, x) - beta * read;
        c.dG(i, x) = c.q(i, x) * c.dq_inter(i, x) - c.k(i, x) * (beta * read + c.dkg(i, x));
        c.dG_last[static_cast<size_t>(x)] += c.k(i, x) * c.dkg(i, x);
      }
      c.dbeta[static_cast<size_t>(i)] = dbeta;
    }
    for (const Node& n : nodes(opt_.pair_rows_backward)) {
      pairs_of_node(c, n);
    }
    pairs_one_by_one(c);
    for (int x = 0; x < K_; ++x) {
      R sum = c.dG_last[static_cast<size_t>(x)];
      for (int i = C - 1; i >= 0; --i) {
        sum += c.dG(i, x);
        c.dg(i, x) = sum;
      }
    }
  }

  void pairs_of_node(ChunkValues<R>& c, const Node& n) const {
    const int s = n.size;
    Mat q(s, K_);  // the rows' factors, as the products see them
    Mat k(s, K_);  // with beta
    Mat columns(s, K_);
    Mat P(s, s);
    Mat M(s, s);
    for (int i = 0; i < s; ++i) {
      const int token = n.row + i;
      const R beta = c.beta[static_cast<size_t>(token)];
      for (int x = 0; x < K_; ++x) {
        const R row = row_factor(c, token, n.anchor, x);
        q(i, x) = bf(c.q(n.row + i, x) * row);
        k(i, x) = bf(beta * c.k(token, x) * row);
        columns(i, x) = bf(c.k(n.col + i, x) * column_factor(c, n.col + i, n.anchor, x));
      }
      for (int j = 0; j < s; ++j) {
        const bool below = !n.leaf || i > j || (i == j && !opt_.diagonal_apart);
        P(i, j) = below ? c.dP(n.row + i, n.col + j) : R(0);
        M(i, j) = below && (i != j || !n.leaf) ? c.dM(n.row + i, n.col + j) : R(0);
      }
    }
    const Mat dq = product(P, columns);
    const Mat dk_row = product(M, columns);
    const Mat from_q = product(transposed(P), q);
    const Mat from_k = product(transposed(M), k);
    for (int i = 0; i < s; ++i) {
      const int token = n.row + i;
      const R beta = c.beta[static_cast<size_t>(token)];
      for (int x = 0; x < K_; ++x) {
        const R row = row_factor(c, token, n.anchor, x);
        const R column = column_factor(c, n.col + i, n.anchor, x);
        const R to_column = from_q(i, x) + from_k(i, x);
        c.dq(n.row + i, x) += row * dq(i, x);
        c.dk(n.row + i, x) += beta * row * dk_row(i, x);
        c.dbeta[static_cast<size_t>(token)] += c.k(token, x) * row * dk_row(i, x);
        c.dk(n.col + i, x) += column * to_column;
        if (opt_.same_factors) {
          c.dG(n.row + i, x) += q(i, x) * dq(i, x) + k(i, x) * dk_row(i, x);
          c.dG(n.col + i, x) -= columns(i, x) * to_column;
        } else {
          c.dG(n.row + i, x) += c.q(n.row + i, x) * row * dq(i, x) + c.k(n.row + i, x) * beta * row * dk_row(i, x);
          c.dG(n.col + i, x) -= c.k(n.col + i, x) * column * to_column;
        }
      }
    }
  }

  /// The diagonal, and without the safe leaf the pairs inside small pieces.
  void pairs_one_by_one(ChunkValues<R>& c) const {
    for (int i = 0; i < opt_.chunk; ++i) {
      const R beta = c.beta[static_cast<size_t>(i)];
      for (int x = 0; x < K_; ++x) {
        if (opt_.diagonal_apart || !opt_.safe_leaf) {
          c.dq(i, x) += c.dP(i, i) * c.k(i, x);
          c.dk(i, x) += c.dP(i, i) * c.q(i, x);
        }
        for (int j = i / opt_.pair_rows_backward * opt_.pair_rows_backward; j < i && !opt_.safe_leaf; ++j) {
          const R decay = std::exp2(between(c.g, j, i, x));
          const R kj = c.k(j, x) * decay;
          c.dq(i, x) += c.dP(i, j) * kj;
          c.dk(i, x) += beta * c.dM(i, j) * kj;
          c.dbeta[static_cast<size_t>(i)] += c.k(i, x) * c.dM(i, j) * kj;
          const R to_column = (c.dP(i, j) * c.q(i, x) + beta * c.dM(i, j) * c.k(i, x)) * decay;
          c.dk(j, x) += to_column;
          c.dG(i, x) += c.k(j, x) * to_column;
          c.dG(j, x) -= c.k(j, x) * to_column;
        }
      }
    }
  }

  void gather() {
    const int C = opt_.chunk;
    out_.dq = Mat(T_, K_);
    out_.dk = Mat(T_, K_);
    out_.dg = Mat(T_, K_);
    out_.dv = Mat(T_, V_);
    out_.dbeta.resize(static_cast<size_t>(T_));
    for (int t = 0; t < T_; ++t) {
      const ChunkValues<R>& c = chunks_[static_cast<size_t>(t / C)];
      const int i = t % C;
      for (int x = 0; x < K_; ++x) {
        out_.dq(t, x) = bf(c.dq(i, x));
        out_.dk(t, x) = bf(c.dk(i, x));
        out_.dg(t, x) = bf(c.dg(i, x));
      }
      for (int x = 0; x < V_; ++x) {
        out_.dv(t, x) = c.dv(i, x);
      }
      out_.dbeta[static_cast<size_t>(t)] = bf(c.dbeta[static_cast<size_t>(i)]);
    }
  }

  const HeadInputs<R>& in_;
  ModelOptions opt_;
  int T_ = 0;
  int K_ = 0;
  int V_ = 0;
  std::vector<ChunkValues<R>> chunks_;
  HeadGradients<R> out_;
};

/// The recurrence and its reverse, token by token with every state kept: the definition. `g` in base 2.
template <class R>
HeadGradients<R> token_recurrence(const HeadInputs<R>& in) {
  const int T = in.q.rows;
  const int K = in.q.cols;
  const int V = in.v.cols;
  HeadGradients<R> out;
  out.o = Matrix<R>(T, V);
  out.dq = Matrix<R>(T, K);
  out.dk = Matrix<R>(T, K);
  out.dg = Matrix<R>(T, K);
  out.dv = Matrix<R>(T, V);
  out.dbeta.resize(static_cast<size_t>(T));
  std::vector<Matrix<R>> decayed;  // S~_t
  Matrix<R> S = in.h0.rows > 0 ? in.h0 : Matrix<R>(K, V);
  Matrix<R> e(T, V);
  for (int t = 0; t < T; ++t) {
    for (int x = 0; x < K; ++x) {
      const R decay = std::exp2(in.g(t, x));
      for (int y = 0; y < V; ++y) {
        S(x, y) *= decay;
      }
    }
    decayed.push_back(S);
    for (int y = 0; y < V; ++y) {
      R seen = R(0);
      for (int x = 0; x < K; ++x) {
        seen += S(x, y) * in.k(t, x);
      }
      e(t, y) = in.v(t, y) - seen;
    }
    for (int x = 0; x < K; ++x) {
      for (int y = 0; y < V; ++y) {
        S(x, y) += in.k(t, x) * in.beta[static_cast<size_t>(t)] * e(t, y);
        out.o(t, y) += in.scale * S(x, y) * in.q(t, x);
      }
    }
  }
  out.ht = S;
  Matrix<R> P = in.dht.rows > 0 ? in.dht : Matrix<R>(K, V);
  for (int t = T - 1; t >= 0; --t) {
    const Matrix<R>& before = decayed[static_cast<size_t>(t)];
    const R beta = in.beta[static_cast<size_t>(t)];
    std::vector<R> lambda(static_cast<size_t>(V), R(0));
    for (int x = 0; x < K; ++x) {
      for (int y = 0; y < V; ++y) {
        P(x, y) += in.scale * in.q(t, x) * in.d_o(t, y);
        lambda[static_cast<size_t>(y)] += P(x, y) * in.k(t, x);
      }
    }
    for (int y = 0; y < V; ++y) {
      out.dbeta[static_cast<size_t>(t)] += lambda[static_cast<size_t>(y)] * e(t, y);
      out.dv(t, y) = beta * lambda[static_cast<size_t>(y)];
    }
    for (int x = 0; x < K; ++x) {
      R dq = R(0);
      R dk = R(0);
      R dg = R(0);
      const R decay = std::exp2(in.g(t, x));
      for (int y = 0; y < V; ++y) {
        const R d = beta * e(t, y);
        dq += in.scale * (before(x, y) + in.k(t, x) * d) * in.d_o(t, y);
        dk += P(x, y) * d - before(x, y) * out.dv(t, y);
        P(x, y) -= in.k(t, x) * out.dv(t, y);
        dg += P(x, y) * before(x, y);
        P(x, y) *= decay;
      }
      out.dq(t, x) = dq;
      out.dk(t, x) = dk;
      out.dg(t, x) = dg;
    }
  }
  out.dh0 = P;
  return out;
}

}  // namespace deltatape::test::kda_v1

// What pairs of tokens inside a chunk give to dq, dk, dbeta and dg, in the registers of a warp.
//
// A warp holds 16 channels of 32 tokens (16 where the chunk has no more), channels as the rows of its fragments and
// tokens as the columns: then k^T and q^T, scaled by their decays, are left operands without leaving their lanes, the
// decays themselves are sums over lanes of a group of four, and only dP and dM come from shared memory.
//
// Pairs by halving: in pieces of 2, 4, 8, 16, 32 and 64 tokens the tokens of the right half meet those of the left one,
// with a factor 2^start for the right (from the border through the token) and 2^end for the left (from behind the token
// to the border), neither above 1 for any gate that decays. Pieces of 2 and 4 are summed in f32.
//
// dg is a difference of sums of almost the same size. So both sides of a pair are formed from the very factors, rounded
// to bf16, that the product used, and the diagonal of dP, which cancels in dg, takes no part in any product.
#pragma once

#include "backends/cuda/kda/tile/mma.h"

namespace deltatape::cuda::kda::v1 {

/// One float per column of a 16 x 16 tile, each known to two lanes.
struct ColSums {
  tile::PerLane<float> x;
  static constexpr int place(int lane) { return lane % 4 * 2 + lane / 8 % 2 + lane / 4 % 2 * 8; }
};
/// sums += the sums over all lanes' shares; a fixed tree.
DT_DEVICE void add_shares(ColSums& sums, const tile::ColVec& shares) {
  tile::PerLane<float, 2> two;
  tile::PerLane<float, 2> others_two;
  tile::each_lane([&](int lane) {
    const bool high = (lane & 4) != 0;  // keeps columns 8 to 15
    tile::unroll<2>([&](auto i) {
      two(lane, i) = high ? shares.x(lane, 2 + i) : shares.x(lane, i);
      others_two(lane, i) = high ? shares.x(lane, i) : shares.x(lane, 2 + i);
    });
  });
  others_two = tile::shuffle_xor(others_two, 4);
  tile::PerLane<float> one;
  tile::PerLane<float> others_one;
  tile::each_lane([&](int lane) {
    const bool odd = (lane & 8) != 0;
    const float even_sum = two(lane, 0) + others_two(lane, 0);
    const float odd_sum = two(lane, 1) + others_two(lane, 1);
    one(lane) = odd ? odd_sum : even_sum;
    others_one(lane) = odd ? even_sum : odd_sum;
  });
  others_one = tile::shuffle_xor(others_one, 8);
  tile::each_lane([&](int lane) { one(lane) += others_one(lane); });
  others_one = tile::shuffle_xor(one, 16);
  tile::each_lane([&](int lane) { sums.x(lane) += one(lane) + others_one(lane); });
}

/// Gradients of 16 channels x 16 tokens; of dbeta the channels' sums. `same_factors`: both sides of dG come from the
/// rounded factors; only a test, which shows what that is good for, goes without.
template <bool same_factors>
struct BlockGradients {
  tile::Acc dq;
  tile::Acc dk;
  tile::Acc dG;
  ColSums dbeta;
};
template <bool same>
DT_DEVICE void clear(BlockGradients<same>& g) {
  tile::fill(g.dq, 0.0F);
  tile::fill(g.dk, 0.0F);
  tile::fill(g.dG, 0.0F);
  tile::each_lane([&](int lane) { g.dbeta.x(lane) = 0.0F; });
}

/// q^T, k^T and beta of 16 channels x 16 tokens.
struct BlockInputs {
  tile::FragA q;
  tile::FragA k;
  tile::ColVec beta;
};

/// Value i of a lane of a left operand.
DT_DEVICE float value_of(const tile::FragA& a, int lane, int i) {
  return i % 2 == 0 ? tile::low_bf16(a.x(lane, i / 2)) : tile::high_bf16(a.x(lane, i / 2));
}

/// Sums of log decays (base 2) of 16 channels x 16 tokens, in pieces of tokens that double.
struct Ladder {
  tile::Acc start;                // from the piece's first token through this one
  tile::Acc end;                  // from behind this one through the piece's last
  tile::PerLane<float, 4> total;  // of the piece: value 2 h + p is that of columns 8 h .. and row lane / 4 + 8 p

  /// Pieces of two tokens, which one lane holds.
  DT_DEVICE explicit Ladder(const tile::Acc& g) {
    tile::each_lane([&](int lane) {
      tile::unroll<4>([&](auto p) {
        const float first = g.x(lane, 2 * p);
        const float second = g.x(lane, 2 * p + 1);
        start.x(lane, 2 * p) = first;
        start.x(lane, 2 * p + 1) = first + second;
        end.x(lane, 2 * p) = second;
        end.x(lane, 2 * p + 1) = 0.0F;
        total(lane, p) = first + second;
      });
    });
  }
  /// From pieces that lanes without `bit` and with it hold to pieces of both: bit 1 makes pieces of 4, bit 2 of 8.
  template <int bit>
  DT_DEVICE void join_lanes() {
    const tile::PerLane<float, 4> other = tile::shuffle_xor(total, bit);
    tile::each_lane([&](int lane) {
      const bool right = (lane & bit) != 0;
      tile::unroll<4>([&](auto p) {
        tile::unroll<2>([&](auto i) {
          start.x(lane, 2 * p + i) += right ? other(lane, p) : 0.0F;
          end.x(lane, 2 * p + i) += right ? 0.0F : other(lane, p);
        });
        total(lane, p) += other(lane, p);
      });
    });
  }
  /// From pieces of 8 to the 16 tokens; totals 0 and 1 are theirs from now on.
  DT_DEVICE void join_halves() {
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto p) {
        tile::unroll<2>([&](auto i) {
          start.x(lane, 4 + 2 * p + i) += total(lane, p);
          end.x(lane, 2 * p + i) += total(lane, 2 + p);
        });
        total(lane, p) += total(lane, 2 + p);
      });
    });
  }
};

/// start += x (end += x), x being one number per row.
DT_DEVICE void add_to_rows(tile::Acc& sums, const tile::PerLane<float, 2>& x) {
  tile::each_lane([&](int lane) { tile::unroll<8>([&](auto i) { sums.x(lane, i) += x(lane, tile::RowVec::of(i)); }); });
}

/// The rounded factors of a level: k of the left tokens; beta k and q of the right ones.
DT_DEVICE tile::FragA left_factors(const BlockInputs& in, const tile::Acc& end) {
  tile::FragA a;
  tile::each_lane([&](int lane) {
    tile::unroll<4>([&](auto r) {
      a.x(lane, r) = tile::pack_bf16(value_of(in.k, lane, 2 * r) * tile::ex2(end.x(lane, 2 * r)),
                                     value_of(in.k, lane, 2 * r + 1) * tile::ex2(end.x(lane, 2 * r + 1)));
    });
  });
  return a;
}
struct RightFactors {
  tile::FragA q;
  tile::FragA k;
};
DT_DEVICE RightFactors right_factors(const BlockInputs& in, const tile::Acc& start) {
  RightFactors a;
  tile::each_lane([&](int lane) {
    tile::unroll<4>([&](auto r) {
      const float f0 = tile::ex2(start.x(lane, 2 * r));
      const float f1 = tile::ex2(start.x(lane, 2 * r + 1));
      const float beta0 = in.beta.x(lane, tile::ColVec::of(2 * r));
      const float beta1 = in.beta.x(lane, tile::ColVec::of(2 * r + 1));
      a.q.x(lane, r) = tile::pack_bf16(value_of(in.q, lane, 2 * r) * f0, value_of(in.q, lane, 2 * r + 1) * f1);
      a.k.x(lane, r) =
          tile::pack_bf16(value_of(in.k, lane, 2 * r) * f0 * beta0, value_of(in.k, lane, 2 * r + 1) * f1 * beta1);
    });
  });
  return a;
}

/// What value i of a lane, a right token, receives: `from_P` is the sum of dP k over the left tokens, `from_M` that of
/// dM k.
template <bool same>
DT_DEVICE void add_to_right(BlockGradients<same>& to, tile::ColVec& dbeta, const BlockInputs& in, int lane, int i,
                            float factor, float q_hat, float k_hat, float from_P, float from_M) {
  const float y = factor * from_M;
  to.dq.x(lane, i) += factor * from_P;
  to.dk.x(lane, i) += in.beta.x(lane, tile::ColVec::of(i)) * y;
  dbeta.x(lane, tile::ColVec::of(i)) += value_of(in.k, lane, i) * y;
  if constexpr (!same) {
    q_hat = factor * value_of(in.q, lane, i);
    k_hat = factor * value_of(in.k, lane, i) * in.beta.x(lane, tile::ColVec::of(i));
  }
  to.dG.x(lane, i) += q_hat * from_P + k_hat * from_M;
}
/// The same for a left token: `sum` of dP q + beta dM k over the right tokens.
template <bool same>
DT_DEVICE void add_to_left(BlockGradients<same>& to, const BlockInputs& in, int lane, int i, float factor, float k_hat,
                           float sum) {
  if constexpr (!same) {
    k_hat = factor * value_of(in.k, lane, i);
  }
  to.dk.x(lane, i) += factor * sum;
  to.dG.x(lane, i) -= k_hat * sum;
}
template <bool same>
DT_DEVICE void add_to_right(BlockGradients<same>& to, const BlockInputs& in, const tile::Acc& start,
                            const RightFactors& hat, const tile::Acc& from_P, const tile::Acc& from_M) {
  tile::ColVec dbeta;
  tile::fill(dbeta, 0.0F);
  tile::each_lane([&](int lane) {
    tile::unroll<8>([&](auto i) {
      add_to_right(to, dbeta, in, lane, i, tile::ex2(start.x(lane, i)), value_of(hat.q, lane, i),
                   value_of(hat.k, lane, i), from_P.x(lane, i), from_M.x(lane, i));
    });
  });
  add_shares(to.dbeta, dbeta);
}
template <bool same>
DT_DEVICE void add_to_left(BlockGradients<same>& to, const BlockInputs& in, const tile::Acc& end,
                           const tile::FragA& hat, const tile::Acc& sum) {
  tile::each_lane([&](int lane) {
    tile::unroll<8>([&](auto i) {
      add_to_left(to, in, lane, i, tile::ex2(end.x(lane, i)), value_of(hat, lane, i), sum.x(lane, i));
    });
  });
}

/// The diagonal of dP, and pairs of neighbours (2 c, 2 c + 1), in f32. `first` is the block's first token in the chunk.
template <bool same, class Square, class Diagonal>
DT_DEVICE void add_neighbours(BlockGradients<same>& to, tile::ColVec& dbeta, const BlockInputs& in, const tile::Acc& g,
                              const Square& dP, const Square& dM, const Diagonal& dP_diagonal, int first) {
  tile::each_lane([&](int lane) {
    tile::unroll<2>([&](auto half) {
      const int left = first + lane % 4 * 2 + 8 * half;
      const float P = dP(left + 1, left);
      const float M = dM(left + 1, left);
      const float own_left = dP_diagonal(0, left);
      const float own_right = dP_diagonal(0, left + 1);
      tile::unroll<2>([&](auto row) {
        constexpr int l = 4 * decltype(half)::value + 2 * decltype(row)::value;
        constexpr int r = l + 1;
        const float q_left = value_of(in.q, lane, l);
        const float k_left = value_of(in.k, lane, l);
        const float q_right = value_of(in.q, lane, r);
        const float k_right = value_of(in.k, lane, r);
        const float beta = in.beta.x(lane, tile::ColVec::of(r));
        const float decay = tile::ex2(g.x(lane, r));
        const float k_hat = k_left * decay;
        const float to_left = (P * q_right + beta * M * k_right) * decay;
        to.dq.x(lane, l) += own_left * k_left;
        to.dk.x(lane, l) += own_left * q_left + to_left;
        to.dq.x(lane, r) += own_right * k_right + P * k_hat;
        to.dk.x(lane, r) += own_right * q_right + beta * M * k_hat;
        dbeta.x(lane, tile::ColVec::of(r)) += k_right * M * k_hat;
        to.dG.x(lane, l) -= k_left * to_left;
        to.dG.x(lane, r) += k_left * to_left;
      });
    });
  });
}

/// Pieces of 4 tokens, in f32: lanes with bit 0 hold the two right ones. Left and right lanes swap their factors.
template <bool same, class Square>
DT_DEVICE void add_pieces_of_4(BlockGradients<same>& to, tile::ColVec& dbeta, const BlockInputs& in,
                               const Ladder& decays, const Square& dP, const Square& dM, int first) {
  tile::unroll<2>([&](auto half) {
    tile::PerLane<float, 4> P;  // P_ij at 2 i + j in right lanes; in left lanes at 2 j + i
    tile::PerLane<float, 4> M;
    tile::each_lane([&](int lane) {
      const int left = first + 8 * half + lane % 4 / 2 * 4;
      tile::unroll<2>([&](auto i) {
        const auto p = dP.template read<2>(left + 2 + i, left);
        const auto m = dM.template read<2>(left + 2 + i, left);
        tile::unroll<2>([&](auto j) {
          P(lane, 2 * i + j) = p[j];
          M(lane, 2 * i + j) = m[j];
        });
      });
      if ((lane & 1) == 0) {
        const float p = P(lane, 1);
        const float m = M(lane, 1);
        P(lane, 1) = P(lane, 2);
        M(lane, 1) = M(lane, 2);
        P(lane, 2) = p;
        M(lane, 2) = m;
      }
    });
    tile::unroll<2>([&](auto row) {
      constexpr int kFirst = 4 * decltype(half)::value + 2 * decltype(row)::value;
      tile::PerLane<float, 4> hat;  // k (right: beta k), k (right: q), each of two tokens
      tile::PerLane<float, 2> factor;
      tile::each_lane([&](int lane) {
        const bool right = (lane & 1) != 0;
        tile::unroll<2>([&](auto j) {
          constexpr int i = kFirst + decltype(j)::value;
          const float f = tile::ex2(right ? decays.start.x(lane, i) : decays.end.x(lane, i));
          const float k = value_of(in.k, lane, i) * f;
          factor(lane, j) = f;
          hat(lane, j) = right ? k * in.beta.x(lane, tile::ColVec::of(i)) : k;
          hat(lane, 2 + j) = right ? value_of(in.q, lane, i) * f : k;
        });
      });
      const tile::PerLane<float, 4> other = tile::shuffle_xor(hat, 1);
      tile::each_lane([&](int lane) {
        const bool right = (lane & 1) != 0;
        tile::unroll<2>([&](auto j) {
          constexpr int i = kFirst + decltype(j)::value;
          const float from_P = P(lane, 2 * j) * other(lane, 2) + P(lane, 2 * j + 1) * other(lane, 3);
          const float from_M = M(lane, 2 * j) * other(lane, 0) + M(lane, 2 * j + 1) * other(lane, 1);
          const float y = factor(lane, j) * (right ? from_M : from_P + from_M);
          to.dq.x(lane, i) += right ? factor(lane, j) * from_P : 0.0F;
          to.dk.x(lane, i) += right ? in.beta.x(lane, tile::ColVec::of(i)) * y : y;
          dbeta.x(lane, tile::ColVec::of(i)) += right ? value_of(in.k, lane, i) * y : 0.0F;
          const float of_pairs = hat(lane, 2 + j) * from_P + hat(lane, j) * from_M;
          to.dG.x(lane, i) += right ? of_pairs : -of_pairs;
        });
      });
    });
  });
}

/// Of the 8 x 8 squares on the diagonal of a 16 x 16 operand, the rows of the right four tokens and the columns of the
/// left four; 0 elsewhere. `right_is_column`: the operand's columns are the right tokens.
template <bool right_is_column>
DT_DEVICE void keep_lower_quarters(tile::FragB& b) {
  tile::each_lane([&](int lane) {
    const int column = lane / 4;
    const int row = lane % 4 * 2;  // and its neighbour
    const bool kept = right_is_column ? column >= 4 && row < 4 : row >= 4 && column < 4;
    b.x(lane, 0) = kept ? b.x(lane, 0) : 0;
    b.x(lane, 1) = 0;
    b.x(lane, 2) = 0;
    b.x(lane, 3) = kept ? b.x(lane, 3) : 0;
  });
}

/// Pieces of 8 tokens, whose right halves are the lanes with bit 1.
template <bool same, class Square>
DT_DEVICE void add_pieces_of_8(BlockGradients<same>& to, tile::ColVec& dbeta, const BlockInputs& in,
                               const Ladder& decays, const Square& dP, const Square& dM, int first) {
  constexpr int kRight = 2;  // bit of the lane
  const auto factor = [&](int lane, int i) {
    return tile::ex2((lane & kRight) != 0 ? decays.start.x(lane, i) : decays.end.x(lane, i));
  };
  tile::FragA k_hat;
  tile::FragA q_hat;
  tile::each_lane([&](int lane) {
    const bool right = (lane & kRight) != 0;
    tile::unroll<4>([&](auto r) {
      float k[2];
      float q[2];
      tile::unroll<2>([&](auto j) {
        constexpr int i = 2 * decltype(r)::value + decltype(j)::value;
        const float f = factor(lane, i);
        k[j] = value_of(in.k, lane, i) * f * (right ? in.beta.x(lane, tile::ColVec::of(i)) : 1.0F);
        q[j] = value_of(in.q, lane, i) * f;
      });
      k_hat.x(lane, r) = tile::pack_bf16(k[0], k[1]);
      q_hat.x(lane, r) = right ? tile::pack_bf16(q[0], q[1]) : 0;
    });
  });
  tile::Acc from_P = tile::zeros();
  tile::Acc rest = tile::zeros();  // from dM for right tokens, the whole sum for left ones
  tile::FragB b = tile::load_b_trans(dP, first, first);
  keep_lower_quarters<true>(b);
  tile::mma(from_P, k_hat, b);
  b = tile::load_b_trans(dM, first, first);
  keep_lower_quarters<true>(b);
  tile::mma(rest, k_hat, b);
  b = tile::load_b(dP, first, first);
  keep_lower_quarters<false>(b);
  tile::mma(rest, q_hat, b);
  b = tile::load_b(dM, first, first);
  keep_lower_quarters<false>(b);
  tile::mma(rest, k_hat, b);
  tile::each_lane([&](int lane) {
    const bool right = (lane & kRight) != 0;
    tile::unroll<8>([&](auto i) {
      const float f = factor(lane, i);
      const float y = f * rest.x(lane, i);
      float k_of_dG = value_of(k_hat, lane, i);
      float q_of_dG = value_of(q_hat, lane, i);
      if constexpr (!same) {
        k_of_dG = f * value_of(in.k, lane, i) * (right ? in.beta.x(lane, tile::ColVec::of(i)) : 1.0F);
        q_of_dG = right ? f * value_of(in.q, lane, i) : 0.0F;
      }
      const float hat = k_of_dG * rest.x(lane, i);
      to.dq.x(lane, i) += f * from_P.x(lane, i);  // 0 for left tokens
      to.dk.x(lane, i) += right ? in.beta.x(lane, tile::ColVec::of(i)) * y : y;
      dbeta.x(lane, tile::ColVec::of(i)) += right ? value_of(in.k, lane, i) * y : 0.0F;
      to.dG.x(lane, i) += q_of_dG * from_P.x(lane, i) + (right ? hat : -hat);
    });
  });
}

/// Pieces of 16 tokens: columns 8 to 15 are right.
template <bool same, class Square>
DT_DEVICE void add_pieces_of_16(BlockGradients<same>& to, tile::ColVec& dbeta, const BlockInputs& in,
                                const Ladder& decays, const Square& dP, const Square& dM, int first) {
  const RightFactors right = right_factors(in, decays.start);
  tile::FragA k_left = left_factors(in, decays.end);
  tile::FragA q_hat = right.q;
  tile::FragA k_right = right.k;
  tile::each_lane([&](int lane) {
    tile::unroll<2>([&](auto r) {
      q_hat.x(lane, r) = 0;
      k_right.x(lane, r) = 0;
      k_left.x(lane, 2 + r) = 0;
    });
  });
  tile::Acc from_P = tile::zeros();
  tile::Acc rest = tile::zeros();
  tile::mma_half<1>(from_P, k_left, tile::load_b_trans(dP, first, first));
  tile::mma_half<1>(rest, k_left, tile::load_b_trans(dM, first, first));
  tile::mma_half<0>(rest, q_hat, tile::load_b(dP, first, first));
  tile::mma_half<0>(rest, k_right, tile::load_b(dM, first, first));
  tile::each_lane([&](int lane) {
    tile::unroll<4>([&](auto i) {
      constexpr int r = 4 + decltype(i)::value;
      add_to_left(to, in, lane, i, tile::ex2(decays.end.x(lane, i)), value_of(k_left, lane, i), rest.x(lane, i));
      add_to_right(to, dbeta, in, lane, r, tile::ex2(decays.start.x(lane, r)), value_of(q_hat, lane, r),
                   value_of(k_right, lane, r), from_P.x(lane, r), rest.x(lane, r));
    });
  });
}

/// All pairs of a block of 16 tokens; the ladder comes back with pieces of 16.
template <bool same, class Square, class Diagonal>
DT_DEVICE Ladder add_pairs_of_16(BlockGradients<same>& to, const BlockInputs& in, const tile::Acc& g, const Square& dP,
                                 const Square& dM, const Diagonal& dP_diagonal, int first) {
  tile::ColVec dbeta;
  tile::fill(dbeta, 0.0F);
  add_neighbours(to, dbeta, in, g, dP, dM, dP_diagonal, first);
  Ladder decays(g);
  add_pieces_of_4(to, dbeta, in, decays, dP, dM, first);
  decays.join_lanes<1>();
  add_pieces_of_8(to, dbeta, in, decays, dP, dM, first);
  decays.join_lanes<2>();
  add_pieces_of_16(to, dbeta, in, decays, dP, dM, first);
  add_shares(to.dbeta, dbeta);
  decays.join_halves();
  return decays;
}

/// `blocks` blocks of right tokens from `right` on, `blocks` blocks of left tokens from `left` on, 16 each: one block
/// of right tokens (number `n`) receives from all left ones.
template <int blocks, bool same, class Square>
DT_DEVICE void add_from_left(BlockGradients<same>& to, const BlockInputs& in, const tile::Acc& start,
                             const tile::FragA (&left_hat)[blocks], const Square& dP, const Square& dM, int right,
                             int left) {
  tile::Acc from_P = tile::zeros();
  tile::Acc from_M = tile::zeros();
  tile::unroll<blocks>([&](auto j) {
    tile::mma(from_P, left_hat[j], tile::load_b_trans(dP, right, left + 16 * j));
    tile::mma(from_M, left_hat[j], tile::load_b_trans(dM, right, left + 16 * j));
  });
  add_to_right(to, in, start, right_factors(in, start), from_P, from_M);
}
/// One block of left tokens receives from all right ones.
template <int blocks, bool same, class Square>
DT_DEVICE void add_from_right(BlockGradients<same>& to, const BlockInputs& in, const tile::Acc& end,
                              const RightFactors (&right_hat)[blocks], const Square& dP, const Square& dM, int right,
                              int left) {
  tile::Acc sum = tile::zeros();
  tile::unroll<blocks>([&](auto i) {
    tile::mma(sum, right_hat[i].q, tile::load_b(dP, right + 16 * i, left));
    tile::mma(sum, right_hat[i].k, tile::load_b(dM, right + 16 * i, left));
  });
  add_to_left(to, in, end, left_factors(in, end), sum);
}

}  // namespace deltatape::cuda::kda::v1

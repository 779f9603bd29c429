// Tiles of 16 x 16 in the registers of a warp, with the lane maps of mma.sync.
//
//   Acc   f32, sums and results          D and C of mma.m16n8k16 (two of them side by side)
//   FragA bf16, the left operand         A of mma.m16n8k16
//   FragB bf16, the right operand        B of mma.m16n8k16 (two of them side by side)
//   TfA, TfB  tf32, both operands        A and B of mma.m16n8k8 (two steps of k; within 8 columns of A and rows of B
//             the hardware's order is 0 2 4 6 1 3 5 7, so that pairs of neighbours belong to one lane, as in Acc)
//
// Rows and columns are always those of the matrix: a FragB is B[k][n] with row k and column n.
#pragma once

#include "backends/cuda/kda/tile/lanes.h"
#include "backends/cuda/kda/tile/numbers.h"

namespace deltatape::cuda::tile {

struct Place {
  int row;
  int col;
};

/// 16 x 16 floats, 8 per lane.
struct Acc {
  static constexpr int kPerLane = 8;
  PerLane<float, kPerLane> x;

  /// Which element value i of a lane is. i and i + 1 with even i are neighbours of one row.
  static constexpr Place place(int lane, int i) {
    return {lane / 4 + (i / 2) % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
  }
};

/// 16 x 16 bf16 as the left operand: 4 registers of two neighbours of one row.
struct FragA {
  static constexpr int kPerLane = 8;
  PerLane<uint32_t, 4> x;
  static constexpr Place place(int lane, int i) {
    return {lane / 4 + (i / 2) % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
  }
};

/// 16 x 16 bf16 as the right operand: 4 registers of two neighbours of one column; 0 and 1 are columns 0 to 7.
struct FragB {
  static constexpr int kPerLane = 8;
  PerLane<uint32_t, 4> x;
  static constexpr Place place(int lane, int i) {
    return {lane % 4 * 2 + i % 2 + (i / 2) % 2 * 8, lane / 4 + i / 4 * 8};
  }
};

/// 16 x 16 tf32 as the left operand; registers 4 s to 4 s + 3 are columns 8 s to 8 s + 7.
struct TfA {
  static constexpr int kPerLane = 8;
  PerLane<uint32_t, kPerLane> x;
  static constexpr Place place(int lane, int i) {
    return {lane / 4 + i % 2 * 8, lane % 4 * 2 + (i / 2) % 2 + i / 4 * 8};
  }
};

/// 16 x 16 tf32 as the right operand; registers 4 s + 2 h and 4 s + 2 h + 1 are rows 8 s .. 8 s + 7 of columns 8 h ..
struct TfB {
  static constexpr int kPerLane = 8;
  PerLane<uint32_t, kPerLane> x;
  static constexpr Place place(int lane, int i) {
    return {lane % 4 * 2 + i % 2 + i / 4 * 8, lane / 4 + (i / 2) % 2 * 8};
  }
};

/// One float per row of a 16 x 16 tile, known to the four lanes that hold the row (one per column, to eight lanes).
struct RowVec {
  static constexpr int kPerLane = 2;
  PerLane<float, kPerLane> x;
  static constexpr int place(int lane, int i) { return lane / 4 + i * 8; }
  static constexpr int of(int i) { return (i / 2) % 2; }  // which of a lane's values belongs to value i of an Acc
};
struct ColVec {
  static constexpr int kPerLane = 4;
  PerLane<float, kPerLane> x;
  static constexpr int place(int lane, int i) { return lane % 4 * 2 + i % 2 + i / 2 * 8; }
  static constexpr int of(int i) { return i % 2 + i / 4 * 2; }
};

/// f(row, col, x&) for every element, each in the lane that holds it; x is a float. Of bf16 and tf32 operands x is the
/// rounded value and is rounded again afterwards.
template <class F>
DT_DEVICE void each(Acc& t, F&& f) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      f(at.row, at.col, t.x(lane, i));
    });
  });
}
template <class Frag, class F>
DT_DEVICE void each_of_pairs(Frag& t, F&& f) {
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const uint32_t pair = t.x(lane, r);
      float low = low_bf16(pair);
      float high = high_bf16(pair);
      const Place first = Frag::place(lane, 2 * r);
      const Place second = Frag::place(lane, 2 * r + 1);
      f(first.row, first.col, low);
      f(second.row, second.col, high);
      t.x(lane, r) = pack_bf16(low, high);
    });
  });
}
template <class F>
DT_DEVICE void each(FragA& t, F&& f) {
  each_of_pairs(t, f);
}
template <class F>
DT_DEVICE void each(FragB& t, F&& f) {
  each_of_pairs(t, f);
}
/// f(row, col, x&, r&) with r the value of the element's row (column) in a vector.
template <class F>
DT_DEVICE void each(Acc& t, RowVec& v, F&& f) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      f(at.row, at.col, t.x(lane, i), v.x(lane, RowVec::of(i)));
    });
  });
}
template <class F>
DT_DEVICE void each(Acc& t, ColVec& v, F&& f) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      f(at.row, at.col, t.x(lane, i), v.x(lane, ColVec::of(i)));
    });
  });
}
/// f(row, x&) (f(col, x&)) for every value, in every lane that holds a copy: f must do the same in all of them.
template <class F>
DT_DEVICE void each(RowVec& v, F&& f) {
  each_lane([&](int lane) { unroll<RowVec::kPerLane>([&](auto i) { f(RowVec::place(lane, i), v.x(lane, i)); }); });
}
template <class F>
DT_DEVICE void each(ColVec& v, F&& f) {
  each_lane([&](int lane) { unroll<ColVec::kPerLane>([&](auto i) { f(ColVec::place(lane, i), v.x(lane, i)); }); });
}
/// The same in one lane per value, for storing.
template <class F>
DT_DEVICE void each_once(const RowVec& v, F&& f) {
  each_lane([&](int lane) {
    if (lane % 4 == 0) {
      unroll<RowVec::kPerLane>([&](auto i) { f(RowVec::place(lane, i), v.x(lane, i)); });
    }
  });
}
template <class F>
DT_DEVICE void each_once(const ColVec& v, F&& f) {
  each_lane([&](int lane) {
    if (lane / 4 == 0) {
      unroll<ColVec::kPerLane>([&](auto i) { f(ColVec::place(lane, i), v.x(lane, i)); });
    }
  });
}

/// All elements the same.
DT_DEVICE void fill(Acc& t, float value) {
  each(t, [&](int, int, float& x) { x = value; });
}
DT_DEVICE Acc zeros() {
  Acc t;
  fill(t, 0.0F);
  return t;
}
DT_DEVICE void fill(RowVec& v, float value) {
  each(v, [&](int, float& x) { x = value; });
}
DT_DEVICE void fill(ColVec& v, float value) {
  each(v, [&](int, float& x) { x = value; });
}

/// Tiles whose elements are f(row, col), rounded to the operand's type.
template <class F>
DT_DEVICE Acc make_acc(F&& f) {
  Acc t;
  each(t, [&](int row, int col, float& x) { x = f(row, col); });
  return t;
}
template <class Frag, class F>
DT_DEVICE Frag make_bf16(F&& f) {
  Frag t;
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const Place first = Frag::place(lane, 2 * r);
      const Place second = Frag::place(lane, 2 * r + 1);
      const float low = f(first.row, first.col);
      const float high = f(second.row, second.col);
      t.x(lane, r) = pack_bf16(low, high);
    });
  });
  return t;
}
template <class Frag, class F>
DT_DEVICE Frag make_tf32(F&& f) {
  Frag t;
  each_lane([&](int lane) {
    unroll<Frag::kPerLane>([&](auto i) {
      const Place at = Frag::place(lane, i);
      t.x(lane, i) = tf32_bits(f(at.row, at.col));
    });
  });
  return t;
}
template <class F>
DT_DEVICE FragA make_a(F&& f) {
  return make_bf16<FragA>(f);
}
template <class F>
DT_DEVICE FragB make_b(F&& f) {
  return make_bf16<FragB>(f);
}
template <class F>
DT_DEVICE TfA make_tf_a(F&& f) {
  return make_tf32<TfA>(f);
}
template <class F>
DT_DEVICE TfB make_tf_b(F&& f) {
  return make_tf32<TfB>(f);
}

/// The tile rounded to bf16 as the left operand; nothing moves between lanes.
DT_DEVICE FragA as_a(const Acc& t) {
  FragA a;
  each_lane(
      [&](int lane) { unroll<4>([&](auto r) { a.x(lane, r) = pack_bf16(t.x(lane, 2 * r), t.x(lane, 2 * r + 1)); }); });
  return a;
}
/// Its transpose rounded to bf16 as the right operand; nothing moves between lanes.
DT_DEVICE FragB as_b_trans(const Acc& t) {
  FragB b;
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      constexpr int kFrom = (r % 2) * 2 + r / 2;  // rows and columns of the four 8 x 8 parts change places
      b.x(lane, r) = pack_bf16(t.x(lane, 2 * kFrom), t.x(lane, 2 * kFrom + 1));
    });
  });
  return b;
}
/// The same registers: A as the right operand A^T.
DT_DEVICE FragB as_b_trans(const FragA& a) {
  FragB b;
  each_lane([&](int lane) { unroll<4>([&](auto r) { b.x(lane, r) = a.x(lane, (r % 2) * 2 + r / 2); }); });
  return b;
}
/// The tile rounded to tf32 as the left operand, its transpose as the right; nothing moves between lanes.
DT_DEVICE TfA as_tf_a(const Acc& t) {
  TfA a;
  each_lane([&](int lane) {
    unroll<TfA::kPerLane>([&](auto i) {
      constexpr int kFrom = i / 4 * 4 + i % 2 * 2 + (i / 2) % 2;
      a.x(lane, i) = tf32_bits(t.x(lane, kFrom));
    });
  });
  return a;
}
DT_DEVICE TfB as_tf_b_trans(const Acc& t) {
  TfB b;
  each_lane([&](int lane) { unroll<TfB::kPerLane>([&](auto i) { b.x(lane, i) = tf32_bits(t.x(lane, i)); }); });
  return b;
}
/// What that rounding lost: t is as_tf_a(t) + rest_tf_a(t) to 22 bits.
DT_DEVICE TfA rest_tf_a(const Acc& t) {
  TfA a;
  each_lane([&](int lane) {
    unroll<TfA::kPerLane>([&](auto i) {
      constexpr int kFrom = i / 4 * 4 + i % 2 * 2 + (i / 2) % 2;
      const float x = t.x(lane, kFrom);
      a.x(lane, i) = tf32_bits(x - std::bit_cast<float>(tf32_bits(x)));
    });
  });
  return a;
}

/// Adds f(row, col, x) of every element to the lane's share of its row (column); `finish` sums the shares.
template <class F>
DT_DEVICE void add_rows(RowVec& v, const Acc& t, F&& f) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      v.x(lane, RowVec::of(i)) += f(at.row, at.col, t.x(lane, i));
    });
  });
}
template <class F>
DT_DEVICE void add_cols(ColVec& v, const Acc& t, F&& f) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      v.x(lane, ColVec::of(i)) += f(at.row, at.col, t.x(lane, i));
    });
  });
}
/// The sum of all lanes' shares, known to all of them; a fixed tree.
DT_DEVICE void finish(RowVec& v) { sum_lanes(v.x, 3); }
DT_DEVICE void finish(ColVec& v) { sum_lanes(v.x, 28); }

}  // namespace deltatape::cuda::tile

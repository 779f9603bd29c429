// The lane maps against those of the PTX manual (sections on mma.m16n8k16, mma.m16n8k8, ldmatrix), written out here
// again: the twin executes registers, so a wrong map in fragments.h must not agree with itself.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/backends/cuda/tile/run_block.h"

namespace deltatape::cuda::tile {
namespace {

float value_at(int row, int col) { return static_cast<float>(16 * row + col); }  // exact in bf16 up to 256

struct Matrix {
  float x[16][16];
};
Matrix random_matrix(uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> small(-8, 8);
  Matrix m{};
  for (auto& row : m.x) {
    for (float& x : row) {
      x = static_cast<float>(small(generator)) / 4;
    }
  }
  return m;
}
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c{};
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      for (int k = 0; k < 16; ++k) {
        c.x[i][j] += a.x[i][k] * b.x[k][j];
      }
    }
  }
  return c;
}
Matrix transpose(const Matrix& a) {
  Matrix t{};
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      t.x[i][j] = a.x[j][i];
    }
  }
  return t;
}
Matrix read_out(Acc& t) {
  Matrix m{};
  each(t, [&](int row, int col, float& x) { m.x[row][col] = x; });
  return m;
}
void check_equal(const Matrix& a, const Matrix& b) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      INFO(i, " ", j);
      expect(a.x[i][j] == b.x[i][j]);
    }
  }
}
FragA a_of(const Matrix& m) {
  return make_a([&](int i, int k) { return m.x[i][k]; });
}
FragB b_of(const Matrix& m) {
  return make_b([&](int k, int j) { return m.x[k][j]; });
}
TfA tf_a_of(const Matrix& m) {
  return make_tf_a([&](int i, int k) { return m.x[i][k]; });
}
TfB tf_b_of(const Matrix& m) {
  return make_tf_b([&](int k, int j) { return m.x[k][j]; });
}
Acc acc_of(const Matrix& m) {
  return make_acc([&](int i, int j) { return m.x[i][j]; });
}

using TileBf16 = STile<BFloat16, 16, 16, Swizzled>;

TEST_SUITE("tile_lane_maps") {
  TEST_CASE("A of mma.m16n8k16") {
    check_clean(1, 0, [](const Block&) {
      const FragA a = make_a(value_at);
      for (int lane = 0; lane < 32; ++lane) {
        const int groupID = lane >> 2;
        const int threadID_in_group = lane % 4;
        for (int i = 0; i < 8; ++i) {
          const int row = (i < 2 || (i >= 4 && i < 6)) ? groupID : groupID + 8;
          const int col = threadID_in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
          const uint32_t pair = a.x(lane, i / 2);
          expect((i % 2 == 0 ? low_bf16(pair) : high_bf16(pair)) == value_at(row, col));
        }
      }
    });
  }

  TEST_CASE("B of mma.m16n8k16") {
    check_clean(1, 0, [](const Block&) {
      const FragB b = make_b(value_at);
      for (int lane = 0; lane < 32; ++lane) {
        const int groupID = lane >> 2;
        const int threadID_in_group = lane % 4;
        for (int half = 0; half < 2; ++half) {
          for (int i = 0; i < 4; ++i) {
            const int row = threadID_in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
            const int col = groupID + 8 * half;
            const uint32_t pair = b.x(lane, 2 * half + i / 2);
            expect((i % 2 == 0 ? low_bf16(pair) : high_bf16(pair)) == value_at(row, col));
          }
        }
      }
    });
  }

  TEST_CASE("C and D of m16n8") {
    check_clean(1, 0, [](const Block&) {
      const Acc c = make_acc(value_at);
      for (int lane = 0; lane < 32; ++lane) {
        const int groupID = lane >> 2;
        const int threadID_in_group = lane % 4;
        for (int half = 0; half < 2; ++half) {
          for (int i = 0; i < 4; ++i) {
            const int row = i < 2 ? groupID : groupID + 8;
            const int col = threadID_in_group * 2 + (i & 1) + 8 * half;
            expect(c.x(lane, 4 * half + i) == value_at(row, col));
          }
        }
      }
    });
  }

  TEST_CASE("A and B of mma.m16n8k8 hold all of k, in one order") {
    check_clean(1, 0, [](const Block&) {
      const TfA a = make_tf_a(value_at);
      const TfB b = make_tf_b(value_at);
      for (int step = 0; step < 2; ++step) {
        int k_of_slot[8];
        for (int slot = 0; slot < 8; ++slot) {  // of A: row 0 is lanes 0 to 3, a0 for slots 0 to 3 and a2 for 4 to 7
          k_of_slot[slot] = static_cast<int>(std::bit_cast<float>(a.x(slot % 4, 4 * step + slot / 4 * 2)));
          expect(k_of_slot[slot] / 8 == step);
        }
        for (int lane = 0; lane < 32; ++lane) {
          const int groupID = lane >> 2;
          const int threadID_in_group = lane % 4;
          for (int i = 0; i < 4; ++i) {
            const int row = (i == 0 || i == 2) ? groupID : groupID + 8;
            const int slot = threadID_in_group + (i >= 2 ? 4 : 0);
            expect(std::bit_cast<float>(a.x(lane, 4 * step + i)) == value_at(row, k_of_slot[slot]));
          }
          for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 2; ++i) {
              const int slot = threadID_in_group + 4 * i;
              const int col = groupID + 8 * half;
              expect(std::bit_cast<float>(b.x(lane, 4 * step + 2 * half + i)) == value_at(k_of_slot[slot], col));
            }
          }
        }
      }
    });
  }

  TEST_CASE("ldmatrix gives lane l row l/4 and elements 2 (l mod 4), of each matrix; transposed with .trans") {
    check_clean(1, 512, [](const Block& block) {
      const auto tile = block.shared<STile<BFloat16, 32, 8>>(0);  // four matrices of 8 x 8, one below the other
      block.fill(tile, [](int row, int col) { return static_cast<float>(8 * row + col); });
      sync_warp();
      PerLane<uint32_t, 4> plain;
      PerLane<uint32_t, 4> turned;
      ldmatrix<false>(plain, [&](int lane) { return tile.at(lane, 0); });
      ldmatrix<true>(turned, [&](int lane) { return tile.at(lane, 0); });
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < 4; ++m) {
          const int row = lane / 4;
          const int col = 2 * (lane % 4);
          const auto number = [m](int i, int j) { return static_cast<float>(64 * m + 8 * i + j); };
          expect(low_bf16(plain(lane, m)) == number(row, col));
          expect(high_bf16(plain(lane, m)) == number(row, col + 1));
          expect(low_bf16(turned(lane, m)) == number(col, row));
          expect(high_bf16(turned(lane, m)) == number(col + 1, row));
        }
      }
    });
  }

  TEST_CASE("a wrong lane map is caught by the product") {
    check_clean(1, 0, [](const Block&) {
      const Matrix left = random_matrix(1);
      const Matrix right = random_matrix(2);
      FragA a = a_of(left);
      each_lane([&](int lane) { std::swap(a.x(lane, 1), a.x(lane, 2)); });  // the classic: registers 1 and 2 exchanged
      Acc c = zeros();
      mma(c, a, b_of(right));
      bool differs = false;
      const Matrix expected = product(left, right);
      each(c, [&](int row, int col, float& x) { differs = differs || x != expected.x[row][col]; });
      CHECK(differs);
    });
  }
}

TEST_SUITE("tile_products") {
  TEST_CASE("bf16, tf32, halves") {
    check_clean(1, 0, [](const Block&) {
      const Matrix left = random_matrix(1);
      const Matrix right = random_matrix(2);
      const Matrix expected = product(left, right);
      Acc c = zeros();
      mma(c, a_of(left), b_of(right));
      check_equal(read_out(c), expected);
      fill(c, 0.0F);
      mma(c, tf_a_of(left), tf_b_of(right));
      check_equal(read_out(c), expected);
      fill(c, 0.0F);
      mma_half<1>(c, a_of(left), b_of(right));
      each(c, [&](int row, int col, float& x) { expect(x == (col < 8 ? 0.0F : expected.x[row][col])); });
    });
  }

  TEST_CASE("operands from shared memory, plain and transposed, at every place of a swizzled tile") {
    check_clean(1, 2 * 64 * 128, [](const Block& block) {
      const auto tile = block.shared<STile<BFloat16, 64, 128, Swizzled>>(0);
      const auto at = [](int row, int col) { return static_cast<float>((row * 37 + col * 11) % 61 - 30); };
      block.fill(tile, at);
      sync_warp();
      const Matrix other = random_matrix(3);
      for (int row = 0; row < 64; row += 16) {
        for (int col = 0; col < 128; col += 16) {
          Matrix part{};
          for (int i = 0; i < 16; ++i) {
            for (int j = 0; j < 16; ++j) {
              part.x[i][j] = at(row + i, col + j);
            }
          }
          Acc c = zeros();
          mma(c, load_a(tile, row, col), b_of(other));
          check_equal(read_out(c), product(part, other));
          fill(c, 0.0F);
          mma(c, load_a_trans(tile, row, col), b_of(other));
          check_equal(read_out(c), product(transpose(part), other));
          fill(c, 0.0F);
          mma(c, a_of(other), load_b(tile, row, col));
          check_equal(read_out(c), product(other, part));
          fill(c, 0.0F);
          mma(c, a_of(other), load_b_trans(tile, row, col));
          check_equal(read_out(c), product(other, transpose(part)));
        }
      }
    });
  }

  TEST_CASE("tf32 operands from an f32 tile") {
    check_clean(1, 4 * 32 * 40, [](const Block& block) {
      const auto tile = block.shared<STile<float, 32, 32, Strided<40>>>(0);
      const Matrix part = random_matrix(4);
      const Matrix other = random_matrix(5);
      block.fill(tile,
                 [&](int row, int col) { return row >= 16 && col >= 16 ? part.x[row - 16][col - 16] : std::nanf(""); });
      sync_warp();
      Acc c = zeros();
      mma(c, load_tf_a(tile, 16, 16), tf_b_of(other));
      check_equal(read_out(c), product(part, other));
      fill(c, 0.0F);
      mma(c, tf_a_of(other), load_tf_b(tile, 16, 16));
      check_equal(read_out(c), product(other, part));
    });
  }

  TEST_CASE("sums become operands without moving between lanes") {
    check_clean(1, 0, [](const Block&) {
      const Matrix left = random_matrix(6);
      const Matrix right = random_matrix(7);
      Acc c = zeros();
      mma(c, as_a(acc_of(left)), b_of(right));
      check_equal(read_out(c), product(left, right));
      fill(c, 0.0F);
      mma(c, a_of(left), as_b_trans(acc_of(right)));
      check_equal(read_out(c), product(left, transpose(right)));
      fill(c, 0.0F);
      mma(c, as_tf_a(acc_of(left)), as_tf_b_trans(acc_of(right)));
      check_equal(read_out(c), product(left, transpose(right)));
      fill(c, 0.0F);
      mma(c, a_of(left), as_b_trans(a_of(right)));
      check_equal(read_out(c), product(left, transpose(right)));
    });
  }

  TEST_CASE("two tf32 operands hold 22 bits of a sum") {
    check_clean(1, 0, [](const Block&) {
      const Acc t = make_acc([](int row, int col) { return 1.0F + std::sin(static_cast<float>(17 * row + col)) / 3; });
      Matrix identity{};
      for (int i = 0; i < 16; ++i) {
        identity.x[i][i] = 1.0F;
      }
      Acc rough = zeros();
      mma(rough, as_tf_a(t), tf_b_of(identity));
      Acc fine = rough;
      mma(fine, rest_tf_a(t), tf_b_of(identity));
      float rough_error = 0;
      each_lane([&](int lane) {
        for (int i = 0; i < 8; ++i) {
          rough_error = std::max(rough_error, std::fabs(rough.x(lane, i) - t.x(lane, i)));
          expect(std::fabs(fine.x(lane, i) - t.x(lane, i)) < 1.0F / (1 << 21));
        }
      });
      CHECK(rough_error > 1.0F / (1 << 13));
    });
  }

  TEST_CASE("stores, loads and transposed stores of sums") {
    check_clean(1, 4 * 16 * 24 + 2 * 16 * 32, [](const Block& block) {
      const auto wide = block.shared<STile<float, 16, 16, Strided<24>>>(0);
      const auto narrow_tile = block.shared<STile<BFloat16, 16, 32, Swizzled>>(4 * 16 * 24);
      const Matrix m = random_matrix(8);
      store(wide, 0, 0, acc_of(m));
      store(narrow_tile, 0, 16, acc_of(m));
      store_trans(narrow_tile, 0, 0, acc_of(m));
      sync_warp();
      Acc again = load_acc(wide, 0, 0);
      check_equal(read_out(again), m);
      again = load_acc(narrow_tile, 0, 16);
      check_equal(read_out(again), m);
      again = load_acc(narrow_tile, 0, 0);
      check_equal(read_out(again), transpose(m));
      sync_warp();
      store(narrow_tile, 0, 0, a_of(m));
      sync_warp();
      again = load_acc(narrow_tile, 0, 0);
      check_equal(read_out(again), m);
    });
  }

  TEST_CASE("sums over rows and columns") {
    check_clean(1, 0, [](const Block&) {
      const Matrix m = random_matrix(9);
      RowVec rows;
      ColVec cols;
      fill(rows, 0.0F);
      fill(cols, 0.0F);
      add_rows(rows, acc_of(m), [](int, int, float x) { return x; });
      add_cols(cols, acc_of(m), [](int, int, float x) { return 2 * x; });
      finish(rows);
      finish(cols);
      int seen = 0;
      each(rows, [&](int row, float& x) {
        float sum = 0;
        for (const float y : m.x[row]) {
          sum += y;
        }
        expect(x == sum);
      });
      each_once(cols, [&](int col, float x) {
        float sum = 0;
        for (const auto& row : m.x) {
          sum += 2 * row[col];
        }
        expect(x == sum);
        ++seen;
      });
      CHECK(seen == 16);
      each_once(rows, [&](int, float) { ++seen; });
      CHECK(seen == 32);
    });
  }
}

}  // namespace
}  // namespace deltatape::cuda::tile

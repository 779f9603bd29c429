// Products of a warpgroup on the twin: descriptors against the layout, results against exact products, and misuse.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "tests/backends/cuda/tile/run_block.h"

namespace deltatape::cuda::tile {
namespace {

/// Small numbers that differ from place to place: sums of products of them are exact.
float a_at(int row, int k) { return static_cast<float>((7 * row + 5 * k) % 17 - 8) / 4; }
float tile_at(int row, int col) { return static_cast<float>((3 * row + 11 * col) % 19 - 9) / 2; }

template <int rows, int cols>
using Tile = STile<BFloat16, rows, cols, Panels<rows>>;

/// Every element of every operand of 16 rows, or columns, of a tile lies where its descriptor says. Run in a warp.
template <int rows, int cols>
void check_descriptors(const Block& block, int offset) {
  const auto tile = block.shared<Tile<rows, cols>>(offset);
  const uint32_t begin = panel_address(tile.begin());
  for (int first = 0; first < rows; first += 16) {
    const uint64_t descriptor = descriptor_of_rows<rows>(begin, first);
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < cols; ++j) {
        expect(host::operand_byte(descriptor, true, k, j) == tile.at(first + k, j).byte());
      }
    }
  }
  for (int first = 0; first < cols; first += 16) {
    const uint64_t descriptor = descriptor_of_columns<rows>(begin, first);
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < rows; ++j) {
        expect(host::operand_byte(descriptor, false, k, j) == tile.at(j, first + k).byte());
      }
    }
  }
}

template <class TheTile>
void fill_tile(const Block& block, const TheTile& tile) {
  block.fill(tile, tile_at);
  fence_stores();
  block.sync();
}

/// d = a tile (its transpose with `trans`) twice, with 5 added between.
template <bool trans, int rows, int cols>
void check_product(const Block& block) {
  constexpr int kDepth = trans ? cols : rows;
  constexpr int kColumns = trans ? rows : cols;
  const auto tile = block.shared<Tile<rows, cols>>(1024);
  fill_tile(block, tile);
  const int row = 16 * block.warp();
  FragA a[kDepth / 16];
  unroll<kDepth / 16>([&](auto s) { a[s] = make_a([&](int i, int k) { return a_at(row + i, 16 * s + k); }); });
  WgAcc<kColumns> d;
  const auto multiply = [&]<bool from_zero>() {
    wg_fence(a, d);
    unroll<kDepth / 16>([&](auto s) {
      if constexpr (trans) {
        wg_mma_trans<from_zero && s == 0>(d, a[s], tile, 16 * s);
      } else {
        wg_mma<from_zero && s == 0>(d, a[s], tile, 16 * s);
      }
      if constexpr (s == 0) {
        wg_commit();
      }
    });
    wg_commit();
    wg_wait<0>(d);
  };
  multiply.template operator()<true>();
  unroll<kColumns / 16>([&](auto t) { each(d[t], [](int, int, float& x) { x += 5; }); });
  multiply.template operator()<false>();
  unroll<kColumns / 16>([&](auto t) {
    each(d[t], [&](int i, int j, float& x) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) {
        sum += a_at(row + i, k) * (trans ? tile_at(16 * t + j, k) : tile_at(k, 16 * t + j));
      }
      expect(x == 2 * sum + 5);
    });
  });
}

TEST_SUITE("tile_wgmma") {
  TEST_CASE("descriptors say where operands lie") {
    check_clean(1, 3 * 16384, [](const Block& block) {
      for (const int offset : {0, 1024, 3072, 16384}) {
        check_descriptors<64, 64>(block, offset);
        check_descriptors<64, 128>(block, offset);
        check_descriptors<32, 64>(block, offset);
        check_descriptors<128, 64>(block, offset);
      }
    });
  }

  TEST_CASE("the fields of a descriptor") {
    const auto field = [](uint64_t descriptor, int low, int bits) {
      return descriptor >> low & ((uint64_t{1} << bits) - 1);
    };
    const uint64_t rows = descriptor_of_rows<64>(0x2c00, 32);  // 32 rows of 128 bytes on
    CHECK(field(rows, 0, 14) == (0x2c00 + 0x1000) / 16);
    CHECK(field(rows, 16, 14) == 64 * 128 / 16);  // the next panel
    CHECK(field(rows, 32, 14) == 1024 / 16);      // the next 8 rows
    CHECK(field(rows, 49, 3) == 0);
    CHECK(field(rows, 62, 2) == 1);
    const uint64_t columns = descriptor_of_columns<64>(0x2c00, 80);  // 16 columns of the second panel on
    CHECK(field(columns, 0, 14) == (0x2c00 + 0x2000 + 32) / 16);
    CHECK(field(columns, 16, 14) == 1);
    CHECK(field(columns, 32, 14) == 1024 / 16);
    CHECK(field(columns, 62, 2) == 1);
    CHECK(field(descriptor_of_columns<64>(0x38400, 0), 0, 14) == 0x3840);  // 225 KiB
  }

  TEST_CASE("of 64 columns, panels are what Swizzled rows are") {
    for (int row = 0; row < 64; ++row) {
      for (int col = 0; col < 64; ++col) {
        CHECK(Panels<64>::index<BFloat16, 64>(row, col) == Swizzled::index<BFloat16, 64>(row, col));
      }
    }
  }

  TEST_CASE("products with tiles as they lie and transposed") {
    constexpr int kShared = 1024 + 16384;
    check_clean(4, kShared, [](const Block& block) { check_product<false, 64, 64>(block); });
    check_clean(4, kShared, [](const Block& block) { check_product<false, 64, 128>(block); });
    check_clean(4, kShared, [](const Block& block) { check_product<true, 64, 64>(block); });
    check_clean(4, kShared, [](const Block& block) { check_product<true, 64, 128>(block); });
  }

  TEST_CASE("a product is that of mma, bit for bit") {
    check_clean(4, 16384, [](const Block& block) {
      const auto tile = block.shared<Tile<64, 128>>(0);
      block.fill(tile, [](int row, int col) { return 1.0F / static_cast<float>(3 + row + 2 * col); });
      fence_stores();
      block.sync();
      FragA a[4];
      unroll<4>(
          [&](auto s) { a[s] = make_a([&](int i, int k) { return 1.0F / static_cast<float>(1 + 7 * i + k + s); }); });
      WgAcc<128> d;
      Acc expected[8];
      unroll<8>([&](auto t) {
        expected[t] = d[t] = make_acc([](int i, int j) { return 0.01F * static_cast<float>(i - 3 * j); });
      });
      unroll<4>([&](auto s) { unroll<8>([&](auto t) { mma(expected[t], a[s], load_b(tile, 16 * s, 16 * t)); }); });
      wg_fence(a, d);
      unroll<4>([&](auto s) { wg_mma(d, a[s], tile, 16 * s); });
      wg_commit();
      wg_wait<0>(d);
      unroll<8>([&](auto t) {
        each_lane([&](int lane) { unroll<8>([&](auto i) { expect(d[t].x(lane, i) == expected[t].x(lane, i)); }); });
      });
    });
  }

  TEST_CASE("a left operand of products in two groups is NaN until the later one is waited for, and then itself") {
    check_clean(4, 8192, [](const Block& block) {
      const auto tile = block.shared<Tile<64, 64>>(0);
      fill_tile(block, tile);
      FragA a = make_a(a_at);
      const host::OperandBits bits = host::bits_of(a);
      WgAcc<64> first;
      WgAcc<64> second;
      wg_fence(a, first, second);
      wg_mma<true>(first, a, tile, 0);
      wg_commit();
      wg_mma<true>(second, a, tile, 0);
      wg_commit();
      expect(host::bits_of(a) != bits);
      wg_wait<1>(first);
      expect(host::bits_of(a) != bits);
      wg_wait<0>(second);
      expect(host::bits_of(a) == bits);
      wg_fence(a);
      unroll<4>([&](auto t) {
        each_lane([&](int lane) { unroll<8>([&](auto i) { expect(first[t].x(lane, i) == second[t].x(lane, i)); }); });
      });
    });
  }

  TEST_CASE("groups: the sums of one may be used while the next is under way") {
    check_clean(4, 8192, [](const Block& block) {
      const auto tile = block.shared<Tile<64, 64>>(0);
      fill_tile(block, tile);
      FragA a = make_a(a_at);
      WgAcc<64> first;
      WgAcc<64> second;
      wg_fence(a, first, second);
      wg_mma<true>(first, a, tile, 0);
      wg_commit();
      wg_mma<true>(second, a, tile, 16);
      wg_commit();
      wg_wait<1>(first);
      FragA b = as_a(first[0]);
      wg_fence(b);
      wg_mma(second, b, tile, 32);
      wg_commit();
      wg_wait<0>(second);
      const Acc x = second[3];
      expect(x.x(0, 0) == x.x(0, 0));
    });
  }
}

// A block of one warpgroup that does everything right but for one thing.
enum class Fault {
  none,
  no_store_fence,
  no_fence_of_sums,
  no_fence_of_left,
  fence_of_sums_under_way,
  left_changed,
  left_read,
  tile_changed,
  tile_changed_by_other_warp,
  sums_read,
  sums_written,
  sums_written_by_reference,
  no_commit,
  no_wait,
  no_commit_no_wait,
  wait_too_short,
  not_named,
  other_product,
  one_product_less,
  one_lane,
  not_aligned,
};

struct Product {
  Fault fault;
  static constexpr int kShared = 2 * 8192;

  void operator()(const Block& block) const {
    const auto tile = block.shared<Tile<64, 64>>(fault == Fault::not_aligned ? 512 : 0);
    block.fill(tile, tile_at);
    if (fault != Fault::no_store_fence) {
      fence_stores();
    }
    block.sync();
    FragA a = make_a(a_at);
    WgAcc<64> d;
    Acc& reference = d[0];
    fence(a, d);
    if (fault == Fault::one_lane) {
      one_lane([&] { wg_mma<true>(d, a, tile, 0); });
    }
    if (fault != Fault::one_product_less || block.warp() != 3) {
      wg_mma<true>(d, a, tile, fault == Fault::other_product && block.warp() == 3 ? 16 : 0);
    }
    if (fault != Fault::no_commit && fault != Fault::no_commit_no_wait) {
      wg_commit();
    }
    misuse(block, a, d, reference, tile);
    if (fault == Fault::wait_too_short) {
      wg_wait<1>(d);
    } else if (fault == Fault::not_named) {
      wg_wait<0>();
    } else if (fault != Fault::no_wait && fault != Fault::no_commit_no_wait) {
      wg_wait<0>(d);
    }
    if (fault != Fault::no_wait && fault != Fault::no_commit_no_wait) {
      const Acc x = d[0];
      expect(fault != Fault::none || x.x(0, 0) == x.x(0, 0));
    }
  }

 private:
  void fence(FragA& a, WgAcc<64>& d) const {
    if (fault == Fault::no_fence_of_sums) {
      wg_fence(a);
    } else if (fault == Fault::no_fence_of_left) {
      wg_fence(d);
    } else {
      wg_fence(a, d);
    }
  }
  void misuse(const Block& block, FragA& a, WgAcc<64>& d, Acc& reference, const Tile<64, 64>& tile) const {
    switch (fault) {
      case Fault::fence_of_sums_under_way:
        wg_fence(d);
        break;
      case Fault::left_changed:
        a = as_a(zeros());
        break;
      case Fault::left_read: {
        const FragA copy = a;
        expect(host::bits_of(copy) == host::bits_of(make_a(a_at)));
        break;
      }
      case Fault::tile_changed:
        if (block.warp() == 0) {
          one_lane([&] { tile.set(3, 3, 100); });
        }
        break;
      case Fault::tile_changed_by_other_warp:
        if (block.warp() == 3) {
          one_lane([&] { tile.set(3, 3, 100); });
        }
        block.sync();
        break;
      case Fault::sums_read:
        (void)as_a(d[1]);
        break;
      case Fault::sums_written:
        d[1] = zeros();
        break;
      case Fault::sums_written_by_reference:
        reference = zeros();
        break;
      default:
        break;
    }
  }
};

TEST_SUITE("tile_wgmma_faults") {
  TEST_CASE("each fault is caught") {
    check_clean(4, Product::kShared, Product{Fault::none});
    const auto caught = [](Fault fault, const std::string& text) {
      CAPTURE(static_cast<int>(fault));
      check_caught(4, Product::kShared, text, Product{fault});
    };
    caught(Fault::no_store_fence, "stored without fence_stores after it");
    caught(Fault::no_fence_of_sums, "sums were touched after the last wg_fence that named them");
    caught(Fault::no_fence_of_left, "the left operand was written after the last wg_fence that named it");
    caught(Fault::fence_of_sums_under_way, "sums of products under way are named");
    caught(Fault::left_changed, "a left operand was changed, or is no longer there, before the wait");
    caught(Fault::left_read, "");  // it holds NaN
    caught(Fault::tile_changed, "shared memory");
    caught(Fault::tile_changed_by_other_warp, "shared memory");
    caught(Fault::sums_read, "sums are used before a wg_wait has named them");
    caught(Fault::sums_written, "sums are used before a wg_wait has named them");
    caught(Fault::sums_written_by_reference, "sums were written while products into them were under way");
    caught(Fault::no_commit, "1 products were begun and not committed");
    caught(Fault::no_wait, "ends with 1 products that it has not waited for");
    caught(Fault::no_commit_no_wait, "ends with 1 products that it has not waited for");
    caught(Fault::wait_too_short, "sums are named into which 1 products are still under way");
    caught(Fault::not_named, "sums are used before a wg_wait has named them");
    caught(Fault::other_product, "executes another product, commit, wait or change of registers than");
    caught(Fault::one_product_less, "executes another product, commit, wait or change of registers than");
    caught(Fault::one_lane, "is used inside per-lane code");
    caught(Fault::not_aligned, "a tile begins at byte 512, expected a multiple of 1024");
  }

  TEST_CASE("a warp that makes fewer steps than its warpgroup") {
    check_caught(4, 0, "steps of its warpgroup", [](const Block& block) {
      if (block.warp() != 2) {
        wg_commit();
      }
    });
  }

  TEST_CASE("registers are given and taken by whole warpgroups") {
    check_clean(8, 0, [](const Block& block) {
      if (block.warp() < kWarpsOfGroup) {
        give_registers<40>();
      } else {
        take_registers<232>();
      }
    });
    check_caught(4, 0, "warp 1 ends after 0 steps of its warpgroup, and others made 1", [](const Block& block) {
      if (block.warp() == 0) {
        give_registers<40>();
      }
    });
    check_caught(4, 0, "take_registers is used inside per-lane code",
                 [](const Block& /*block*/) { one_lane([] { take_registers<232>(); }); });
    check_caught(4, 0, "executes another product, commit, wait or change of registers than", [](const Block& block) {
      if (block.warp() == 3) {
        give_registers<40>();
      } else {
        take_registers<40>();
      }
    });
    check_caught(4, 0, "executes another product, commit, wait or change of registers than", [](const Block& block) {
      if (block.warp() == 3) {
        give_registers<40>();
      } else {
        give_registers<48>();
      }
    });
  }

  TEST_CASE("what a bulk copy brought needs no fence, what lanes copied does") {
    static std::vector<BFloat16> source(64 * 64, BFloat16(1.0F));
    const auto copy_and_multiply = [](bool bulk) {
      return [bulk](const Block& block) {
        constexpr int kPipe = 8192;
        const auto tile = block.shared<Tile<64, 64>>(0);
        Pipe<1> pipe(block, kPipe, 4);
        block.sync();
        if (block.warp() == 4) {
          pipe.acquire(bulk ? 8192 : 0);
          if (bulk) {
            pipe.load_raw(tile, source.data());
          } else {
            pipe.load_rows(tile, GTile<const BFloat16>(source.data(), 64, 64, 64));
          }
          pipe.commit();
          return;
        }
        pipe.wait();
        FragA a = make_a(a_at);
        WgAcc<64> d;
        wg_fence(a, d);
        wg_mma<true>(d, a, tile, 0);
        wg_commit();
        wg_wait<0>(d);
        pipe.release();
      };
    };
    check_clean(5, 8192 + 16, copy_and_multiply(true));
    check_caught(5, 8192 + 16, "stored without fence_stores after it", copy_and_multiply(false));
  }
}

}  // namespace
}  // namespace deltatape::cuda::tile

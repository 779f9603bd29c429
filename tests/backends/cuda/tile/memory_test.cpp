// What the host twin finds in shared and global memory. Each fault stands beside the version without it.
#include <doctest/doctest.h>

#include <vector>

#include "tests/backends/cuda/tile/run_block.h"

namespace deltatape::cuda::tile {
namespace {

using Row = SRow<float, 64>;
constexpr int kBytes = Row::kBytes;

TEST_SUITE("tile_shared_memory") {
  TEST_CASE("a barrier between writer and reader of two warps") {
    const auto body = [](bool with_barrier) {
      return [with_barrier](const Block& block) {
        const auto row = block.shared<Row>(0);
        block.fill(row, [](int, int col) { return static_cast<float>(col); });
        if (with_barrier) {
          block.sync();
        }
        block.each(64, [&](int i) { expect(row(0, 63 - i) == static_cast<float>(63 - i)); });
      };
    };
    check_clean(2, kBytes, body(true));
    check_caught(2, kBytes, "byte", body(false));  // never written, or written by the other warp: both say the byte
  }

  TEST_CASE("the writer's and the reader's barrier must be the same") {
    check_caught(3, kBytes, "since their last common barrier", [](const Block& block) {
      const auto row = block.shared<Row>(0);
      if (block.warp() == 0) {
        block.this_warp().each(1, [&](int) { row.set(0, 0, 1.0F); });
      }
      block.sync();
      if (block.warp() == 0) {
        block.this_warp().each(1, [&](int) { row.set(0, 0, 2.0F); });
      }
      if (block.warp() < 2) {
        block.team(0, 2, 1).sync();
      }
      if (block.warp() == 2) {  // was at the first barrier only
        block.this_warp().each(1, [&](int) { expect(row(0, 0) > 0.0F); });
      }
      block.sync();
    });
  }

  TEST_CASE("order is passed on through a third warp") {
    check_clean(3, kBytes, [](const Block& block) {
      const auto row = block.shared<Row>(0);
      if (block.warp() == 0) {
        block.this_warp().each(64, [&](int i) { row.set(0, i, 1.0F); });
      }
      if (block.warp() <= 1) {
        block.team(0, 2, 1).sync();
      }
      if (block.warp() >= 1) {
        block.team(1, 2, 2).sync();
      }
      if (block.warp() == 2) {
        block.this_warp().each(64, [&](int i) { expect(row(0, i) == 1.0F); });
      }
    });
  }

  TEST_CASE("two warps write the same place") {
    check_caught(2, kBytes, "wrote since their last common barrier", [](const Block& block) {
      const auto row = block.shared<Row>(0);
      block.this_warp().each(64, [&](int i) { row.set(0, i, 1.0F); });
    });
  }

  TEST_CASE("memory is used again before its readers are done") {
    const auto body = [](bool with_barrier) {
      return [with_barrier](const Block& block) {
        const auto row = block.shared<Row>(0);
        block.fill(row, [](int, int col) { return static_cast<float>(col); });
        block.sync();
        float sum = 0.0F;
        block.each(64, [&](int i) { sum += row(0, 63 - i); });
        if (with_barrier) {
          block.sync();
        }
        block.fill(row, [](int, int) { return 0.0F; });
      };
    };
    check_clean(2, kBytes, body(true));
    check_caught(2, kBytes, "since their last common barrier", body(false));
  }

  TEST_CASE("lanes of a warp exchange through memory only with sync_warp") {
    const auto body = [](bool with_sync) {
      return [with_sync](const Block& block) {
        const auto row = block.shared<SRow<float, 32>>(0);
        each_lane([&](int lane) { row.set(0, lane, static_cast<float>(lane)); });
        if (with_sync) {
          sync_warp();
        }
        each_lane([&](int lane) { expect(row(0, 31 - lane) == static_cast<float>(31 - lane)); });
      };
    };
    check_clean(1, kBytes, body(true));
    check_caught(1, kBytes, "since the lanes were last synchronised", body(false));
  }

  TEST_CASE("a lane overwrites what another lane has just read") {
    const auto body = [](bool with_sync) {
      return [with_sync](const Block& block) {
        const auto row = block.shared<SRow<float, 32>>(0);
        each_lane([&](int lane) { row.set(0, lane, 1.0F); });
        sync_warp();
        each_lane([&](int lane) { expect(row(0, 31 - lane) == 1.0F); });
        if (with_sync) {
          sync_warp();
        }
        each_lane([&](int lane) { row.set(0, lane, 2.0F); });
      };
    };
    check_clean(1, kBytes, body(true));
    check_caught(1, kBytes, "which another lane of the warp read", body(false));
  }

  TEST_CASE("ldmatrix of what lanes stored needs sync_warp as well") {
    const auto body = [](bool with_sync) {
      return [with_sync](const Block& block) {
        const auto tile = block.shared<STile<BFloat16, 16, 16, Swizzled>>(0);
        store(tile, 0, 0, zeros());
        if (with_sync) {
          sync_warp();
        }
        const FragA a = load_a(tile, 0, 0);
        expect(a.x(0, 0) == 0);
      };
    };
    check_clean(1, 512, body(true));
    check_caught(1, 512, "since the lanes were last synchronised", body(false));
  }

  TEST_CASE("reading what nobody has written") {
    check_caught(1, kBytes, "which nobody has written", [](const Block& block) {
      const auto row = block.shared<Row>(0);
      each_lane([&](int lane) { expect(row(0, lane) == 0.0F); });
    });
  }

  TEST_CASE("floats read as bf16") {
    check_caught(1, kBytes, "as elements of 2 bytes, which was written as elements of 4", [](const Block& block) {
      block.fill(block.shared<Row>(0), [](int, int) { return 1.0F; });
      block.sync();
      const auto other = block.shared<SRow<BFloat16, 64>>(0);
      each_lane([&](int lane) { expect(other(0, lane) == 0.0F); });
    });
  }

  TEST_CASE("outside of a tile, of the memory, and out of alignment") {
    check_caught(1, kBytes, "element (0, 64) of a tile in shared memory of 1 x 64", [](const Block& block) {
      const auto row = block.shared<Row>(0);
      each_lane([&](int lane) { row.set(0, lane + 33, 1.0F); });
    });
    check_caught(1, kBytes, "a view takes bytes 16 to 272", [](const Block& block) { (void)block.shared<Row>(16); });
    check_caught(1, kBytes, "not aligned", [](const Block& block) {
      const auto row = block.shared<Row>(0);
      each_lane([&](int lane) { row.write<2>(0, lane + 1, {{1.0F, 2.0F}}); });
    });
    check_caught(1, 1024, "ldmatrix: the address of lane 1 is byte 36", [](const Block& block) {
      const auto tile = block.shared<STile<BFloat16, 16, 16, Strided<18>>>(0);
      block.fill(tile, [](int, int) { return 1.0F; });
      sync_warp();
      (void)load_a(tile, 0, 0);
    });
  }

  TEST_CASE("per-lane code stays per lane") {
    check_caught(2, kBytes, "sync is used inside per-lane code",
                 [](const Block& block) { each_lane([&](int) { block.sync(); }); });
    check_caught(1, kBytes, "written outside of per-lane code",
                 [](const Block& block) { block.shared<Row>(0).set(0, 0, 1.0F); });
  }
}

TEST_SUITE("tile_copies") {
  constexpr int kTile = 2 * 16 * 64;
  using Tile = STile<BFloat16, 16, 64, Swizzled>;
  const std::vector<BFloat16> numbers = [] {
    std::vector<BFloat16> x;
    x.reserve(16 * 64);
    for (int i = 0; i < 16 * 64; ++i) {
      x.emplace_back(static_cast<float>(i % 251));
    }
    return x;
  }();

  TEST_CASE("data are there after the wait and the barrier, not before") {
    enum class Fault { none, no_wait, no_barrier, wait_too_few, not_committed };
    const auto body = [](Fault fault) {
      return [fault](const Block& block) {
        const auto first = block.shared<Tile>(0);
        const auto second = block.shared<Tile>(kTile);
        const GTile<const BFloat16> from(numbers.data(), 64, 16, 64);
        copy_async(block, first, from);
        commit_copies();
        copy_async(block, second, from);
        if (fault != Fault::not_committed) {
          commit_copies();
        }
        if (fault == Fault::wait_too_few) {
          wait_copies<1>();
        } else if (fault != Fault::no_wait) {
          wait_copies<0>();
        }
        if (fault != Fault::no_barrier) {
          block.sync();
        }
        const int wanted = 63 - block.warp();
        each_lane([&](int lane) {
          for (int row = 0; row < 16; ++row) {
            expect(first(row, (wanted + lane) % 64) == second(row, (wanted + lane) % 64));
          }
        });
        wait_copies<0>();
      };
    };
    check_clean(2, 2 * kTile, body(Fault::none));
    check_caught(2, 2 * kTile, "a copy of warp", body(Fault::no_wait));
    check_caught(2, 2 * kTile, "shared memory", body(Fault::no_barrier));
    check_caught(2, 2 * kTile, "a wait is missing", body(Fault::wait_too_few));
    check_caught(2, 2 * kTile, "a wait is missing", body(Fault::not_committed));
  }

  TEST_CASE("rows and columns beyond the last are 0") {
    check_clean(2, kTile, [](const Block& block) {
      const auto tile = block.shared<Tile>(0);
      copy_async(block, tile, GTile<const BFloat16>(numbers.data(), 64, 5, 60));
      commit_copies();
      wait_copies<0>();
      block.sync();
      block.each(16 * 64, [&](int i) {
        const float expected = i / 64 < 5 && i % 64 < 60 ? static_cast<float>(i % 251) : 0.0F;
        expect(tile(i / 64, i % 64) == expected);
      });
    });
  }

  TEST_CASE("a copy over what is still being read") {
    const auto body = [](bool with_barrier) {
      return [with_barrier](const Block& block) {
        const auto tile = block.shared<Tile>(0);
        block.fill(tile, [](int, int) { return 1.0F; });
        block.sync();
        block.each(16 * 64, [&](int i) { expect(tile(15 - i / 64, i % 64) == 1.0F); });
        if (with_barrier) {
          block.sync();
        }
        copy_async(block, tile, GTile<const BFloat16>(numbers.data(), 64, 16, 64));
        commit_copies();
        wait_copies<0>();
      };
    };
    check_clean(2, kTile, body(true));
    check_caught(2, kTile, "of shared memory, which", body(false));
  }

  TEST_CASE("a warp that ends with copies under way") {
    check_caught(1, kTile, "has not waited for", [](const Block& block) {
      copy_async(block, block.shared<Tile>(0), GTile<const BFloat16>(numbers.data(), 64, 16, 64));
      commit_copies();
    });
  }

  TEST_CASE("memory as it is, there and back") {
    host::Memory memory;
    BFloat16* const record = memory.output<BFloat16>("record", 16 * 64);
    const BFloat16* const from = memory.input("numbers", numbers);
    const host::Run run(host::Order::round_robin, 0, &memory);
    run_block(2, kTile, [&](const Block& block) {
      const auto tile = block.shared<Tile>(0);
      copy_async(block, tile, GTile<const BFloat16>(from, 64, 16, 64));
      commit_copies();
      wait_copies<0>();
      block.sync();
      store_raw(block, record, tile);
    });
    memory.check_complete();
    run_block(2, kTile, [&](const Block& block) {
      const auto tile = block.shared<Tile>(0);
      copy_async_raw(block, tile, record);
      commit_copies();
      wait_copies<0>();
      block.sync();
      block.each(16 * 64, [&](int i) { expect(tile(i / 64, i % 64) == static_cast<float>(i % 251)); });
    });
  }
}

TEST_SUITE("tile_global_memory") {
  /// Runs `body(block, y)` with an output of 64 floats, gives the message of the first error.
  template <class Body>
  std::string message_of(int warps, host::Purpose purpose, const Body& body) {
    host::Memory memory;
    float* const y = purpose == host::Purpose::output ? memory.output<float>("y", 64)
                                                      : memory.inout<float>("y", std::vector<float>(64));
    const host::Run run(host::Order::round_robin, 0, &memory);
    try {
      run_block(warps, 64, [&](const Block& block) { body(block, y); });
      memory.check_complete();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

  TEST_CASE("every element of an output exactly once") {
    const auto write = [](int count, int first) {
      return [count, first](const Block& block, float* y) {
        const auto row = global_row(y, 64 + 8);
        block.each(count, [&](int i) { row.set(0, first + i, 1.0F); });
      };
    };
    CHECK(message_of(2, host::Purpose::output, write(64, 0)).empty());
    CHECK(contains(message_of(2, host::Purpose::output, write(63, 0)), "4 of 256 bytes of y were not written"));
    CHECK(contains(message_of(2, host::Purpose::output, write(63, 1)), "the first is byte 0"));
    CHECK(contains(message_of(2, host::Purpose::output, write(65, 0)), "byte 256 to 260 of y is written"));
    CHECK(contains(message_of(2, host::Purpose::output, write(64, -1)), "elements (0, -1)"));
    CHECK(contains(message_of(1, host::Purpose::output,
                              [&](const Block& block, float* y) {
                                write(64, 0)(block, y);
                                write(1, 0)(block, y);
                              }),
                   "a second time"));
  }

  TEST_CASE("views, inputs and unknown memory") {
    CHECK(contains(message_of(1, host::Purpose::inout,
                              [](const Block&, float* y) {
                                const GTile<float> view(y, 8, 4, 8);
                                each_lane([&](int lane) { view.set(lane / 4, lane % 4, 1.0F); });
                              }),
                   "of a view of global memory of 4 x 8"));
    const std::vector<float> elsewhere(64);
    CHECK(contains(message_of(1, host::Purpose::inout,
                              [&](const Block&, float*) {
                                const auto row = global_row(elsewhere.data(), 64);
                                each_lane([&](int lane) { expect(row(0, lane) == 0.0F); });
                              }),
                   "that no buffer of the test holds"));
    host::Memory memory;
    const float* const x = memory.input("x", elsewhere);
    const host::Run run(host::Order::round_robin, 0, &memory);
    CHECK_THROWS_WITH_AS(run_block(1, 0,
                                   [&](const Block&) {
                                     const auto row = global_row(const_cast<float*>(x), 64);
                                     each_lane([&](int lane) { row.set(0, lane, 1.0F); });
                                   }),
                         doctest::Contains("expected only reads of an input"), Error);
  }

  TEST_CASE("warps of a block and blocks of a launch") {
    const auto exchange = [](bool with_barrier) {
      return [with_barrier](const Block& block, float* y) {
        const auto row = global_row(y, 64);
        block.each(64, [&](int i) { row.set(0, i, 1.0F); });
        if (with_barrier) {
          block.sync();
        }
        block.each(64, [&](int i) { expect(row(0, 63 - i) >= 0.0F); });
      };
    };
    CHECK(message_of(2, host::Purpose::inout, exchange(true)).empty());
    CHECK(contains(message_of(2, host::Purpose::inout, exchange(false)), "since their last common barrier"));
    host::Memory memory;
    float* const y = memory.inout<float>("y", std::vector<float>(64));
    const host::Run run(host::Order::round_robin, 0, &memory);
    host::Machine machine;
    const uint32_t launch = host::next_launch();
    const auto add = [&](int block, uint32_t number) {
      machine.run_block(block, 1, 0, number, [&](int) {
        const auto row = global_row(y, 64);
        each_lane([&](int lane) { row.set(0, lane, row(0, lane) + 1.0F); });
      });
    };
    add(0, launch);
    CHECK_THROWS_WITH_AS(add(1, launch), doctest::Contains("which block 0 of the same launch wrote"), Error);
    add(1, host::next_launch());  // after the launch is over
  }
}

}  // namespace
}  // namespace deltatape::cuda::tile

// Barriers, teams, pipes and the schedule.
#include <doctest/doctest.h>

#include <vector>

#include "tests/backends/cuda/tile/run_block.h"

namespace deltatape::cuda::tile {
namespace {

TEST_SUITE("tile_barriers") {
  TEST_CASE("a deadlock names all who wait, and where") {
    const auto two_barriers = [](const Block& block) {
      if (block.warp() == 0) {
        block.sync();
      } else {
        block.team(0, 2, 1).sync();
      }
    };
    check_caught(2, 0, "block 0 is deadlocked: warp 0 waits for barrier 0 of 2 warps (barrier_test.cpp:", two_barriers);
    check_caught(2, 0, "warp 1 waits for barrier 1 of 2 warps (barrier_test.cpp:", two_barriers);
    check_caught(2, 0, "warp 1 waits for barrier 0 of 2 warps", [](const Block& block) {
      if (block.warp() == 1) {
        block.sync();
      }
    });
  }

  TEST_CASE("teams") {
    check_caught(3, 0, "warp 2 works in a team of 2 warps that it does not belong to",
                 [](const Block& block) { block.team(0, 2, 1).each(1, [](int) {}); });
    check_caught(3, 0, "barrier 0 is used for 2 of 3 warps", [](const Block& block) {
      if (block.warp() < 2) {
        block.team(0, 2, 0).sync();
      }
    });
    check_caught(3, 0, "at the same time",
                 [](const Block& block) { block.team(0, block.warp() == 0 ? 2 : 3, 1).sync(); });
  }

  TEST_CASE("work is split over all lanes, once each") {
    for (const int warps : {1, 2, 5}) {
      check_clean(warps, 0, [warps](const Block& block) {
        static std::vector<int> seen;
        if (block.warp() == 0) {
          seen.assign(1000, 0);
        }
        block.sync();
        block.each(1000, [&](int i) { ++seen[static_cast<size_t>(i)]; });
        block.sync();
        for (const int times : seen) {
          expect(times == 1);
        }
        expect(block.lanes() == 32 * warps);
      });
    }
  }

  TEST_CASE("an error in one warp ends the others, and what is on their stacks is destroyed") {
    struct Count {
      int& alive;
      explicit Count(int& n) : alive(n) { ++alive; }
      Count(const Count&) = delete;
      Count& operator=(const Count&) = delete;
      ~Count() { --alive; }
    };
    int alive = 0;
    CHECK_THROWS_AS(run_block(4, 0,
                              [&](const Block& block) {
                                const Count count(alive);
                                if (block.warp() == 2) {
                                  fail("test", "on purpose");
                                }
                                block.sync();
                              }),
                    Error);
    CHECK(alive == 0);
  }

  TEST_CASE("orders differ, and a seed repeats its order") {
    const auto order = [](host::Order o, uint32_t seed) {
      const host::Run run(o, seed);
      std::vector<int> seen;
      run_block(4, 0, [&](const Block& block) {
        seen.push_back(block.warp());
        block.sync();
        seen.push_back(block.warp());
      });
      return seen;
    };
    CHECK(order(host::Order::round_robin, 0) == std::vector<int>{0, 1, 2, 3, 0, 1, 2, 3});
    CHECK(order(host::Order::reverse, 0) == std::vector<int>{3, 2, 1, 0, 3, 2, 1, 0});
    CHECK(order(host::Order::random, 1) == order(host::Order::random, 1));
    bool differ = false;
    for (uint32_t seed = 2; seed < 8; ++seed) {
      differ = differ || order(host::Order::random, 1) != order(host::Order::random, seed);
    }
    CHECK(differ);
  }

  TEST_CASE("lanes") {
    check_clean(1, 0, [](const Block&) {
      PerLane<float> x;
      each_lane([&](int lane) { x(lane) = static_cast<float>(lane); });
      expect(broadcast(x, 7) == 7.0F);
      expect(warp_sum([](int lane) { return static_cast<float>(lane); }) == 496.0F);
    });
    check_caught(1, 0, "uniform: lanes 0 and 1 differ", [](const Block&) {
      PerLane<float> x;
      each_lane([&](int lane) { x(lane) = static_cast<float>(lane); });
      (void)uniform(x);
    });
  }
}

// A producer warp and consumer warps over a pipe of two slots: sums six records of 32 x 8 floats and the rows of
// `rows`.
enum class Fault {
  none,
  no_sync,
  double_release,
  no_release,
  no_wait,
  reads_after_release,
  bytes_too_many,
  bytes_too_few,
  no_commit,
  commit_twice,
  acquire_twice,
  one_consumer_too_few,
  one_consumer_too_many,
  producer_stops_early,
  consumer_stops_early,
  no_acquire,
  stores,  // none
  stores_unsaid,
};

struct Source {
  std::vector<float> records;
  std::vector<float> rows;
  [[nodiscard]] float record(int step, int i) const { return records.data()[step * 256 + i]; }
  [[nodiscard]] float row(int step, int i) const { return rows.data()[step * 24 + i]; }
};
const Source& source() {
  static const Source s = [] {
    Source x;
    for (int i = 0; i < 6 * 256; ++i) {
      x.records.push_back(static_cast<float>(i % 97));
    }
    for (int i = 0; i < 6 * 3 * 8; ++i) {
      x.rows.push_back(static_cast<float>(i % 89));
    }
    return x;
  }();
  return s;
}

constexpr int kConsumers = 3;
using RecordTile = STile<float, 32, 8>;
using RowsTile = STile<float, 4, 8>;
constexpr int kSlot = RecordTile::kBytes + RowsTile::kBytes;
constexpr int kPipe = 2 * kSlot;
constexpr int kPipeBytes = kPipe + Pipe<2>::kBytes;

void consume(const Block& block, Pipe<2>& pipe, int step, Fault fault) {
  const int slot = fault == Fault::no_wait && step == 3 ? step % 2 : pipe.wait();
  expect(slot == step % 2);
  const auto record = block.shared<RecordTile>(slot * kSlot);
  const auto rows = block.shared<RowsTile>(slot * kSlot + RecordTile::kBytes);
  const auto read_all = [&] {
    block.this_warp().each(256, [&](int i) { expect(record(i / 8, i % 8) == source().record(step, i)); });
    block.this_warp().each(32, [&](int i) { expect(rows(i / 8, i % 8) == (i < 24 ? source().row(step, i) : 0.0F)); });
  };
  if (fault == Fault::reads_after_release && step == 2) {
    pipe.release();
    block.team(1, kConsumers, 1).sync();  // all of them have given the slot back
    read_all();
    return;
  }
  read_all();
  // The first consumer leaves something in the slot, when the others have read; it has to say so.
  const bool stores = fault == Fault::stores || fault == Fault::stores_unsaid;
  if (stores) {
    block.team(1, kConsumers, 2).sync();
    if (block.warp() == 1) {
      one_lane([&] { record.set(0, 0, -1.0F); });
    }
  }
  if (!(fault == Fault::no_release && step == 2)) {
    pipe.release(fault == Fault::stores && block.warp() == 1);
  }
  if (fault == Fault::double_release && step == 2) {
    pipe.release();
  }
}

void produce(const Block& block, Pipe<2>& pipe, int step, Fault fault) {
  const int all = RecordTile::kBytes + (fault == Fault::bytes_too_many && step == 2 ? 16 : 0) -
                  (fault == Fault::bytes_too_few && step == 2 ? 16 : 0);
  const int slot = fault == Fault::no_acquire && step == 1 ? step % 2 : pipe.acquire(all);
  if (fault == Fault::acquire_twice && step == 2) {
    (void)pipe.acquire(all);
  }
  pipe.load_raw(block.shared<RecordTile>(slot * kSlot), source().records.data() + step * 256);
  pipe.load_rows(block.shared<RowsTile>(slot * kSlot + RecordTile::kBytes),
                 GTile<const float>(source().rows.data() + step * 24, 8, 3, 8));
  if (!(fault == Fault::no_commit && step == 2)) {
    pipe.commit();
  }
  if (fault == Fault::commit_twice && step == 2) {
    pipe.commit();
  }
}

auto pipe_body(Fault fault) {
  return [fault](const Block& block) {
    const int consumers = kConsumers - (fault == Fault::one_consumer_too_few ? 1 : 0);
    Pipe<2> pipe(block, kPipe, fault == Fault::one_consumer_too_many ? kConsumers : consumers);
    if (fault != Fault::no_sync) {
      block.sync();
    }
    if (block.warp() == 0) {
      for (int step = 0; step < (fault == Fault::producer_stops_early ? 5 : 6); ++step) {
        produce(block, pipe, step, fault);
      }
    } else if (fault != Fault::one_consumer_too_many || block.warp() < kConsumers) {
      for (int step = 0; step < (fault == Fault::consumer_stops_early && block.warp() == 2 ? 5 : 6); ++step) {
        consume(block, pipe, step, fault);
      }
    }
  };
}

TEST_SUITE("tile_pipe") {
  TEST_CASE("without a fault") {
    check_clean(1 + kConsumers, kPipeBytes, pipe_body(Fault::none));
    check_clean(1 + kConsumers, kPipeBytes, pipe_body(Fault::stores));
  }

  TEST_CASE("every fault is caught under every order") {
    const auto caught = [](Fault fault, const std::string& text) {
      check_caught(1 + kConsumers, kPipeBytes, text, pipe_body(fault));
    };
    caught(Fault::no_sync, "tile");
    caught(Fault::double_release, "releases slot");
    caught(Fault::no_release, "tile");
    caught(Fault::no_wait, "");
    caught(Fault::reads_after_release, "");
    caught(Fault::bytes_too_many, "slot 0 is committed with 1024 bytes of load_raw, expected the 1040");
    caught(Fault::bytes_too_few, "slot 0 is committed with 1024 bytes of load_raw, expected the 1008");
    caught(Fault::no_commit, "acquires slot 0 twice");
    caught(Fault::commit_twice, "has not acquired slot 1");
    caught(Fault::acquire_twice, "acquires slot 0 twice");
    caught(Fault::one_consumer_too_few, "");
    caught(Fault::one_consumer_too_many, "deadlocked");
    caught(Fault::producer_stops_early, "to be full");
    caught(Fault::consumer_stops_early, "is not given back");
    caught(Fault::stores_unsaid, "after it stored there, expected release(true)");
    caught(Fault::no_acquire, "has not acquired slot 1");
  }
}

// A consumer that keeps each slot until it has read the next one. `releases`: how often in all, 4 being right.
struct KeepingConsumer {
  int releases;
  static constexpr int kShared = 2 * 128 + 32;

  void operator()(const Block& block) const {
    using Record = SRow<float, 32>;
    static const std::vector<float> data(4 * 32, 2.0F);
    Pipe<2> pipe(block, 2 * 128, 1);
    block.sync();
    if (block.warp() == 0) {
      for (int step = 0; step < 4; ++step) {
        const int slot = pipe.acquire(128);
        pipe.load_raw(block.shared<Record>(128 * slot), data.data() + step * 32);
        pipe.commit();
      }
      return;
    }
    int before = 0;
    for (int step = 0; step < 4; ++step) {
      const int slot = pipe.wait();
      expect(block.shared<Record>(128 * slot)(0, 5) == 2.0F);
      if (step > 0) {
        expect(block.shared<Record>(128 * before)(0, 7) == 2.0F);
        pipe.release_kept();
      }
      pipe.keep();
      before = slot;
    }
    for (int i = 3; i < releases; ++i) {
      pipe.release_kept();
    }
  }
};

TEST_SUITE("tile_pipes_kept") {
  TEST_CASE("slots that are kept are given back later, each once") {
    check_clean(2, KeepingConsumer::kShared, KeepingConsumer{4});
    check_caught(2, KeepingConsumer::kShared, "is not given back", KeepingConsumer{3});
    check_caught(2, KeepingConsumer::kShared, "which it does not hold", KeepingConsumer{5});
  }
}

}  // namespace
}  // namespace deltatape::cuda::tile

// Runs warp programs of tests: one block, under every order of its warps.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/cuda/kda/tile/tile.h"

namespace deltatape::cuda::tile {

/// For use inside of kernels, where doctest's macros would swallow the twin's errors.
inline void expect(bool condition) { check(condition, "test", "a value is not what it should be"); }

/// Runs `body(block)` in every warp of one block.
template <class Body>
void run_block(int warps, int shared_bytes, const Body& body) {
  host::Machine machine;
  machine.run_block(0, warps, shared_bytes, host::next_launch(), [&](int /*warp*/) { body(Block({0, 0, 0}, warps)); });
}

/// The orders that tests go through: round robin, reverse and several random ones.
struct Schedule {
  host::Order order;
  uint32_t seed;
};
inline std::vector<Schedule> schedules() {
  std::vector<Schedule> all{{host::Order::round_robin, 0}, {host::Order::reverse, 0}};
  for (uint32_t seed = 0; seed < 6; ++seed) {
    all.push_back({host::Order::random, seed});
  }
  return all;
}

/// Runs it under every order, and expects that nothing is found.
template <class Body>
void check_clean(int warps, int shared_bytes, const Body& body) {
  for (const Schedule& s : schedules()) {
    const host::Run run(s.order, s.seed);
    CHECK_NOTHROW(run_block(warps, shared_bytes, body));
  }
}

/// Runs it under every order, and expects an Error whose message contains `text` each time.
template <class Body>
void check_caught(int warps, int shared_bytes, const std::string& text, const Body& body) {
  for (const Schedule& s : schedules()) {
    const host::Run run(s.order, s.seed);
    std::string message;
    try {
      run_block(warps, shared_bytes, body);
    } catch (const Error& error) {
      message = error.what();
    }
    INFO("caught: ", message);
    CHECK(!message.empty());
    CHECK(message.find(text) != std::string::npos);
  }
}

}  // namespace deltatape::cuda::tile

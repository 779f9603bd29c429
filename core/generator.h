// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011).
#pragma once

#include <array>
#include <cstdint>

namespace deltatape {

/// The place in a random stream: a key, and a counter of elements drawn so far.
struct PhiloxState {
  uint64_t seed = 0;
  uint64_t offset = 0;
};

/// One block of the generator: four 32-bit words from a 128-bit counter and a 64-bit key.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9U, key[1] + 0xBB67AE85U};
  }
  return counter;
}

/// The four words of element `index` of a stream: counter (index, 0), key = seed.
constexpr std::array<uint32_t, 4> philox_words(uint64_t seed, uint64_t index) {
  return philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

/// A stream of random numbers, passed explicitly to everything that draws. The same seed gives the same integers and
/// uniform numbers on every device, and normals within 4 ulp. One generator serves one thread at a time.
class Generator {
 public:
  explicit Generator(uint64_t seed = 0) : state_{seed, 0} {}

  /// Reserves `count` elements of the stream and returns where they start.
  PhiloxState advance(uint64_t count) {
    const PhiloxState start = state_;
    state_.offset += count;
    return start;
  }
  [[nodiscard]] PhiloxState state() const { return state_; }
  void set_state(PhiloxState state) { state_ = state; }

  /// Host-side draws of a single number, each using one element.
  uint64_t next_u64();
  /// Uniform in [0, 1) with 53 bits.
  double next_uniform();
  /// Uniform integer in [0, bound); Throws Error when bound is 0.
  uint64_t next_below(uint64_t bound);

 private:
  PhiloxState state_;
};

}  // namespace deltatape

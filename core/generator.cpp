#include "core/generator.h"

#include "core/error.h"

namespace deltatape {
namespace {

uint64_t join(uint32_t low, uint32_t high) { return low | (uint64_t{high} << 32); }

}  // namespace

uint64_t Generator::next_u64() {
  const auto words = philox_words(state_.seed, advance(1).offset);
  return join(words[0], words[1]);
}

double Generator::next_uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

uint64_t Generator::next_below(uint64_t bound) {
  check(bound > 0, "Generator::next_below", "bound is 0, expected more");
  // Draws from the incomplete last run of `bound` numbers are thrown away. Further draws of the same element count up
  // the counter's third word, so that every call uses one element.
  const uint64_t rejected_below = (0 - bound) % bound;  // 2^64 mod bound
  const uint64_t element = advance(1).offset;
  for (uint32_t attempt = 0;; ++attempt) {
    const auto words = philox4x32({static_cast<uint32_t>(element), static_cast<uint32_t>(element >> 32), attempt, 0},
                                  {static_cast<uint32_t>(state_.seed), static_cast<uint32_t>(state_.seed >> 32)});
    const uint64_t draw = join(words[0], words[1]);
    if (draw >= rejected_below) {
      return draw % bound;
    }
  }
}

}  // namespace deltatape

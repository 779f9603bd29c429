// Which actions of one warp another warp may rely on: vector clocks, joined at barriers and hand-overs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace deltatape::cuda::tile::host {

inline constexpr int kMaxWarps = 32;

/// For every warp the last of its ages that is known to be over. A warp grows older whenever it lets others know.
struct Clock {
  std::array<uint32_t, kMaxWarps> age{};
  void join(const Clock& other) {
    for (size_t w = 0; w < age.size(); ++w) {
      age[w] = std::max(age[w], other.age[w]);
    }
  }
};

}  // namespace deltatape::cuda::tile::host

// A state through a tile, in one pass, against plain loops.
#include "backends/cpu/kda/chunk_state.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/generator.h"

namespace deltatape {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

template <class T>
std::vector<T> random(int64_t count, Generator& generator) {
  std::vector<T> x(index(count));
  for (T& value : x) {
    value = static_cast<T>(2.0 * generator.next_uniform() - 1.0);
  }
  return x;
}

/// States [K, columns], rows further apart than that: what stands between them is not touched.
template <class T>
void check_update_state(int64_t K, int64_t registers, int64_t steps) {
  Generator generator(9);
  const int64_t columns = registers * cpu::Vec<T>::kSize;
  const int64_t ld = columns + 3;
  const int64_t ld_left = K + 5;
  const int64_t ld_right = columns + 2;
  const auto factor = random<T>(K, generator);
  const auto left = random<T>((steps - 1) * ld_left + K, generator);
  const auto right = random<T>((steps - 1) * ld_right + columns, generator);
  const auto before = random<T>((K - 1) * ld + columns, generator);

  cpu::kda::Ahead nothing;
  cpu::kda::Ahead ahead;
  ahead.add({reinterpret_cast<const char*>(left.data()), 1, static_cast<int64_t>(left.size() * sizeof(T)), 0});
  std::vector<T> after(before.size(), T(7));
  cpu::kda::update_state(K, columns, steps, factor.data(), left.data(), ld_left, right.data(), ld_right, before.data(),
                         after.data(), ld, ahead);
  std::vector<T> in_place = before;
  cpu::kda::update_state(K, columns, steps, factor.data(), left.data(), ld_left, right.data(), ld_right,
                         in_place.data(), in_place.data(), ld, nothing);

  const double limit = (std::is_same_v<T, double> ? 1e-15 : 3e-7) * static_cast<double>(steps + 1);
  double worst = 0.0;
  bool same = true;
  bool between = true;
  for (int64_t at = 0; at < static_cast<int64_t>(before.size()); ++at) {
    const int64_t c = at / ld;
    const int64_t j = at % ld;
    if (j >= columns) {
      between = between && after[index(at)] == T(7) && in_place[index(at)] == before[index(at)];
      continue;
    }
    double sum = static_cast<double>(factor[index(c)]) * static_cast<double>(before[index(at)]);
    for (int64_t i = 0; i < steps; ++i) {
      sum += static_cast<double>(left[index(i * ld_left + c)]) * static_cast<double>(right[index(i * ld_right + j)]);
    }
    worst = std::max(worst, std::fabs(static_cast<double>(after[index(at)]) - sum));
    same = same && in_place[index(at)] == after[index(at)];
  }
  CHECK(worst <= limit);
  CHECK(same);
  CHECK(between);
}

TEST_CASE("kda kernels: a state goes through a tile in one pass, in place or not") {
  for (int64_t K = 1; K <= 17; ++K) {
    CAPTURE(K);
    for (int64_t registers = 1; registers <= 4; ++registers) {
      CAPTURE(registers);
      for (const int64_t steps : {1, 16, 32}) {
        check_update_state<float>(K, registers, steps);
        check_update_state<double>(K, registers, steps);
      }
    }
  }
}

TEST_CASE("kda kernels: what a state holds of infinities and NaN stays in its row and column") {
  constexpr int64_t kColumns = 2 * cpu::Vec<float>::kSize;
  constexpr int64_t kRows = 9;
  const std::vector<float> factor(index(kRows), 1.0F);
  const std::vector<float> left(index(kRows), 1.0F);
  const std::vector<float> right(index(kColumns), 1.0F);
  std::vector<float> S(index(kRows * kColumns), 1.0F);
  S[index(4 * kColumns + 1)] = std::numeric_limits<float>::quiet_NaN();
  cpu::kda::Ahead nothing;
  cpu::kda::update_state(kRows, kColumns, 1, factor.data(), left.data(), kRows, right.data(), kColumns, S.data(),
                         S.data(), kColumns, nothing);
  for (int64_t at = 0; at < kRows * kColumns; ++at) {
    CHECK((at == 4 * kColumns + 1 ? std::isnan(S[index(at)]) : S[index(at)] == 2.0F));
  }
}

}  // namespace
}  // namespace deltatape

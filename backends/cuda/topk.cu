// The k largest elements of each line. Values are compared as unsigned keys: larger values have larger keys, NaN the
// largest, -0 and 0 the same.
#include <bit>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"
#include "backends/cuda/sort.h"

namespace deltatape::cuda {
namespace {

/// Bits of a key.
template <class C>
inline constexpr int kKeyBits = std::is_same_v<C, float> ? 32 : 64;

template <class C>
DT_HD inline uint64_t key_of(C x) {
  if constexpr (std::is_same_v<C, int64_t>) {
    return static_cast<uint64_t>(x) ^ (uint64_t{1} << 63);
  } else {
    using Bits = std::conditional_t<std::is_same_v<C, float>, uint32_t, uint64_t>;
    constexpr Bits kSign = Bits{1} << (kKeyBits<C> - 1);
    if (x != x) {
      return static_cast<Bits>(~Bits{0});
    }
    const auto bits = std::bit_cast<Bits>(x == C(0) ? C(0) : x);
    return static_cast<Bits>((bits & kSign) != 0 ? ~bits : bits | kSign);
  }
}

/// How many elements have each of the digits 1, 2 and 3 at some place.
struct Digits {
  int64_t of[3];
};
struct AddDigits {
  DT_HD Digits operator()(Digits a, Digits b) const {
    return {{a.of[0] + b.of[0], a.of[1] + b.of[1], a.of[2] + b.of[2]}};
  }
};

/// k up to kMost: the smallest key that counts is found two bits at a time, those that count are gathered in their
/// order, and each finds its place by counting those that come before it.
// Bytes: each element read once from memory, and half as often as a key has bits from the cache.
template <class T>
struct TopK {
  static constexpr int64_t kMost = 1024;
  Lines<T> x;
  int64_t k;
  T* values;         // [lines, k]
  int64_t* indices;  // [lines, k]

  static int64_t shared(int64_t k) { return shared_bytes<uint64_t>(k) + shared_bytes<int64_t>(k); }

  DT_HD void operator()(Block<256>& block) const {
    using C = Compute<T>;
    const Line<T> line = x.line(block.index());
    const int64_t length = x.layout.length;
    uint64_t prefix = 0;
    int64_t wanted = k;  // of those that begin with the prefix
    for (int shift = kKeyBits<C> - 2; shift >= 0; shift -= 2) {
      const Digits digits = block.reduce(length, Digits{{0, 0, 0}}, AddDigits{}, [&](int64_t i) {
        const uint64_t key = key_of(line[i]) >> shift;
        const bool counts = key >> 2 == prefix;
        const auto is = [&](uint64_t digit) { return counts && (key & 3U) == digit ? int64_t{1} : int64_t{0}; };
        return Digits{{is(1), is(2), is(3)}};
      });
      uint64_t digit = 3;
      for (; digit > 0 && digits.of[digit - 1] < wanted; --digit) {
        wanted -= digits.of[digit - 1];
      }
      prefix = prefix << 2 | digit;
    }
    // Everything above `prefix`, and the first `wanted` that equal it.
    const Shared<uint64_t> keys = block.shared<uint64_t>(k);
    const Shared<int64_t> places = block.shared<int64_t>(k);
    struct Counts {
      int64_t above;
      int64_t equal;
    };
    struct AddCounts {
      DT_HD Counts operator()(Counts a, Counts b) const { return {a.above + b.above, a.equal + b.equal}; }
    };
    const int64_t above = k - wanted;
    block.scan(
        length, Counts{0, 0}, AddCounts{},
        [&](int64_t i) {
          const uint64_t key = key_of(line[i]);
          return Counts{key > prefix ? 1 : 0, key == prefix ? 1 : 0};
        },
        [&](int64_t i, Counts before) {
          const uint64_t key = key_of(line[i]);
          if (key > prefix || (key == prefix && before.equal < wanted)) {
            const int64_t slot = key > prefix ? before.above : above + before.equal;
            keys[slot] = key;
            places[slot] = i;
          }
        });
    block.each(k, [&](int64_t slot) {
      const uint64_t key = keys[slot];
      int64_t rank = 0;
      for (int64_t other = 0; other < k; ++other) {
        const uint64_t theirs = keys[other];
        rank += theirs > key || (theirs == key && other < slot) ? 1 : 0;
      }
      const int64_t place = places[slot];
      values[block.index() * k + rank] = narrow<T>(line[place]);
      indices[block.index() * k + rank] = place;
    });
  }
};

/// One line's keys, the largest first when they are sorted.
template <class T>
struct FallingKeys {
  Lines<T> x;
  int64_t line;
  uint64_t* keys;
  DT_HD void operator()(int64_t i) const {
    constexpr uint64_t kAll = ~uint64_t{0} >> (64 - kKeyBits<Compute<T>>);
    keys[i] = kAll - key_of(x.line(line)[i]);
  }
};
template <class T>
struct TakeFirst {
  Lines<T> x;
  int64_t line;
  const int64_t* places;
  T* values;
  int64_t* indices;
  DT_HD void operator()(int64_t i) const {
    values[i] = narrow<T>(x.line(line)[places[i]]);
    indices[i] = places[i];
  }
};

}  // namespace

void CudaBackend::topk(const Tensor& x, int64_t k, const Tensor& values, const Tensor& indices) const {
  if (values.numel() == 0) {
    return;
  }
  const Tensor lines = with_rows(x);
  const Stream stream = current_stream(x.device());
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Lines<T> from = rows_of<T>(lines);
    if (k <= TopK<T>::kMost) {
      launch_program<256>(stream, from.layout.count, TopK<T>::shared(k),
                          TopK<T>{from, k, data_of<T>(values), data_of<int64_t>(indices)});
      return;
    }
    // Many of a line: the line is sorted.
    const Tensor keys = empty({from.layout.length}, DType::i64, x.device());
    for (int64_t line = 0; line < from.layout.count; ++line) {
      launch_elements(stream, from.layout.length, FallingKeys<T>{from, line, data_of<uint64_t>(keys)});
      const Sorted sorted = sort_with_places(stream, keys, kKeyBits<Compute<T>>);
      launch_elements(stream, k,
                      TakeFirst<T>{from, line, data_of<const int64_t>(sorted.places), data_of<T>(values) + line * k,
                                   data_of<int64_t>(indices) + line * k});
    }
  });
}

}  // namespace deltatape::cuda

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>

#include "backends/cuda/dense.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/sort.h"

#ifdef __CUDACC__
#include <cub/device/device_radix_sort.cuh>
#endif

namespace deltatape::cuda {
namespace {

struct Count {
  int64_t* out;
  DT_HD void operator()(int64_t i) const { out[i] = i; }
};

}  // namespace

int bits_below(int64_t count) {
  return std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(count, 1) - 1))));
}

Sorted sort_with_places(const Stream& stream, const Tensor& keys, int bits) {
  const int64_t count = keys.numel();
  Sorted sorted{empty({count}, DType::i64, keys.device()), empty({count}, DType::i64, keys.device())};
  if (count == 0) {
    return sorted;
  }
  const auto* from = data_of<const uint64_t>(keys);
  auto* to = data_of<uint64_t>(sorted.keys);
  auto* places = data_of<int64_t>(sorted.places);
#ifdef __CUDACC__
  const DeviceGuard guard(stream.device());
  const Tensor counted = empty({count}, DType::i64, keys.device());
  launch_elements(stream, count, Count{data_of<int64_t>(counted)});
  const auto handle = static_cast<cudaStream_t>(stream.handle());
  Tensor memory;
  size_t bytes = 0;
  for (int pass = 0; pass < 2; ++pass) {  // the first only says how much memory it takes
    void* work = memory.defined() ? memory.mutable_raw() : nullptr;
    check_cuda(cub::DeviceRadixSort::SortPairs(work, bytes, from, to, data_of<const int64_t>(counted), places, count, 0,
                                               bits, handle),
               "sort", stream.device());
    if (pass == 0) {
      memory = scratch<char>(static_cast<int64_t>(std::max<size_t>(bytes, 1)), keys.device());
    }
  }
#else
  launch_elements(stream, count, Count{places});
  host::submit(stream, Place::here(), [=] {
    for (int64_t i = 0; i < count; ++i) {
      check(bits >= 64 || from[i] >> bits == 0, "sort_with_places", "a key is {}, expected less than 2^{}", from[i],
            bits);
    }
    std::stable_sort(places, places + count, [from](int64_t a, int64_t b) { return from[a] < from[b]; });
    std::transform(places, places + count, to, [from](int64_t place) { return from[place]; });
  });
#endif
  return sorted;
}

}  // namespace deltatape::cuda

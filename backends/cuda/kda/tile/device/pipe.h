// PTX of memory barriers and bulk copies.
#pragma once

#include "backends/cuda/kda/tile/device/block.h"
#include "backends/cuda/kda/tile/device/copy.h"
#include "backends/cuda/kda/tile/device/lanes.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// Two memory barriers per slot: the first counts arrivals of data, one per lane of the producer besides the bytes of
/// bulk copies; the second those of consumer warps.
class PipeBarriers {
 public:
  DT_DEVICE PipeBarriers(int offset, int slots)
      : address_(shared_memory<uint64_t>(offset, 16 * slots).address()), slots_(slots) {}

  DT_DEVICE void start(bool mine, int consumer_warps) {
    if (mine && lane_id() == 0) {
      for (int slot = 0; slot < slots_; ++slot) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" : : "r"(full(slot)), "r"(kLanes) : "memory");
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" : : "r"(empty(slot)), "r"(consumer_warps) : "memory");
      }
#if __CUDA_ARCH__ >= 900
      asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
#endif
    }
  }

  DT_DEVICE void acquire(int slot, int turn, [[maybe_unused]] int bytes) {
    wait_for(empty(slot), turn ^ 1);
#if __CUDA_ARCH__ >= 900
    if (lane_id() == 0 && bytes > 0) {
      asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
                   :
                   : "r"(full(slot)), "r"(bytes)
                   : "memory");
    }
#endif
  }

  template <class T, class U>
  DT_DEVICE void load_bulk(int slot, SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
#if __CUDA_ARCH__ >= 900
    if (lane_id() == 0) {
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                   :
                   : "r"(to.address()), "l"(__cvta_generic_to_global(from.data())), "r"(bytes), "r"(full(slot))
                   : "memory");
    }
#else
    constexpr int kChunk = 16 / static_cast<int>(sizeof(T));
    for (int i = lane_id(); i < bytes / 16; i += kLanes) {
      copy_16_bytes(to + i * kChunk, from + i * kChunk, 16);
    }
#endif
  }

  template <class T, class U>
  DT_DEVICE void load_16_bytes(int /*slot*/, SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
    copy_16_bytes(to, from, bytes);
  }

  /// Each lane arrives when the copies of 16 bytes that it began have.
  DT_DEVICE void commit(int slot) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" : : "r"(full(slot)) : "memory");
  }

  DT_DEVICE void wait(int slot, int turn) { wait_for(full(slot), turn); }

  DT_DEVICE void release(int slot, [[maybe_unused]] bool wrote) {
#if __CUDA_ARCH__ >= 900
    if (wrote) {
      asm volatile("fence.proxy.async.shared::cta;"
                   :
                   :
                   : "memory");  // before the next bulk copy, which is another proxy's
    }
#endif
    __syncwarp();
    if (lane_id() == 0) {
      asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" : : "r"(empty(slot)) : "memory");
    }
  }

 private:
  DT_DEVICE uint32_t full(int slot) const { return address_ + static_cast<uint32_t>(16 * slot); }
  DT_DEVICE uint32_t empty(int slot) const { return full(slot) + 8; }

  DT_DEVICE static void wait_for(uint32_t barrier, int parity) {
    uint32_t done = 0;
    while (done == 0) {
#if __CUDA_ARCH__ >= 900
      asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                   : "=r"(done)
                   : "r"(barrier), "r"(parity)
                   : "memory");
#else
      asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                   : "=r"(done)
                   : "r"(barrier), "r"(parity)
                   : "memory");
#endif
    }
    __syncwarp();  // lanes leave the loop one by one, and callers go on to instructions that all lanes take together
  }

  uint32_t address_;
  int slots_;
};

}  // namespace deltatape::cuda::tile

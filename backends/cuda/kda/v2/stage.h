// What the scans of v2 hold of a chunk in shared memory, and the warps of their blocks.
#pragma once

#include "backends/cuda/kda/tile/layout.h"
#include "backends/cuda/kda/tile/pipe.h"
#include "backends/cuda/kda/tile/shared.h"
#include "backends/cuda/kda/v1/record.h"

namespace deltatape::cuda::kda::v2 {

/// What a scan is for: the output, the states and writes that the backward reads, or the state's gradient.
enum class Work : uint8_t { output, states, gradient };

/// Tiles of 16 columns, one behind the other, each as tile::Swizzled has it: a warp's columns of V are memory of its
/// own.
template <int rows>
struct WarpColumns {
  template <class T, int cols>
  static constexpr int elements(int /*rows*/) {
    return rows * cols;
  }
  template <class T, int cols>
  static constexpr int index(int row, int col) {
    return col / 16 * rows * 16 + tile::Swizzled::index<T, 16>(row, col % 16);
  }
};

/// A block: one warpgroup whose first warp fills the pipe, and `groups` that take 64 rows of V each. Chunks of 64
/// tokens.
template <int channels, int groups, Work work>
struct ScanShape {
  static constexpr int C = 64;
  static constexpr int K = channels;
  static constexpr Work kWork = work;
  static constexpr int kFirstConsumer = tile::kWarpsOfGroup;
  static constexpr int kConsumers = groups * tile::kWarpsOfGroup;
  static constexpr int kWarps = kFirstConsumer + kConsumers;
  static constexpr int kRows = 16 * kConsumers;  // of V
  static_assert((K == 64 || K == 128) && (groups == 1 || groups == 2));

  using TheRecord = v1::Record<C, K>;
  using Rows = tile::STile<BFloat16, C, K, tile::Panels<C>>;
  using Square = tile::STile<BFloat16, C, C, tile::Panels<C>>;
  using Decay = tile::SRow<float, K>;
  using Beta = tile::SRow<float, C>;
  using Values = tile::STile<BFloat16, C, 16, tile::Swizzled>;  // of one warp
  using AllValues = tile::STile<BFloat16, C, kRows, WarpColumns<C>>;
  template <int bytes>
  using Bytes = tile::SRow<unsigned char, bytes>;

  // A record, or what the work needs of it: bytes 0 .. kHead - 1, and with Work::states kDecay and what follows.
  static constexpr bool kTakesSolved = work != Work::gradient;
  static constexpr int kHead = work == Work::output   ? TheRecord::kBytes
                               : work == Work::states ? TheRecord::kQg
                                                      : TheRecord::kDecay + Decay::kBytes;
  static constexpr int kTail = work == Work::states ? TheRecord::kBytes - TheRecord::kDecay : 0;

  // Byte offsets in a stage. Operands of wgmma begin at multiples of kPanelAlignment.
  static constexpr int kA = tile::round_up(kHead, tile::kPanelAlignment);
  static constexpr int kTailAt = kA + (kTakesSolved ? TheRecord::kSolvedBytes : 0);
  static constexpr int kDecay = work == Work::states ? kTailAt : TheRecord::kDecay;
  static constexpr int kBeta = kDecay + Decay::kBytes;
  static constexpr int kValues = tile::round_up(kTailAt + kTail, tile::kPanelAlignment);
  static constexpr int kStageBytes = tile::round_up(kValues + AllValues::kBytes, tile::kPanelAlignment);
  static constexpr int kLoadedBytes = kHead + kTail + (kTakesSolved ? TheRecord::kSolvedBytes : 0);  // by bulk copies

  // Two stages at least, three where they fit into a block of sm_90.
  static constexpr int kMostShared = 227 * 1024;
  static constexpr int kStages = 3 * kStageBytes + tile::Pipe<3>::kBytes <= kMostShared ? 3 : 2;
  using ThePipe = tile::Pipe<kStages>;
  static constexpr int kPipe = kStages * kStageBytes;
  static constexpr int kSharedBytes = kPipe + ThePipe::kBytes;
  static_assert(kSharedBytes <= kMostShared);

  // Registers of a lane. A block begins with as many for all (those that ptxas reports, which tests/ptxas holds to this
  // number), and the producer's warpgroup gives some to the others; more than it gives, nobody can take. Without a
  // second group of consumers there are enough for all.
  static constexpr bool kMovesRegisters = groups == 2;
  static constexpr int kRegistersAtEntry = 65536 / (32 * kWarps) / 8 * 8;
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static_assert(!kMovesRegisters ||
                32 * kWarps * kRegistersAtEntry >= 128 * (kProducerRegisters + groups * kConsumerRegisters));
};

}  // namespace deltatape::cuda::kda::v2

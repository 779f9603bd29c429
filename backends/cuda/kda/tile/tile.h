// The tile layer: everything that a kernel of KDA does to the GPU, in two implementations. nvcc compiles PTX, a lane
// per thread; g++ compiles a twin that runs the same body on the host, a fiber per warp and all 32 lanes of a warp at
// once, and that reports misuse of memory, races, missing waits and deadlocks as Error.
//
// A kernel body is code of a warp. It has a Block, scalars that are the same in all lanes, fragments (fragments.h) and
// PerLane values. What differs from lane to lane happens inside the lambdas of each, each_lane, one_lane, make_a ..:
// per-lane code, which may touch registers of its lane, shared and global memory, and may call nothing that needs the
// other lanes. No threadIdx, no PTX and no __syncthreads outside of this folder.
//
//   target.h     DT_DEVICE, unroll<n>(f), roll(n, f), Values
//   numbers.h    ex2 lg2 rcp rsqrt sigmoid softplus, widen/narrow, round_bf16, pack_bf16
//   lanes.h      PerLane<T,n>, each_lane, one_lane, sync_warp, shuffles, warp_sum
//   layout.h     Strided<stride>, Swizzled, Panels<rows>
//   shared.h     STile<T, rows, cols, Layout>: t(row, col), t.set(row, col, x), t.read<n>, t.write<n>
//   global.h     GTile<T>(pointer, stride, rows, cols): the same on global memory; the last tile may have fewer rows
//   fragments.h  Acc FragA FragB TfA TfB RowVec ColVec; each, make_*, as_a, as_b_trans, as_tf_*, add_rows, finish
//   mma.h        mma, mma_half, load_a/_trans, load_b/_trans, load_tf_a, load_tf_b, load_acc, store, store_trans
//   block.h      Block, Team: shared<Tile>(offset), each(n, f), each_warp, fill, sync, team(..)
//   copy.h       copy_async, copy_async_raw, commit_copies, wait_copies<n>, store, store_raw
//   pipe.h       Pipe<slots>: acquire load_raw load_rows commit | wait release
//   wgmma.h      WgAcc<n>, wg_fence, wg_mma, wg_mma_trans, wg_commit, wg_wait<n>, fence_stores, give_/take_registers<n>
//   launch.h     launch_warps<Kernel>(grid, params, stream)
//
// Rules that the twin checks:
// - lanes of a warp that exchange data through memory call sync_warp between (before load_a and its kin too);
//   warps call sync of a team that both are in;
// - a copy's data are there after wait_copies for the lane that copied, after a barrier for others;
// - memory that is used again for something else: a barrier between the last read and the first write;
// - shared memory is read as the type it was written as; what nobody wrote is not read;
// - sums of a warpgroup's products are left alone from wg_mma until a wg_wait names them, and both operands are kept;
// - no sync, wait or release inside per-lane code, and none in a branch that not all warps of the team take.
// example.h is a worked kernel; tests run kernels with host::Run and host::Memory (host/machine.h, host/memory.h).
#pragma once

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/kda/tile/copy.h"
#include "backends/cuda/kda/tile/fragments.h"
#include "backends/cuda/kda/tile/global.h"
#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/tile/layout.h"
#include "backends/cuda/kda/tile/mma.h"
#include "backends/cuda/kda/tile/numbers.h"
#include "backends/cuda/kda/tile/pipe.h"
#include "backends/cuda/kda/tile/shared.h"
#include "backends/cuda/kda/tile/target.h"
#include "backends/cuda/kda/tile/wgmma.h"

// Which implementation runs, and why.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "ops/kda/options.h"

namespace deltatape::kda {

enum class Implementation : uint8_t { automatic, recurrent, chunk, fused_recurrent, fused_chunk };

/// `automatic`, `recurrent`, `chunk`, `fused-recurrent`, `fused-chunk`.
std::string_view name_of(Implementation implementation);

/// The sizes of a call; see Inputs.
struct Shapes {
  int64_t B = 1;
  int64_t T = 0;
  int64_t H = 1;
  int64_t HV = 1;
  int64_t K = 1;
  int64_t V = 1;
  DType dtype = DType::f32;  // of q
  bool cu_seqlens = false;
  bool segment_ids = false;
  std::vector<int64_t> lengths = {};  // of the sequences or segments of all rows; empty: rows are whole
  bool initial_state = false;         // whether one is given
};

/// What a call will run.
struct Plan {
  Implementation implementation = Implementation::fused_chunk;
  std::string text;            // in words: the kernel, why this one, and what the options change
  int64_t forward_bytes = 0;   // on CUDA: memory that forward uses beside its tensors
  int64_t backward_bytes = 0;  // likewise, where all gradients are wanted
};

/// What `run` with Implementation::automatic does for these options and shapes. Throws Error for what check_inputs
/// or the device's kernels would refuse by options and sizes alone.
Plan plan(const Options& options, const Shapes& shapes, Device device);

/// Runs one implementation; `automatic` asks plan().
Output run(Implementation implementation, const Inputs& inputs, const Options& options = {});

}  // namespace deltatape::kda

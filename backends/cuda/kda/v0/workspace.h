// Working memory of a call: how much it is, and how a call is cut into launches so that it stays within a limit.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/v0/backward.h"
#include "backends/cuda/kda/v0/call.h"
#include "backends/cuda/kda/v0/forward.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v0 {

/// Arrays that a call needs for itself. Without a device they are only counted.
class Workspace {
 public:
  Workspace() = default;
  explicit Workspace(Device device) : device_(device), real_(true) {}

  /// `count` elements, uninitialised; null when they are only counted.
  template <class T>
  T* take(int64_t count) {
    bytes_ += count * static_cast<int64_t>(sizeof(T));
    if (!real_) {
      return nullptr;
    }
    arrays_.push_back(empty({count}, {dtype_of<T>, device_}));
    return static_cast<T*>(arrays_.back().mutable_raw());
  }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  Device device_;
  bool real_ = false;
  int64_t bytes_ = 0;
  std::vector<Tensor> arrays_;
};

/// What backward is to compute.
struct Wanted {
  bool q = false;
  bool k = false;
  bool beta = false;
  bool log_decay = false;  // for dg, dA_log or ddt_bias
  bool A_log = false;
  bool dt_bias = false;
  bool recompute = false;  // the states: forward has kept none

  Wanted() = default;
  Wanted(const KernelUpstream& upstream, const KernelGradients& gradients)
      : q(gradients.dq.defined()),
        k(gradients.dk.defined()),
        beta(gradients.dbeta.defined()),
        log_decay(gradients.dg.defined() || gradients.dA_log.defined() || gradients.ddt_bias.defined()),
        A_log(gradients.dA_log.defined()),
        dt_bias(gradients.ddt_bias.defined()),
        recompute(!upstream.saved.defined()) {}
};

/// What the tables of the sequences say.
struct Extent {
  int64_t sequences = 0;
  int64_t checkpoints = 0;
  int64_t longest = 0;
  /// Tokens that backward goes through with their states at hand.
  [[nodiscard]] int64_t window() const { return longest < kCheckpointSteps ? longest : kCheckpointSteps; }

  explicit Extent(const KernelProblem& problem);
};

/// The arrays of backward for the heads of a launch.
template <class T>
struct BackwardArrays {
  Operands<T> x;
  Checkpoints<T> checkpoints;
  SliceSums<T> sums;
  double* A_log_sums = nullptr;
  double* dt_bias_sums = nullptr;
  T* states = nullptr;
  T* errors = nullptr;

  BackwardArrays(Workspace& workspace, const Call& call, const Split& split, const Extent& extent, const Wanted& wanted,
                 int64_t workers);
};

template <class T>
Operands<T> take_operands(Workspace& workspace, const Call& call);

/// How a call is cut into launches.
struct Cut {
  int64_t heads = 0;    // value heads of a launch: whole groups
  int64_t workers = 0;  // blocks of backward
  int64_t bytes = 0;    // of working memory
};

/// How a block of `Body` (Forward, Decode or Backward) cuts states. Throws Error naming `function` when K is too large.
template <class T, template <class> class Body>
Split split_of(std::string_view function, const Call& call);

/// As many heads at a time as `limit` bytes allow, but no less than a group.
template <class T>
Cut cut_forward(const Call& call, int64_t limit);
template <class T>
Cut cut_backward(const Call& call, const Split& split, const Extent& extent, const Wanted& wanted, int64_t limit);

/// "kda::fused_chunk" or "kda::fused_recurrent".
std::string_view function_name(const KernelProblem& problem);

}  // namespace deltatape::cuda::kda::v0

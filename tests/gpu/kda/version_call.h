// Calls of v1's and v2's launchers on a CUDA device, past the dispatch: which version runs is the test's choice.
#pragma once

#include "backends/cuda/kda/v2/launch.h"
#include "tests/gpu/kda/kernel_call.h"

namespace deltatape::test {

/// One version for each half of a call.
struct Halves {
  void (*forward)(const kda::KernelProblem&, const kda::KernelInputs&,
                  const kda::KernelOutputs&) = cuda::kda::v2::forward;
  void (*backward)(const kda::KernelProblem&, const kda::KernelInputs&, const kda::KernelUpstream&,
                   const kda::KernelGradients&) = cuda::kda::v2::backward;
};
/// v1 for both.
Halves halves_of_v1();

/// o, ht, h, all gradients and A, on the host. `saved`: forward's A is kept and given to backward.
NamedResults run_halves(const KernelCall& call, bool saved = true, const Halves& halves = {});

/// v2's results against those of the CPU's kernels in f64 on the same numbers, and against v1's.
void check_v2(const KernelCall& call, bool saved = true);

/// The gradients and A. On a GPU v1's o, ht and h are not v2's bit for bit, and the backward reads none of them.
NamedResults without_forward(const NamedResults& results);

/// Names and bits.
void check_same_results(const NamedResults& a, const NamedResults& b);

/// A case in bf16.
KernelCall bf16_call(const KDAShape& shape, const kda::Options& options, uint64_t seed = 1, Decay decay = Decay::mild,
                     bool with_state = true);

}  // namespace deltatape::test

// Timing the KDA operator on random inputs, beside the matrix-product rate of the same run. No command line here:
// benchmarks/kda.cpp uses it too.
#pragma once

#include <vector>

#include "ops/kda/options.h"
#include "ops/kda/plan.h"

namespace deltatape::tools {

/// The sizes of a call: batch, tokens, heads of q and k, value heads, K and V.
struct KdaSizes {
  int64_t B, T, H, HV, K, V;
};

/// What is measured, beside the sizes.
struct KdaBenchSetting {
  DType dtype = DType::f32;
  Device device = Device::cpu();
  kda::Options options;  // gate: none, standard or lower_bound
  bool varlen = false;   // eight packed sequences of unlike lengths, one of them empty; B = 1
};

struct KdaBenchCase {
  kda::Inputs inputs;
  kda::Options options;
  Tensor d_o;
  std::vector<Tensor> leaves;  // the inputs that get gradients
};

/// Inputs drawn with a fixed seed: keys of length near 1, logits of decay and of beta (or beta itself) from N(0, 1).
KdaBenchCase make_kda_bench_case(const KdaSizes& sizes, const KdaBenchSetting& setting);

/// Milliseconds of every timed run.
struct KdaBenchTimes {
  std::vector<double> forward;
  std::vector<double> backward;
  int64_t peak_bytes = 0;
};

/// `repeat` runs after one that warms up. Without `backward`, forward is timed without a tape.
KdaBenchTimes measure_kda(const KdaBenchCase& bench_case, kda::Implementation implementation, bool backward,
                          int64_t repeat);

/// Operations of the direct chunk form with tiles of 16 tokens, without computing anything twice, whatever runs.
double useful_kda_flops(const KdaSizes& sizes, bool forward, bool backward);

/// 1e9 operations per second of the engine's product of 1024 x 1024 matrices in the type that is computed in.
double product_gflops(DType dtype, Device device);

}  // namespace deltatape::tools

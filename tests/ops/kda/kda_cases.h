// Random KDA cases over the option space, plain loops to hold forward passes against, and the error measure.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/generator.h"
#include "core/tensor.h"
#include "ops/kda/options.h"

namespace deltatape::test {

/// The log decays that make trouble, one kind each.
enum class Decay : uint8_t {
  none,     // g = 0
  mild,     // [-0.1, 0]
  bounded,  // -5 sigmoid(2 normal)
  strong,   // -20 u
  mixed,    // mostly near 0, some entries -20
  resets,   // whole steps of -20 among weak ones
};

enum class Keys : uint8_t {
  random,    // unit vectors
  repeated,  // one unit vector at every step
};

struct KDAShape {
  int64_t B = 1;
  int64_t T = 5;
  int64_t H = 1;
  int64_t HV = 1;
  int64_t K = 4;
  int64_t V = 3;
  std::vector<int64_t> lengths = {};  // of the sequences, with cu_seqlens; their sum is T
};

struct KDACase {
  kda::Inputs inputs;
  kda::Options options;
  Tensor d_o;   // upstream gradients
  Tensor d_ht;  // undefined without a final state
};

/// A case in f64 for these options: logits where the options ask for logits, an initial state when `with_state`. beta
/// covers 0, 1 and 2 besides numbers between.
KDACase make_case(const KDAShape& shape, const kda::Options& options, uint64_t seed, Decay decay = Decay::mild,
                  Keys keys = Keys::random, bool with_state = true);

using NamedResults = std::vector<std::pair<std::string, Tensor>>;
using KDAFunction = kda::Output (*)(const kda::Inputs&, const kda::Options&);

/// o, ht and the gradient of <o, d_o> + <ht, d_ht> with respect to every input that is there, under the names o, ht,
/// dq, dk, dv, dg, dbeta, dA_log, ddt_bias, dh0.
NamedResults run_case(KDAFunction function, const KDACase& c);

/// o and ht of a case by plain loops in double; log decay and beta must be given as such, q and k as used.
kda::Output plain_loops(const KDACase& c);

/// rms(x - ref) / (rms(ref) + 1e-8); infinite for another shape and for NaN or infinity on either side.
double relative_error(const Tensor& x, const Tensor& ref);
/// The largest absolute difference, infinite as above.
double largest_difference(const Tensor& x, const Tensor& ref);

}  // namespace deltatape::test

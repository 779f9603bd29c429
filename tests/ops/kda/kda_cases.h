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
  fives,    // g = -5
  fastest,  // g = -20
  blocks,   // 16 steps within [-5, 0], then 16 with steps of -20 among them, and so on
};

enum class Keys : uint8_t {
  random,    // unit vectors
  repeated,  // one unit vector at every step
  few,       // three unit vectors in turn
  near,      // cosine 0.99 and more between any two
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
  Tensor d_o;             // upstream gradients; undefined: no loss on o
  Tensor d_ht;            // undefined: none on the final state
  bool return_h = false;  // run_case returns h too, where options.output_h asks for it
};

/// A case in f64 for these options: logits where the options ask for logits, an initial state when `with_state`. beta
/// covers 0, 1 and 2 besides numbers between.
KDACase make_case(const KDAShape& shape, const kda::Options& options, uint64_t seed, Decay decay = Decay::mild,
                  Keys keys = Keys::random, bool with_state = true);

using NamedResults = std::vector<std::pair<std::string, Tensor>>;
using KDAFunction = kda::Output (*)(const kda::Inputs&, const kda::Options&);

struct Implementation {
  std::string name;  // what Output::kernel says
  KDAFunction function;
  bool fused;
};
/// The four of them: recurrent, chunk, fused_recurrent, fused_chunk.
std::vector<Implementation> implementations();

/// o, ht, h (return_h) and the gradient of <o, d_o> + <ht, d_ht> with respect to every input that is there, under the
/// names o, ht, h, dq, dk, dv, dg, dbeta, dA_log, ddt_bias, dh0.
NamedResults run_case(KDAFunction function, const KDACase& c);

/// o and ht of a case by plain loops in double; log decay and beta must be given as such, q and k as used.
kda::Output plain_loops(const KDACase& c);

/// The floating-point tensors of a case in another dtype.
KDACase in_dtype(const KDACase& c, DType dtype);
/// Tokens [begin, end) of all rows; parameters and states as they are.
kda::Inputs tokens_of(const kda::Inputs& in, int64_t begin, int64_t end);
/// The result of this name; undefined when there is none.
Tensor find(const NamedResults& results, const std::string& name);

/// rms(x - ref) / (rms(ref) + 1e-8); infinite for another shape and for NaN or infinity on either side.
double relative_error(const Tensor& x, const Tensor& ref);
/// The largest absolute difference, infinite as above.
double largest_difference(const Tensor& x, const Tensor& ref);
/// max|x - ref| / max|ref|; 0 for 0 / 0, infinite as above.
double max_error(const Tensor& x, const Tensor& ref);
/// Whether shape, dtype and every bit are the same; dense tensors.
bool same_bits(const Tensor& a, const Tensor& b);

}  // namespace deltatape::test

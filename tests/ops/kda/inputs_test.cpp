// What the KDA functions refuse, and in which words.
#include <doctest/doctest.h>

#include <limits>

#include "ops/creation.h"
#include "ops/kda/chunk.h"
#include "ops/kda/gate.h"
#include "ops/kda/recurrent.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

kda::Inputs good() {
  kda::Inputs in;
  in.q = zeros({2, 6, 2, 8});
  in.k = zeros({2, 6, 2, 8});
  in.v = zeros({2, 6, 4, 5});
  in.g = zeros({2, 6, 4, 8});
  in.beta = zeros({2, 6, 4});
  return in;
}

TEST_CASE("kda: every implementation names itself, the argument, what came and what was expected") {
  kda::Inputs in = good();
  in.g = zeros({2, 6, 4, 7});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: g has shape [2, 6, 4, 7], expected [B, T, HV, K] = [2, 6, 4, 8]");
  CHECK_ERROR(kda::recurrent(in), "kda::recurrent: g has shape [2, 6, 4, 7], expected [B, T, HV, K] = [2, 6, 4, 8]");
}

TEST_CASE("kda: shapes that do not fit") {
  kda::Inputs in = good();
  in.q = Tensor();
  CHECK_ERROR(kda::chunk(in), "kda::chunk: q is missing, expected a tensor [B, T, H, K]");
  in = good();
  in.q = zeros({2, 6, 16});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: q has shape [2, 6, 16], expected 4 dimensions [B, T, H, K]");
  in = good();
  in.k = zeros({2, 5, 2, 8});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: k has shape [2, 5, 2, 8], expected [B, T, H, K] = [2, 6, 2, 8]");
  in = good();
  in.v = zeros({2, 6, 3, 5});
  CHECK_ERROR(kda::chunk(in),
              "kda::chunk: v has shape [2, 6, 3, 5], expected [B, T, HV, V] with HV a multiple of H = 2 and V of at "
              "least 1");
  in = good();
  in.beta = zeros({2, 6, 4, 1});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: beta has shape [2, 6, 4, 1], expected [B, T, HV] = [2, 6, 4]");
  in = good();
  in.initial_state = zeros({2, 4, 5, 8});
  CHECK_ERROR(kda::chunk(in),
              "kda::chunk: initial_state has shape [2, 4, 5, 8], expected [N, HV, K, V] = [2, 4, 8, 5]");
  kda::Options v_first;
  v_first.state_v_first = true;
  in.initial_state = zeros({2, 4, 8, 5});
  CHECK_ERROR(kda::chunk(in, v_first),
              "kda::chunk: initial_state has shape [2, 4, 8, 5], expected [N, HV, V, K] = [2, 4, 5, 8]");
}

TEST_CASE("kda: dtypes that do not fit") {
  kda::Inputs in = good();
  in.v = zeros({2, 6, 4, 5}, {DType::f64, Device::cpu()});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: v has dtype f64, expected f32 as q");
  in = good();
  in.initial_state = zeros({2, 4, 8, 5}, {DType::f64, Device::cpu()});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: initial_state has dtype f64, expected f32 as q");
  in = good();
  in.q = zeros({2, 6, 2, 8}, {DType::i64, Device::cpu()});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: q has dtype i64, expected a floating-point one");
}

TEST_CASE("kda: gates") {
  const kda::Inputs plain = good();
  kda::Options options;
  options.gate = kda::Gate::standard;
  CHECK_ERROR(kda::chunk(plain, options), "kda::chunk: A_log is missing, expected a tensor [HV] for the standard gate");
  kda::Inputs in = good();
  in.A_log = zeros({4});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: A_log is given and the gate is none, expected no A_log");
  in.A_log = zeros({2});
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: A_log has shape [2], expected [HV] = [4]");
  in.A_log = zeros({4});
  in.dt_bias = zeros({4, 8});
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: dt_bias has shape [4, 8], expected [HV*K] = [32]");
  in = good();
  in.dt_bias = zeros({32});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: dt_bias is given and the gate is none, expected no dt_bias");
  options.gate = kda::Gate::lower_bound;
  options.lower_bound = 0.0;
  CHECK_ERROR(kda::chunk(plain, options), "kda::chunk: lower_bound is 0, expected a finite number below 0");
  options.lower_bound = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(kda::chunk(plain, options), "kda::chunk: lower_bound is nan, expected a finite number below 0");
  options.lower_bound = -5.0;
  options.gate = static_cast<kda::Gate>(7);
  kda::Inputs nothing;
  nothing.q = zeros({2, 0, 2, 8});
  nothing.k = zeros({2, 0, 2, 8});
  nothing.v = zeros({2, 0, 4, 5});
  nothing.g = zeros({2, 0, 4, 8});
  nothing.beta = zeros({2, 0, 4});
  CHECK_ERROR(kda::chunk(nothing, options), "kda::chunk: gate is 7, expected none, standard or lower_bound");
  CHECK_ERROR(kda::apply_gate(kda::Gate::standard, plain.g, Tensor(), Tensor(), -5.0),
              "kda::apply_gate: A_log is missing, expected a tensor [HV] for the standard gate");
}

TEST_CASE("kda: other options") {
  const kda::Inputs in = good();
  kda::Options options;
  options.allow_neg_eigval = true;
  CHECK_ERROR(kda::chunk(in, options),
              "kda::chunk: allow_neg_eigval is true and use_beta_sigmoid false, expected both true (beta as given may "
              "reach 2 anyway)");
  options = {};
  options.chunk_size = 48;
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: chunk_size is 48, expected 16, 32 or 64");
  CHECK_ERROR(kda::recurrent(in, options), "kda::recurrent: chunk_size is 48, expected 16, 32 or 64");
  options = {};
  options.scale = std::numeric_limits<double>::infinity();
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: scale is inf, expected a finite number");
}

TEST_CASE("kda: cu_seqlens with a batch, out of order, or short of the end") {
  kda::Inputs in = good();
  in.cu_seqlens = from_vector(std::vector<int64_t>{0, 6});
  CHECK(test::error_of([&] { kda::chunk(in); }).find("kda::chunk: ") == 0);
  in.q = zeros({1, 6, 2, 8});
  in.k = zeros({1, 6, 2, 8});
  in.v = zeros({1, 6, 4, 5});
  in.g = zeros({1, 6, 4, 8});
  in.beta = zeros({1, 6, 4});
  CHECK_NOTHROW(kda::chunk(in));
  in.cu_seqlens = from_vector(std::vector<int64_t>{0, 4, 3, 6});
  CHECK(test::error_of([&] { kda::chunk(in); }).find("kda::chunk: cu_seqlens") == 0);
  in.cu_seqlens = from_vector(std::vector<int64_t>{0, 4});
  CHECK(test::error_of([&] { kda::recurrent(in); }).find("kda::recurrent: cu_seqlens") == 0);
}

TEST_CASE("kda: safe_gate needs a bound on the gate that it can rely on") {
  kda::Inputs in = good();
  kda::Options options;
  options.safe_gate = true;
  CHECK_NOTHROW(kda::chunk(in, options));  // with a given log decay it is a hint
  options.gate = kda::Gate::standard;
  in.A_log = zeros({4});
  CHECK_ERROR(kda::chunk(in, options),
              "kda::chunk: safe_gate is true and the gate standard, which has no lower bound, expected the lower-bound "
              "gate or none");
  options.gate = kda::Gate::lower_bound;
  options.lower_bound = -6.0;
  CHECK_ERROR(kda::chunk(in, options),
              "kda::chunk: lower_bound is -6 and safe_gate true, expected a lower_bound in [-5, 0)");
  CHECK_ERROR(kda::recurrent(in, options),
              "kda::recurrent: lower_bound is -6 and safe_gate true, expected a lower_bound in [-5, 0)");
  for (const double bound : {-5.0, -0.5}) {
    options.lower_bound = bound;
    CHECK_NOTHROW(kda::chunk(in, options));
  }
  options.safe_gate = false;
  options.lower_bound = -60.0;
  CHECK_NOTHROW(kda::chunk(in, options));
}

TEST_CASE("kda: a lower_bound that is no number is refused under every gate") {
  kda::Inputs in = good();
  kda::Options options;
  options.lower_bound = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: lower_bound is nan, expected a finite number below 0");
  options.gate = kda::Gate::standard;
  in.A_log = zeros({4});
  CHECK_ERROR(kda::recurrent(in, options), "kda::recurrent: lower_bound is nan, expected a finite number below 0");
  options.gate = kda::Gate::lower_bound;
  options.lower_bound = -std::numeric_limits<double>::infinity();
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: lower_bound is -inf, expected a finite number below 0");
  options.lower_bound = 0.5;
  CHECK_ERROR(kda::chunk(in, options), "kda::chunk: lower_bound is 0.5, expected a finite number below 0");
}

TEST_CASE("kda: segment_ids that do not fit") {
  const TensorOptions ids{DType::i64, Device::cpu()};
  kda::Inputs in = good();
  in.segment_ids = zeros({2, 5}, ids);
  CHECK_ERROR(kda::chunk(in), "kda::chunk: segment_ids has shape [2, 5], expected [B, T] = [2, 6]");
  in.segment_ids = zeros({12}, ids);
  CHECK_ERROR(kda::recurrent(in), "kda::recurrent: segment_ids has shape [12], expected [B, T] = [2, 6]");
  in.segment_ids = zeros({2, 6});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: segment_ids has dtype f32, expected i64 or i32");
  in.segment_ids = zeros({2, 6}, {DType::boolean, Device::cpu()});
  CHECK_ERROR(kda::chunk(in), "kda::chunk: segment_ids has dtype bool, expected i64 or i32");
  in.segment_ids = zeros({2, 6}, ids);
  CHECK_NOTHROW(kda::chunk(in));
  in.initial_state = zeros({3, 4, 8, 5});
  CHECK_ERROR(kda::chunk(in),
              "kda::chunk: initial_state has shape [3, 4, 8, 5], expected [N, HV, K, V] = [2, 4, 8, 5]");

  kda::Inputs packed;
  packed.q = zeros({1, 6, 2, 8});
  packed.k = zeros({1, 6, 2, 8});
  packed.v = zeros({1, 6, 4, 5});
  packed.g = zeros({1, 6, 4, 8});
  packed.beta = zeros({1, 6, 4});
  packed.cu_seqlens = from_vector(std::vector<int64_t>{0, 6});
  packed.segment_ids = zeros({1, 6}, ids);
  CHECK_ERROR(kda::chunk(packed),
              "kda::chunk: segment_ids and cu_seqlens are both given, expected at most one of them");
  CHECK_ERROR(kda::recurrent(packed),
              "kda::recurrent: segment_ids and cu_seqlens are both given, expected at most one of them");
}

}  // namespace
}  // namespace deltatape

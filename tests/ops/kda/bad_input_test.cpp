// What all four implementations refuse, argument by argument, in whole sentences; and that nothing has changed then.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>

#include "ops/convert.h"
#include "ops/creation.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using test::KDACase;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// B 2, T 6, H 2, HV 4, K 8, V 5 in f32 with every tensor there is, and the standard gate.
KDACase good() {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.output_final_state = true;
  return in_dtype(test::make_case({2, 6, 2, 4, 8, 5, {}}, options, 121), DType::f32);
}
/// The same packed, B 1, two sequences.
KDACase packed() {
  kda::Options options;
  options.output_final_state = true;
  return in_dtype(test::make_case({1, 6, 2, 4, 8, 5, {2, 4}}, options, 122), DType::f32);
}

std::vector<Tensor> tensors_of(const KDACase& c) {
  const kda::Inputs& in = c.inputs;
  return {in.q, in.k, in.v, in.g, in.beta, in.A_log, in.dt_bias, in.initial_state, in.cu_seqlens, in.segment_ids};
}

/// Every implementation refuses the case with this sentence after its name, and leaves its tensors as they were.
void check_refused(const KDACase& c, const std::string& sentence) {
  std::vector<Tensor> before;
  for (const Tensor& x : tensors_of(c)) {
    before.push_back(x.defined() ? clone(x) : x);
  }
  for (const test::Implementation& implementation : test::implementations()) {
    CHECK(test::error_of([&] { implementation.function(c.inputs, c.options); }) ==
          implementation.name + ": " + sentence);
  }
  const std::vector<Tensor> after = tensors_of(c);
  for (size_t i = 0; i < after.size(); ++i) {
    CHECK((!after[i].defined() || test::same_bits(after[i], before[i])));
  }
}

/// The case with one argument replaced.
template <class Change>
KDACase with(KDACase c, const Change& change) {
  change(c.inputs, c.options);
  return c;
}

Tensor f32(const Shape& shape) { return zeros(shape, {DType::f32, Device::cpu()}); }

TEST_CASE("kda: bad input: the good cases are accepted") {
  for (const KDACase& c : {good(), packed()}) {
    for (const test::Implementation& implementation : test::implementations()) {
      CHECK_NOTHROW(implementation.function(c.inputs, c.options));
    }
  }
}

TEST_CASE("kda: bad input: arguments that are missing") {
  using Inputs = kda::Inputs;
  struct Row {
    Tensor Inputs::*argument;
    const char* sentence;
  };
  for (const Row& row : {Row{&Inputs::q, "q is missing, expected a tensor [B, T, H, K]"},
                         Row{&Inputs::k, "k is missing, expected a tensor [B, T, H, K]"},
                         Row{&Inputs::v, "v is missing, expected a tensor [B, T, HV, V]"},
                         Row{&Inputs::g, "g is missing, expected a tensor [B, T, HV, K]"},
                         Row{&Inputs::beta, "beta is missing, expected a tensor [B, T, HV]"},
                         Row{&Inputs::A_log, "A_log is missing, expected a tensor [HV] for the standard gate"}}) {
    KDACase c = good();
    c.inputs.*row.argument = Tensor();
    check_refused(c, row.sentence);
  }
}

TEST_CASE("kda: bad input: wrong ranks and shapes") {
  using Inputs = kda::Inputs;
  struct Row {
    Tensor Inputs::*argument;
    Shape shape;
    const char* sentence;
  };
  const std::vector<Row> rows{
      {&Inputs::q, {2, 6, 16}, "q has shape [2, 6, 16], expected 4 dimensions [B, T, H, K]"},
      {&Inputs::q, {2, 6, 0, 8}, "q has shape [2, 6, 0, 8], expected H and K of at least 1 in [B, T, H, K]"},
      {&Inputs::q, {2, 6, 2, 0}, "q has shape [2, 6, 2, 0], expected H and K of at least 1 in [B, T, H, K]"},
      {&Inputs::k, {2, 6, 16}, "k has shape [2, 6, 16], expected [B, T, H, K] = [2, 6, 2, 8]"},
      {&Inputs::k, {2, 6, 2, 7}, "k has shape [2, 6, 2, 7], expected [B, T, H, K] = [2, 6, 2, 8]"},
      {&Inputs::v, {2, 6, 20}, "v has shape [2, 6, 20], expected 4 dimensions [B, T, HV, V]"},
      {&Inputs::v, {2, 5, 4, 5}, "v has shape [2, 5, 4, 5], expected [B, T, HV, V] = [2, 6, 4, 5]"},
      {&Inputs::v,
       {2, 6, 3, 5},
       "v has shape [2, 6, 3, 5], expected [B, T, HV, V] with HV a multiple of H = 2 and V of at least 1"},
      {&Inputs::v,
       {2, 6, 4, 0},
       "v has shape [2, 6, 4, 0], expected [B, T, HV, V] with HV a multiple of H = 2 and V of at least 1"},
      {&Inputs::g, {2, 6, 2, 8}, "g has shape [2, 6, 2, 8], expected [B, T, HV, K] = [2, 6, 4, 8]"},
      {&Inputs::g, {2, 6, 4}, "g has shape [2, 6, 4], expected [B, T, HV, K] = [2, 6, 4, 8]"},
      {&Inputs::beta, {2, 6, 2}, "beta has shape [2, 6, 2], expected [B, T, HV] = [2, 6, 4]"},
      {&Inputs::beta, {2, 6, 4, 1}, "beta has shape [2, 6, 4, 1], expected [B, T, HV] = [2, 6, 4]"},
      {&Inputs::A_log, {2}, "A_log has shape [2], expected [HV] = [4]"},
      {&Inputs::A_log, {4, 1}, "A_log has shape [4, 1], expected [HV] = [4]"},
      {&Inputs::dt_bias, {4, 8}, "dt_bias has shape [4, 8], expected [HV*K] = [32]"},
      {&Inputs::dt_bias, {16}, "dt_bias has shape [16], expected [HV*K] = [32]"},
      {&Inputs::initial_state,
       {1, 4, 8, 5},
       "initial_state has shape [1, 4, 8, 5], expected [N, HV, K, V] = [2, 4, 8, 5]"},
      {&Inputs::initial_state,
       {2, 4, 5, 8},
       "initial_state has shape [2, 4, 5, 8], expected [N, HV, K, V] = [2, 4, 8, 5]"},
      {&Inputs::initial_state, {2, 4, 40}, "initial_state has shape [2, 4, 40], expected [N, HV, K, V] = [2, 4, 8, 5]"},
  };
  for (const Row& row : rows) {
    KDACase c = good();
    c.inputs.*row.argument = f32(row.shape);
    check_refused(c, row.sentence);
  }
  KDACase v_first = good();
  v_first.options.state_v_first = true;
  check_refused(v_first, "initial_state has shape [2, 4, 8, 5], expected [N, HV, V, K] = [2, 4, 5, 8]");
}

TEST_CASE("kda: bad input: wrong dtypes") {
  using Inputs = kda::Inputs;
  struct Row {
    Tensor Inputs::*argument;
    const char* name;
    bool may_be_wider;
  };
  for (const Row& row : {Row{&Inputs::k, "k", false}, Row{&Inputs::v, "v", false}, Row{&Inputs::g, "g", false},
                         Row{&Inputs::beta, "beta", false}, Row{&Inputs::A_log, "A_log", true},
                         Row{&Inputs::dt_bias, "dt_bias", true}, Row{&Inputs::initial_state, "initial_state", true}}) {
    for (const DType dtype : {DType::f64, DType::bf16, DType::i64}) {
      KDACase c = good();
      c.inputs.*row.argument = to(c.inputs.*row.argument, dtype);
      check_refused(c, fmt::format("{} has dtype {}, expected f32 as q", row.name, dtype));
    }
    KDACase narrow = in_dtype(good(), DType::bf16);
    narrow.inputs.*row.argument = to(narrow.inputs.*row.argument, DType::f16);
    check_refused(narrow,
                  fmt::format("{} has dtype f16, expected bf16{} as q", row.name, row.may_be_wider ? " or f32" : ""));
  }
  for (const DType dtype : {DType::i64, DType::i32, DType::boolean}) {
    KDACase c = good();
    c.inputs.q = to(c.inputs.q, dtype);
    check_refused(c, fmt::format("q has dtype {}, expected a floating-point one", dtype));
  }
}

TEST_CASE("kda: bad input: another device") {
  if (!cuda_unavailable_reason().empty()) {
    MESSAGE("no second device, nothing checked: " << cuda_unavailable_reason());
    return;
  }
  using Inputs = kda::Inputs;
  for (Tensor Inputs::*argument :
       {&Inputs::k, &Inputs::v, &Inputs::g, &Inputs::beta, &Inputs::A_log, &Inputs::dt_bias, &Inputs::initial_state}) {
    KDACase c = good();
    c.inputs.*argument = to(c.inputs.*argument, Device::cuda());
    for (const test::Implementation& implementation : test::implementations()) {
      const std::string error = test::error_of([&] { implementation.function(c.inputs, c.options); });
      CHECK(error.find(" is on cuda:0, expected cpu as q") != std::string::npos);
    }
  }
}

TEST_CASE("kda: bad input: gates") {
  check_refused(with(good(), [](auto&, auto& o) { o.gate = kda::Gate::none; }),
                "A_log is given and the gate is none, expected no A_log");
  check_refused(with(good(),
                     [](auto& in, auto& o) {
                       o.gate = kda::Gate::none;
                       in.A_log = Tensor();
                     }),
                "dt_bias is given and the gate is none, expected no dt_bias");
  check_refused(with(good(), [](auto&, auto& o) { o.gate = static_cast<kda::Gate>(7); }),
                "gate is 7, expected none, standard or lower_bound");
  for (const double bound : {0.0, 1.0, -kInfinity, kInfinity}) {
    check_refused(with(good(),
                       [bound](auto&, auto& o) {
                         o.gate = kda::Gate::lower_bound;
                         o.lower_bound = bound;
                       }),
                  fmt::format("lower_bound is {}, expected a finite number below 0", bound));
  }
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    check_refused(with(good(),
                       [gate](auto&, auto& o) {
                         o.gate = gate;
                         o.lower_bound = kNaN;
                       }),
                  "lower_bound is nan, expected a finite number below 0");
  }
  for (const double bound : {-5.000001, -20.0}) {
    const KDACase c = with(good(), [bound](auto&, auto& o) {
      o.gate = kda::Gate::lower_bound;
      o.lower_bound = bound;
    });
    for (const test::Implementation& implementation : test::implementations()) {
      CHECK_NOTHROW(implementation.function(c.inputs, c.options));  // without safe_gate any bound will do
    }
    check_refused(with(c, [](auto&, auto& o) { o.safe_gate = true; }),
                  fmt::format("lower_bound is {} and safe_gate true, expected a lower_bound in [-5, 0)", bound));
  }
  check_refused(with(good(), [](auto&, auto& o) { o.safe_gate = true; }),
                "safe_gate is true and the gate standard, which has no lower bound, expected the lower-bound gate or "
                "none");
}

TEST_CASE("kda: bad input: other options") {
  check_refused(with(good(), [](auto&, auto& o) { o.allow_neg_eigval = true; }),
                "allow_neg_eigval is true and use_beta_sigmoid false, expected both true (beta as given may reach 2 "
                "anyway)");
  for (const int64_t size : {-64, 0, 1, 8, 48, 128}) {
    check_refused(with(good(), [size](auto&, auto& o) { o.chunk_size = size; }),
                  fmt::format("chunk_size is {}, expected 16, 32 or 64", size));
  }
  for (const double scale : {kNaN, kInfinity, -kInfinity}) {
    check_refused(with(good(), [scale](auto&, auto& o) { o.scale = scale; }),
                  fmt::format("scale is {}, expected a finite number", scale));
  }
}

TEST_CASE("kda: bad input: cu_seqlens") {
  const auto bounds = [](const std::vector<int64_t>& values) {
    KDACase c = packed();
    c.inputs.cu_seqlens = from_vector(values);
    return c;
  };
  check_refused(bounds({0, 4, 3, 6}), "cu_seqlens falls from 4 to 3 at entry 2, expected a non-decreasing list");
  check_refused(bounds({0, 7, 6}), "cu_seqlens falls from 7 to 6 at entry 2, expected a non-decreasing list");
  check_refused(bounds({1, 4, 6}), "cu_seqlens starts with 1, expected 0");
  check_refused(bounds({-1, 4, 6}), "cu_seqlens starts with -1, expected 0");
  check_refused(bounds({0, 4, 5}), "cu_seqlens ends with 5, expected T = 6");
  check_refused(bounds({0, 4, 7}), "cu_seqlens ends with 7, expected T = 6");
  check_refused(bounds({0}), "cu_seqlens has shape [1], expected [N + 1] with at least one sequence");
  check_refused(bounds({0, 2, 4, 6}), "initial_state has shape [2, 4, 8, 5], expected [N, HV, K, V] = [3, 4, 8, 5]");
  check_refused(bounds({0, 6}), "initial_state has shape [2, 4, 8, 5], expected [N, HV, K, V] = [1, 4, 8, 5]");
  check_refused(with(packed(), [](auto& in, auto&) { in.cu_seqlens = to(in.cu_seqlens, DType::f32); }),
                "cu_seqlens has dtype f32, expected i64 or i32");
  check_refused(with(packed(),
                     [](auto& in, auto&) {
                       in.cu_seqlens = zeros({1, 3}, {DType::i64, Device::cpu()});
                     }),
                "cu_seqlens has shape [1, 3], expected rank 1, [N + 1]");
  check_refused(with(good(),
                     [](auto& in, auto&) {
                       in.cu_seqlens = from_vector(std::vector<int64_t>{0, 2, 6});
                     }),
                "the batch size is 2, expected B = 1 with cu_seqlens");
}

TEST_CASE("kda: bad input: segment_ids") {
  const auto ids = [](const Shape& shape, DType dtype) {
    KDACase c = good();
    c.inputs.segment_ids = zeros(shape, {dtype, Device::cpu()});
    return c;
  };
  for (const test::Implementation& implementation : test::implementations()) {
    const KDACase c = ids({2, 6}, DType::i32);
    CHECK_NOTHROW(implementation.function(c.inputs, c.options));
  }
  check_refused(ids({2, 5}, DType::i64), "segment_ids has shape [2, 5], expected [B, T] = [2, 6]");
  check_refused(ids({12}, DType::i64), "segment_ids has shape [12], expected [B, T] = [2, 6]");
  check_refused(ids({2, 6, 1}, DType::i32), "segment_ids has shape [2, 6, 1], expected [B, T] = [2, 6]");
  check_refused(ids({2, 6}, DType::f32), "segment_ids has dtype f32, expected i64 or i32");
  check_refused(ids({2, 6}, DType::boolean), "segment_ids has dtype bool, expected i64 or i32");
  check_refused(with(packed(),
                     [](auto& in, auto&) {
                       in.segment_ids = zeros({1, 6}, {DType::i64, Device::cpu()});
                     }),
                "segment_ids and cu_seqlens are both given, expected at most one of them");
}

}  // namespace
}  // namespace deltatape

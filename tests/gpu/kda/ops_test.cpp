// kda::fused_recurrent and kda::fused_chunk with their tensors on a CUDA device: golden cases, the composed forms, what
// is refused, and what kda::plan says.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "ops/kda/fused.h"
#include "ops/kda/plan.h"
#include "ops/kda/recurrent.h"
#include "tests/gpu/device.h"
#include "tests/gpu/kda/on_device.h"
#include "tests/ops/kda/gold_case.h"
#include "tests/ops/kda/random_case.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::NamedResults;

/// Golden cases whose q, k and g are small enough for the host twin to take a second or so.
bool is_small(const test::GoldFolder& gold) {
  const auto& config = gold.config();
  const auto size = [&config](const char* name) { return config[name].get<int64_t>(); };
  return size("B") * size("T") * size("HV") * size("K") * size("V") <= 3'000'000;
}

TEST_CASE("kda on cuda: golden operator cases in f64 and f32 [gpu] [slow]") {
  if (!test::have_device()) {
    return;
  }
  const auto names = test::gold_cases("operator");
  if (names.empty()) {
    MESSAGE("no golden data beside the project, nothing compared");
  }
  for (const std::string& name : names) {
    CAPTURE(name);
    const test::GoldFolder gold(name);
    if (!is_small(gold)) {
      continue;
    }
    for (const DType dtype : {DType::f64, DType::f32}) {
      const bool wide = dtype == DType::f64;
      const KDACase c = test::load_gold_case(gold, dtype);
      const NamedResults host = wide ? NamedResults() : test::run_case(&kda::fused_recurrent, c);
      for (const auto function : {&kda::fused_chunk, &kda::fused_recurrent}) {
        const NamedResults results = test::run_case_on_cuda(function, c);
        for (size_t i = 0; i < results.size(); ++i) {
          CAPTURE(results[i].first);
          const Tensor expected = gold.load(results[i].first);
          const double error = test::relative_error(results[i].second, expected);
          const double difference = test::largest_difference(results[i].second, expected);
          CAPTURE(error);
          CAPTURE(difference);
          // One key at every step, written with beta 2 and never forgotten, costs any f32 more digits: as many as the
          // CPU loses there. Some gradients are exactly zero, or sums that cancel.
          const double limit = wide ? 1e-12 : std::max(1e-5, 2.0 * test::relative_error(host[i].second, expected));
          CHECK((error <= limit || difference <= (wide ? 1e-13 : 1e-6)));
        }
      }
    }
  }
}

TEST_CASE("kda on cuda: the fused forms as the composed ones, all on the device [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (uint64_t seed = 3000; seed < 3012; ++seed) {
    const test::RandomCase r = test::random_case(seed);
    CAPTURE(r.text);
    const NamedResults expected = test::run_case_on_cuda(&kda::recurrent, r.c);
    for (const auto function : {&kda::fused_chunk, &kda::fused_recurrent}) {
      const NamedResults actual = test::run_case_on_cuda(function, r.c);
      REQUIRE(actual.size() == expected.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        CAPTURE(actual[i].first);
        const double error = test::max_error(actual[i].second, expected[i].second);
        const double difference = test::largest_difference(actual[i].second, expected[i].second);
        CHECK((error <= 1e-9 || difference <= 1e-13));
      }
    }
  }
}

/// Options that chunks on tensor cores take in bf16.
std::vector<kda::Options> options_of_chunks() {
  std::vector<kda::Options> all(3);
  all[0].output_final_state = true;
  all[1].gate = kda::Gate::lower_bound;
  all[1].use_qk_l2norm = all[1].use_beta_sigmoid = all[1].allow_neg_eigval = all[1].state_v_first = true;
  all[2].gate = kda::Gate::standard;
  all[2].use_qk_l2norm = all[2].output_final_state = true;
  all[2].chunk_size = 32;
  return all;
}

/// What kda::plan says of a case on the first CUDA device.
std::string plan_text(const KDACase& c) {
  const kda::Inputs& in = c.inputs;
  kda::Shapes shapes{.B = in.q.size(0),
                     .T = in.q.size(1),
                     .H = in.q.size(2),
                     .HV = in.v.size(2),
                     .K = in.q.size(3),
                     .V = in.v.size(3),
                     .dtype = in.q.dtype(),
                     .cu_seqlens = in.cu_seqlens.defined(),
                     .segment_ids = in.segment_ids.defined(),
                     .initial_state = in.initial_state.defined()};
  return kda::plan(c.options, shapes, Device::cuda()).text;
}

/// dA_log is one sum per head over all tokens and channels, whose terms have both signs and may cancel. The root of the
/// sum of their squares, per head and in the root mean square over heads: what the sum is relative to when each term
/// has an error of its own. `dg` is the gradient of the logits.
double size_of_terms(const KDACase& c, const Tensor& dg) {
  const std::vector<double> logits = c.inputs.g.to_vector<double>();
  const std::vector<double> bias = c.inputs.dt_bias.to_vector<double>();
  const std::vector<double> gradients = dg.to_vector<double>();
  double squares = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double z = logits[i] + bias[i % bias.size()];
    // A_log moves log decay by z d/dz of it with the lower bound, and by itself with the standard gate.
    const double softplus = std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z)));
    const double factor = c.options.gate == kda::Gate::standard ? softplus * (1.0 + std::exp(-z)) : z;
    squares += gradients[i] * factor * gradients[i] * factor;
  }
  return std::sqrt(squares / static_cast<double>(c.inputs.g.size(2)));
}

/// kda::run of a bf16 case on the device near the recurrence in f64 on the same numbers, with and without what forward
/// keeps for backward.
void check_chunks(const KDACase& narrow) {
  const auto automatic = [](const kda::Inputs& inputs, const kda::Options& options) {
    return kda::run(kda::Implementation::automatic, inputs, options);
  };
  const NamedResults expected = test::run_case(&kda::fused_recurrent, in_dtype(narrow, DType::f64));
  const NamedResults actual = test::run_case_on_cuda(automatic, narrow);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(actual[i].first);
    const double error = test::relative_error(actual[i].second, expected[i].second);
    CAPTURE(error);
    const std::string& name = actual[i].first;
    if (name == "dA_log") {
      const double terms = size_of_terms(in_dtype(narrow, DType::f64), test::find(expected, "dg"));
      const double difference = test::largest_difference(actual[i].second, expected[i].second);
      CAPTURE(terms);
      CAPTURE(difference);
      CHECK((error <= 0.012 || difference <= 0.012 * terms));
      continue;
    }
    CHECK(error <= (name == "o" || name == "ht" ? 0.008 : 0.012));
  }
  KDACase saving = narrow;
  saving.options.save_intermediates = true;
  const NamedResults saved = test::run_case_on_cuda(automatic, saving);
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(actual[i].first);
    CHECK(test::same_bits(saved[i].second, actual[i].second));
  }
}

bool has(const std::string& text, const char* words) { return text.find(words) != std::string::npos; }

TEST_CASE("kda on cuda: bf16 in chunks on tensor cores, by kda::run, near f64 [gpu]") {
  if (!test::have_device()) {
    return;
  }
  // One shape has no v1 backward (V 48): v0's runs behind v1's forward.
  const std::vector<test::KDAShape> shapes{{1, 100, 1, 2, 64, 64, {}},
                                           {1, 90, 1, 1, 64, 48, {33, 0, 57}},
                                           {1, 100, 1, 2, 128, 64, {}},
                                           {1, 90, 1, 1, 128, 128, {33, 0, 57}}};
  for (const test::KDAShape& shape : shapes) {
    for (const kda::Options& options : options_of_chunks()) {
      CAPTURE(shape.K);
      CAPTURE(shape.V);
      CAPTURE(static_cast<int>(options.gate));
      const KDACase narrow = in_dtype(test::make_case(shape, options, 21, test::Decay::bounded), DType::bf16);
      const std::string plan = plan_text(narrow);
      REQUIRE(has(plan, ": forward v1, "));
      REQUIRE(has(plan, shape.V == 48 ? "; backward v0, " : "; backward v1, "));
      check_chunks(narrow);
    }
  }
}

TEST_CASE("kda on cuda: segment_ids in chunks on tensor cores near f64 [gpu]") {
  if (!test::have_device()) {
    return;
  }
  std::vector<int64_t> ids;
  for (const auto& [id, count] :
       std::vector<std::pair<int64_t, int>>{{3, 20}, {-1, 1}, {3, 64}, {0, 5}, {1, 10}, {2, 80}}) {
    ids.insert(ids.end(), static_cast<size_t>(count), id);
  }
  for (const kda::Options& options : options_of_chunks()) {
    CAPTURE(static_cast<int>(options.gate));
    CAPTURE(options.chunk_size);
    KDACase narrow =
        in_dtype(test::make_case({2, 90, 1, 2, 64, 64, {}}, options, 22, test::Decay::bounded), DType::bf16);
    narrow.inputs.segment_ids = from_vector(ids, {2, 90});
    const std::string plan = plan_text(narrow);
    REQUIRE(has(plan, options.chunk_size == 32 ? ": forward v1, chunks of 32 " : ": forward v1, chunks of 64 "));
    REQUIRE(has(plan, "; backward v1, "));
    check_chunks(narrow);
  }
}

TEST_CASE("kda on cuda: a long sequence of one head in segments near f64 [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.use_qk_l2norm = true;
  options.output_final_state = true;
  const KDACase narrow = in_dtype(test::make_case({1, 4200, 1, 1, 64, 64, {}}, options, 23), DType::bf16);
  const std::string plan = plan_text(narrow);
  const auto words = plan.find(", 1 of 1 sequences cut into ");
  REQUIRE(words != std::string::npos);
  REQUIRE(plan.find(", 1 of 1 sequences cut into ", words + 1) != std::string::npos);  // backward, too
  check_chunks(narrow);
}

TEST_CASE("kda on cuda: refuses what the CPU refuses, in the same words but for the device [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Options options;
  options.gate = kda::Gate::standard;
  const KDACase host = test::make_case({2, 6, 2, 4, 8, 5, {}}, options, 121);
  const KDACase there = test::on_device(host, Device::cuda());
  const auto sentence = [](const KDACase& c, const auto& change) {
    KDACase changed = c;
    change(changed);
    return test::error_of([&] { kda::fused_chunk(changed.inputs, changed.options); });
  };
  const auto check_same = [&](const auto& change) {
    const std::string expected = sentence(host, change);
    CHECK(expected.rfind("kda::fused_chunk: ", 0) == 0);
    CHECK(sentence(there, change) == expected);
  };
  check_same([](KDACase& c) { c.inputs.g = Tensor(); });
  check_same([](KDACase& c) { c.inputs.k = c.inputs.v; });
  check_same([](KDACase& c) { c.inputs.beta = c.inputs.g; });
  check_same([](KDACase& c) { c.inputs.A_log = Tensor(); });
  check_same([](KDACase& c) { c.inputs.initial_state = c.inputs.q; });
  check_same([](KDACase& c) { c.options.chunk_size = 8; });
  check_same([](KDACase& c) { c.options.workspace_limit = 0; });
  check_same([](KDACase& c) { c.options.allow_neg_eigval = true; });
  KDACase mixed = there;
  mixed.inputs.v = host.inputs.v;
  CHECK_ERROR(kda::fused_chunk(mixed.inputs, mixed.options), "kda::fused_chunk: v is on cpu, expected cuda:0 as q");
}

TEST_CASE("kda on cuda: plan says which kernels run, why, and what they take [gpu]") {
  if (!test::have_device()) {
    return;
  }
  kda::Shapes shapes;
  shapes.T = 100;
  shapes.H = 2;
  shapes.HV = 4;
  shapes.K = shapes.V = 16;
  kda::Plan plan = kda::plan({}, shapes, Device::cuda());
  CHECK(plan.implementation == kda::Implementation::fused_chunk);
  CHECK(plan.text.rfind("fused-chunk on cuda:0, in f32: forward v0, token after token, since the tensors are f32 and "
                        "v1 takes bf16 (working memory ",
                        0) == 0);
  CHECK(plan.text.find("; backward computes what it needs again (save_intermediates is off)") != std::string::npos);
  CHECK(plan.text.find("heads at a time") == std::string::npos);
  CHECK(plan.forward_bytes > 0);
  CHECK(plan.backward_bytes > plan.forward_bytes);

  kda::Options options;
  shapes.T = 1000;
  options.save_intermediates = true;
  options.workspace_limit = kda::plan(options, shapes, Device::cuda()).backward_bytes / 2;
  plan = kda::plan(options, shapes, Device::cuda());
  CHECK(plan.backward_bytes <= options.workspace_limit);
  CHECK(plan.text.find(" MiB with 2 of 4 heads at a time)") != std::string::npos);
  CHECK(plan.text.find("; backward reads the 0.1 MiB that forward keeps (save_intermediates)") != std::string::npos);

  options = {};
  shapes.dtype = DType::bf16;
  shapes.K = shapes.V = 128;
  plan = kda::plan(options, shapes, Device::cuda());
  CHECK(plan.text.rfind("fused-chunk on cuda:0, in f32 (tensors in bf16): forward v1, chunks of 64 tokens on tensor "
                        "cores, decays exact for any gate (working memory ",
                        0) == 0);
  CHECK(plan.text.find("; backward v1, chunks of 64 tokens (working memory ") != std::string::npos);
  shapes.V = 48;
  CHECK(kda::plan(options, shapes, Device::cuda())
            .text.find("; backward v0, since V is 48 and v1's backward takes 64 and 128 (working memory ") !=
        std::string::npos);

  shapes.T = 5;
  CHECK(kda::plan({}, shapes, Device::cuda())
            .text.rfind("fused-recurrent on cuda:0, in f32 (tensors in bf16): forward v0, token after token, since "
                        "this form has no chunks (working memory ",
                        0) == 0);
  shapes.K = 5000;
  CHECK(test::error_of([&] {
          kda::plan({}, shapes, Device::cuda());
        }).rfind("kda::fused_recurrent: K is 5000, expected ", 0) == 0);
}

}  // namespace
}  // namespace deltatape

// Which implementation ran: seen on the tape and in Output::kernel, announced by kda::plan; and the composed forms,
// which the kernels are held against, cannot reach the kernels.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "autograd/backward.h"
#include "autograd/graph_walk.h"
#include "ops/kda/plan.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

kda::Options with_everything() {
  kda::Options options;
  options.gate = kda::Gate::lower_bound;
  options.safe_gate = true;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.output_final_state = true;
  options.output_h = true;
  options.save_intermediates = true;
  return options;
}

/// Every floating-point input asks for a gradient.
KDACase with_leaves(KDACase c) {
  kda::Inputs& in = c.inputs;
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state}) {
    if (x->defined()) {
      x->set_requires_grad();
    }
  }
  return c;
}

std::vector<KDACase> cases() {
  kda::Options bare;
  KDACase segments = make_case({2, 20, 1, 2, 4, 3, {}}, with_everything(), 81);
  segments.inputs.segment_ids = from_vector(std::vector<int64_t>(40, 1), {2, 20});
  return {with_leaves(make_case({2, 20, 1, 2, 4, 3, {}}, bare, 82)),
          with_leaves(make_case({1, 0, 1, 1, 4, 3, {}}, bare, 83)),
          with_leaves(make_case({1, 40, 1, 2, 4, 3, {3, 0, 37}}, with_everything(), 84)), with_leaves(segments)};
}

TEST_CASE("kda: a fused call is one node on the tape, straight on the leaves, and says what ran") {
  for (const KDACase& c : cases()) {
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      const kda::Output out = implementation.function(c.inputs, c.options);
      CHECK(out.kernel == implementation.name);
      const Node* node = node_of(out.o);
      REQUIRE(node != nullptr);
      std::vector<Tensor> outputs{out.o};
      if (c.options.output_final_state) {
        outputs.push_back(out.final_state);
      }
      size_t calls = 0;
      for (const Ref<Node>& behind : nodes_behind(outputs)) {
        calls += behind->is_leaf() ? 0 : 1;
        if (!implementation.fused) {
          CHECK(behind->name().rfind("kda::fused", 0) != 0);
        }
      }
      if (implementation.fused) {
        CHECK(node->name() == implementation.name);
        CHECK(calls == 1);
        CHECK(node->inputs().size() == 8);
        CHECK((!out.final_state.defined() || node_of(out.final_state) == node));
      } else if (out.o.numel() > 0) {
        CHECK(calls > 10);
      }
    }
  }
}

TEST_CASE("kda: safe_gate centres the tiles within [-5, 0] and no others") {
  // Seen in the last bits: the two forms round differently.
  const auto same_as_general = [](double outside, int64_t token) {
    KDACase c = make_case({1, 16, 1, 1, 6, 5, {}}, {}, 80, test::Decay::bounded);
    std::vector<double> g = c.inputs.g.to_vector<double>();
    g[static_cast<size_t>(token * 6 + 5)] = outside;
    c.inputs.g = from_vector(g, c.inputs.g.shape());
    const test::Implementation fused_chunk = test::implementations()[3];
    const Tensor general = fused_chunk.function(c.inputs, c.options).o;
    c.options.safe_gate = true;
    return test::same_bits(fused_chunk.function(c.inputs, c.options).o, general);
  };
  for (const int64_t token : {0, 7, 15}) {
    CAPTURE(token);
    for (const double inside : {-5.0, -1.0, 0.0}) {
      CHECK_FALSE(same_as_general(inside, token));
    }
    for (const double outside : {-5.000000000000002, -7.0, -20.0, 1e-300, 0.5}) {
      CHECK(same_as_general(outside, token));
    }
  }
}

TEST_CASE("kda: under create_graph the gradients of a fused call come from its composed twin") {
  for (const test::Implementation& implementation : test::implementations()) {
    CAPTURE(implementation.name);
    const KDACase c = with_leaves(make_case({1, 5, 1, 1, 4, 3, {}}, {}, 85));
    const Tensor o = implementation.function(c.inputs, c.options).o;
    Tensor d_o = c.d_o;
    d_o.set_requires_grad();
    BackwardOptions options;
    options.create_graph = true;
    const std::vector<Tensor> gradients =
        grad(std::vector<Tensor>{o}, std::vector<Tensor>{c.inputs.k}, std::vector<Tensor>{d_o}, options);
    REQUIRE(node_of(gradients[0]) != nullptr);
    for (const Ref<Node>& behind : nodes_behind(gradients)) {
      CHECK(behind->name().rfind("kda::fused", 0) != 0);
    }
  }
}

std::string text_of(const std::string& file) {
  const char* folder = std::getenv("DELTATAPE_SOURCE_DIR");
  std::ifstream stream(std::string(folder != nullptr ? folder : DELTATAPE_SOURCE_DIR) + "/" + file);
  REQUIRE_MESSAGE(stream.good(), file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

TEST_CASE("kda: the composed forms know neither a backend nor the fused forms") {
  // Their headers and the files that those include from the same folder. options.h needs backends/kda.h for the gates'
  // names; it declares no function.
  for (const char* name : {"recurrent", "chunk", "chunk_layout", "decay", "gate", "inputs", "segments", "state_loop"}) {
    for (const char* ending : {".h", ".cpp"}) {
      const std::string file = std::string("ops/kda/") + name + ending;
      CAPTURE(file);
      const std::string text = text_of(file);
      CHECK(text.find("#include \"backends/") == std::string::npos);
      CHECK(text.find("backend_of") == std::string::npos);
      CHECK(text.find("fused.h") == std::string::npos);
      CHECK(text.find("plan.h") == std::string::npos);
    }
  }
  CHECK(text_of("ops/kda/options.h").find("#include \"backends/backend.h\"") == std::string::npos);
  CHECK(text_of("ops/kda/fused.cpp").find("#include \"backends/backend.h\"") != std::string::npos);  // the test can see
}

TEST_CASE("kda: plan names the kernel, says why, and what the options change") {
  const auto text = [](const kda::Options& options, const kda::Shapes& shapes) {
    return kda::plan(options, shapes, Device::cpu()).text;
  };
  kda::Shapes shapes;
  shapes.T = 100;
  CHECK(kda::plan({}, shapes, Device::cpu()).implementation == kda::Implementation::fused_chunk);
  CHECK(text({}, shapes) ==
        "fused-chunk on cpu, in f32: tiles of 16 tokens; decays by halving, exact for any gate (safe_gate is off); "
        "backward computes the states again (save_intermediates is off); gradients of gradients by the composed chunk");
  kda::Options options;
  options.safe_gate = true;
  options.save_intermediates = true;
  options.output_h = true;
  options.chunk_size = 32;
  shapes.dtype = DType::bf16;
  shapes.segment_ids = true;
  shapes.B = 2;
  CHECK(text(options, shapes) ==
        "fused-chunk on cpu, in f32 (tensors in bf16): tiles of 16 tokens; decays centred in tiles whose g lies within "
        "[-5, 0], by halving in all others (safe_gate); backward reads the states that forward keeps every 64 tokens "
        "(save_intermediates); h has a state every 32 tokens; every segment of segment_ids by itself; gradients of "
        "gradients by the composed chunk");
  options.gate = kda::Gate::lower_bound;
  options.lower_bound = -2.5;
  CHECK(text(options, shapes).find("; decays centred in every tile (safe_gate, lower_bound -2.5); ") !=
        std::string::npos);
  shapes = {};
  shapes.T = 7;
  shapes.dtype = DType::f64;
  CHECK(kda::plan({}, shapes, Device::cpu()).implementation == kda::Implementation::fused_recurrent);
  CHECK(text({}, shapes) ==
        "fused-recurrent on cpu, in f64: one token after another, since most rows of tiles of 16 would be padding; "
        "backward computes the states again (save_intermediates is off); gradients of gradients by the composed "
        "recurrent");
  shapes.T = 100;
  shapes.cu_seqlens = true;
  shapes.lengths = std::vector<int64_t>(20, 5);
  CHECK(kda::plan({}, shapes, Device::cpu()).implementation == kda::Implementation::fused_recurrent);
  CHECK(text({}, shapes).find("; every sequence of cu_seqlens by itself; ") != std::string::npos);
  options = {};
  options.safe_gate = true;
  CHECK(text(options, shapes).find("exact for any gate (safe_gate changes nothing here); ") != std::string::npos);
  // Most tokens in one long sequence: its tiles outweigh the padding of the others.
  shapes.lengths = {1, 1, 98};
  CHECK(kda::plan({}, shapes, Device::cpu()).implementation == kda::Implementation::fused_chunk);
}

TEST_CASE("kda: the names of the implementations") {
  const std::vector<std::pair<kda::Implementation, std::string>> names{
      {kda::Implementation::automatic, "automatic"},
      {kda::Implementation::recurrent, "recurrent"},
      {kda::Implementation::chunk, "chunk"},
      {kda::Implementation::fused_recurrent, "fused-recurrent"},
      {kda::Implementation::fused_chunk, "fused-chunk"}};
  for (const auto& named : names) {
    CHECK(kda::name_of(named.first) == named.second);
  }
  CHECK_ERROR(kda::name_of(static_cast<kda::Implementation>(9)),
              "kda::name_of: implementation is 9, expected one of the enumeration");
}

TEST_CASE("kda: run calls the implementation that was named, and automatic the one that plan names") {
  const KDACase c = make_case({1, 20, 1, 1, 4, 3, {}}, {}, 86);
  CHECK(kda::run(kda::Implementation::recurrent, c.inputs).kernel == "kda::recurrent");
  CHECK(kda::run(kda::Implementation::chunk, c.inputs).kernel == "kda::chunk");
  CHECK(kda::run(kda::Implementation::fused_recurrent, c.inputs).kernel == "kda::fused_recurrent");
  CHECK(kda::run(kda::Implementation::fused_chunk, c.inputs).kernel == "kda::fused_chunk");
  for (const int64_t T : {0, 1, 7, 8, 100}) {
    CAPTURE(T);
    kda::Shapes shapes;
    shapes.T = T;
    shapes.K = 4;
    shapes.V = 3;
    shapes.dtype = DType::f64;
    const bool few = kda::plan({}, shapes, Device::cpu()).implementation == kda::Implementation::fused_recurrent;
    CHECK(few == (T < 8));
    const KDACase drawn = make_case({1, T, 1, 1, 4, 3, {}}, {}, 87);
    CHECK(kda::run(kda::Implementation::automatic, drawn.inputs).kernel ==
          (few ? "kda::fused_recurrent" : "kda::fused_chunk"));
  }
  // Sequences of 4 and 36 tokens fill half of their four tiles, ten segments of 2 do not.
  const KDACase packed = make_case({1, 40, 1, 1, 4, 3, {4, 36}}, {}, 88);
  CHECK(kda::run(kda::Implementation::automatic, packed.inputs).kernel == "kda::fused_chunk");
  KDACase segments = make_case({1, 20, 1, 1, 4, 3, {}}, {}, 89);
  std::vector<int64_t> ids;
  for (int64_t t = 0; t < 20; ++t) {
    ids.push_back(t / 2);
  }
  segments.inputs.segment_ids = from_vector(ids, {1, 20});
  CHECK(kda::run(kda::Implementation::automatic, segments.inputs).kernel == "kda::fused_recurrent");
  kda::Inputs broken = c.inputs;
  broken.q = Tensor();
  CHECK_ERROR(kda::run(kda::Implementation::automatic, broken),
              "kda::run: q is missing, expected a tensor [B, T, H, K]");
  CHECK_ERROR(kda::run(kda::Implementation::fused_chunk, broken),
              "kda::fused_chunk: q is missing, expected a tensor [B, T, H, K]");
  CHECK_ERROR(kda::run(static_cast<kda::Implementation>(77), c.inputs),
              "kda::run: implementation is 77, expected one of the enumeration");
}

TEST_CASE("kda: plan refuses what a call with these options and sizes would be refused for") {
  const auto error = [](const kda::Options& options, const kda::Shapes& shapes) {
    return test::error_of([&] { kda::plan(options, shapes, Device::cpu()); });
  };
  kda::Options options;
  options.chunk_size = 8;
  CHECK(error(options, {}) == "kda::plan: chunk_size is 8, expected 16, 32 or 64");
  options = {};
  options.gate = kda::Gate::standard;
  options.safe_gate = true;
  CHECK(
      error(options, {}) ==
      "kda::plan: safe_gate is true and the gate standard, which has no lower bound, expected the lower-bound gate or "
      "none");
  kda::Shapes shapes;
  shapes.T = -1;
  CHECK(error({}, shapes) == "kda::plan: B and T are 1 and -1, expected 0 or more");
  shapes = {};
  shapes.K = 0;
  CHECK(error({}, shapes) == "kda::plan: H, K and V are 1, 0 and 1, expected 1 or more");
  shapes = {};
  shapes.H = 2;
  shapes.HV = 3;
  CHECK(error({}, shapes) == "kda::plan: HV is 3, expected a multiple of H = 2");
  shapes = {};
  shapes.dtype = DType::i64;
  CHECK(error({}, shapes) == "kda::plan: dtype is i64, expected a floating-point one");
  shapes = {};
  shapes.B = 2;
  shapes.cu_seqlens = true;
  CHECK(error({}, shapes) == "kda::plan: B is 2, expected 1 with cu_seqlens");
  shapes.B = 1;
  shapes.segment_ids = true;
  CHECK(error({}, shapes) == "kda::plan: segment_ids and cu_seqlens are both given, expected at most one of them");
  shapes = {};
  shapes.T = 10;
  shapes.lengths = {-1, 11};
  CHECK(error({}, shapes) == "kda::plan: lengths has a -1, expected numbers of 0 or more");
  shapes.lengths = {1, 8};
  CHECK(error({}, shapes) == "kda::plan: lengths add up to 9, expected B T = 10");
}

}  // namespace
}  // namespace deltatape

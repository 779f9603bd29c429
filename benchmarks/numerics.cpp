// How exact the implementations of KDA are, as Markdown: the tables of docs/numerics.md. Arithmetic in f32 (tensors in
// f32, bf16 or f16) against the composed chunk form in f64 on the same, rounded inputs, per gate regime and length; and
// that reference itself against the recurrence. `kda_numerics [--longest T]` (default 2048).
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/backward.h"
#include "core/error.h"
#include "core/generator.h"
#include "ops/kda/plan.h"
#include "ops/ops.h"

namespace {

using namespace deltatape;
using kda::Implementation;

constexpr int64_t kHeads = 2;
constexpr int64_t kSize = 64;  // of a key and of a value
constexpr TensorOptions kF64 = {DType::f64, Device()};

enum class Regime : uint8_t { mild, bounded, strong, resets, few_keys };
constexpr std::array<Regime, 5> kRegimes = {Regime::mild, Regime::bounded, Regime::strong, Regime::resets,
                                            Regime::few_keys};

const char* describe_regime(Regime regime) {
  switch (regime) {
    case Regime::mild:
      return "mild, [-0.1, 0]";
    case Regime::bounded:
      return "bounded, -5 sigmoid";
    case Regime::strong:
      return "strong, -20 u";
    case Regime::resets:
      return "resets of -20";
    case Regime::few_keys:
      return "4 keys, beta up to 2";
  }
  return "";
}

struct Case {
  kda::Inputs inputs;
  kda::Options options;
  Tensor d_o;
  Tensor d_ht;
};

// Unit vectors: all drawn, or four that take turns at random.
Tensor draw_keys(int64_t T, bool few, Generator& generator) {
  const int64_t count = few ? 4 : T * kHeads;
  const Tensor drawn = randn({count, kSize}, generator, kF64);
  const Tensor unit = div(drawn, sqrt(sum(square(drawn), {1}, true)));
  if (!few) {
    return reshape(unit, {1, T, kHeads, kSize});
  }
  std::vector<int64_t> choice(static_cast<size_t>(T * kHeads));
  std::generate(choice.begin(), choice.end(), [&] { return static_cast<int64_t>(generator.next_below(4)); });
  return reshape(index_select(unit, 0, from_vector(choice)), {1, T, kHeads, kSize});
}

Tensor draw_decays(Regime regime, int64_t T, Generator& generator) {
  const Shape shape{1, T, kHeads, kSize};
  if (regime == Regime::bounded) {
    return mul(randn(shape, generator, kF64), 2.0);  // logits
  }
  const Tensor u = rand(shape, generator, kF64);
  if (regime == Regime::strong) {
    return mul(u, -20.0);
  }
  if (regime == Regime::resets) {  // every fifth step
    std::vector<double> steps(static_cast<size_t>(T), 0.0);
    for (size_t t = 2; t < steps.size(); t += 5) {
      steps[t] = -20.0;
    }
    return add(mul(u, -0.01), from_vector(steps, {1, T, 1, 1}));
  }
  return mul(u, regime == Regime::mild ? -0.1 : -0.01);
}

Case draw(Regime regime, int64_t T) {
  Generator generator(static_cast<uint64_t>(T));
  const bool few = regime == Regime::few_keys;
  Case c;
  c.inputs.q = randn({1, T, kHeads, kSize}, generator, kF64);
  c.inputs.k = draw_keys(T, few, generator);
  c.inputs.v = randn({1, T, kHeads, kSize}, generator, kF64);
  c.inputs.g = draw_decays(regime, T, generator);
  c.inputs.beta = mul(rand({1, T, kHeads}, generator, kF64), few ? 2.0 : 1.0);
  c.inputs.initial_state = randn({1, kHeads, kSize, kSize}, generator, kF64);
  c.d_o = randn({1, T, kHeads, kSize}, generator, kF64);
  c.d_ht = randn({1, kHeads, kSize, kSize}, generator, kF64);
  c.options.gate = regime == Regime::bounded ? kda::Gate::lower_bound : kda::Gate::none;
  c.options.lower_bound = -5.0;
  c.options.output_final_state = true;
  return c;
}

// The case as kernels of this dtype get it: states stay f32 beside 16 bits.
Case rounded(const Case& c, DType dtype) {
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  Case r = c;
  for (Tensor* const x : {&r.inputs.q, &r.inputs.k, &r.inputs.v, &r.inputs.g, &r.inputs.beta, &r.d_o}) {
    *x = to(*x, dtype);
  }
  r.inputs.initial_state = to(r.inputs.initial_state, wide);
  r.d_ht = to(r.d_ht, wide);
  return r;
}

constexpr std::array<const char*, 8> kNames = {"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dh0"};
using Results = std::array<Tensor, kNames.size()>;

Results run(const Case& c, Implementation implementation) {
  kda::Inputs in = c.inputs;
  std::vector<Tensor> leaves;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.initial_state}) {
    *x = x->detach();
    x->set_requires_grad();
    leaves.push_back(*x);
  }
  const kda::Output out = kda::run(implementation, in, c.options);
  const std::vector<Tensor> outputs = {out.o, out.final_state};
  const std::vector<Tensor> upstream = {c.d_o, c.d_ht};
  const std::vector<Tensor> gradients = grad(outputs, leaves, upstream);
  Results results = {out.o.detach(), out.final_state.detach()};
  std::copy(gradients.begin(), gradients.end(), results.begin() + 2);
  return results;
}

double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (const double x : values) {
    result = std::isnan(x) ? x : std::max(result, std::abs(x));
    if (std::isnan(result)) {
      break;
    }
  }
  return result;
}

// max |x - ref| / max |ref|; NaN when either side has one.
double error_of(const Tensor& x, const Tensor& ref) {
  auto a = x.to_vector<double>();
  const auto b = ref.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] -= b[i];
  }
  return largest(a) / largest(b);
}

void print_head() {
  std::string names = "| log decay | T | implementation |";
  std::string line = "|---|---|---|";
  for (const char* name : kNames) {
    names += fmt::format(" {} |", name);
    line += "---|";
  }
  fmt::print("{}\n{}\n", names, line);
}

void print_row(Regime regime, int64_t T, std::string_view implementation, const Results& results,
               const Results& references) {
  std::string row = fmt::format("| {} | {} | {} |", describe_regime(regime), T, implementation);
  for (size_t i = 0; i < results.size(); ++i) {
    row += fmt::format(" {:.1e} |", error_of(results[i], references[i]));
  }
  fmt::print("{}\n", row);
}

// The composed chunk form in f64, and the fused kernels in f64, against the recurrence on the tape.
void print_f64(int64_t longest) {
  fmt::print("## f64, against kda::recurrent in f64\n\n");
  print_head();
  for (const Regime regime : kRegimes) {
    for (const int64_t T : {int64_t{64}, int64_t{256}}) {
      if (T > longest) {
        continue;
      }
      const Case c = draw(regime, T);
      const Results references = run(c, Implementation::recurrent);
      for (const Implementation implementation :
           {Implementation::chunk, Implementation::fused_recurrent, Implementation::fused_chunk}) {
        print_row(regime, T, kda::name_of(implementation), run(c, implementation), references);
      }
    }
  }
  fmt::print("\n");
}

void print_dtype(DType dtype, int64_t longest) {
  fmt::print("## {}, against kda::chunk in f64 on the same inputs\n\n", dtype);
  print_head();
  for (const Regime regime : kRegimes) {
    for (const int64_t T : {int64_t{64}, int64_t{256}, int64_t{1024}, int64_t{2048}}) {
      if (T > longest) {
        continue;
      }
      Case c = rounded(draw(regime, T), dtype);
      const Results references = run(rounded(c, DType::f64), Implementation::chunk);
      for (const Implementation implementation :
           {Implementation::chunk, Implementation::fused_recurrent, Implementation::fused_chunk}) {
        print_row(regime, T, kda::name_of(implementation), run(c, implementation), references);
      }
      // Where single decays are below -5 the tiles take the general road anyway.
      if (regime != Regime::strong && regime != Regime::resets) {
        c.options.safe_gate = true;
        print_row(regime, T, "fused-chunk, safe_gate", run(c, Implementation::fused_chunk), references);
      }
    }
  }
  fmt::print("\n");
}

int64_t parse_longest(int argc, char** argv) {
  int64_t longest = 2048;
  const std::string_view option = argc > 1 ? argv[1] : "";
  if (argc == 3 && option == "--longest") {
    const std::string_view text = argv[2];
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), longest);
    check(error == std::errc() && end == text.data() + text.size() && longest >= 64, "--longest",
          "'{}' is not an integer of 64 or more", text);
    return longest;
  }
  check(argc == 1, "kda_numerics", "'{}' is not known, expected nothing or --longest T", option);
  return longest;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int64_t longest = parse_longest(argc, argv);
    fmt::print("max |x - ref| / max |ref|; B = 1, {} heads, K = V = {}, keys of length 1, with initial state.\n\n",
               kHeads, kSize);
    print_f64(longest);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      print_dtype(dtype, longest);
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
  return 0;
}

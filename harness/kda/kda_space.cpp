// The axes that cases of KDA are drawn along. docs/harness.md has the list for readers.
#include <algorithm>

#include "harness/kda/kda.h"
#include "harness/kda/kda_tensors.h"

namespace deltatape::harness {
namespace {

int64_t between(Generator& generator, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(generator.next_below(static_cast<uint64_t>(high - low) + 1));
}

bool chance(Generator& generator, double probability) { return generator.next_uniform() < probability; }

/// Lengths around the borders of tiles and chunks as often as any others.
Value draw_time(Generator& generator, const Settings&) {
  constexpr std::array<int64_t, 20> borders = {0,  1,  2,  15, 16, 17, 31, 32, 33,  47,
                                               48, 49, 63, 64, 65, 66, 80, 97, 127, 129};
  if (chance(generator, 0.5)) {
    return borders[generator.next_below(borders.size())];
  }
  if (chance(generator, 0.04)) {
    return between(generator, 200, 400);  // several batches of chunks
  }
  return between(generator, 1, chance(generator, 0.4) ? 150 : 70);
}

/// Few where sequences are long, so that a case stays quick.
Value draw_few(Generator& generator, const Settings& so_far, int64_t most) {
  const int64_t T = so_far.integer("T");
  return between(generator, 1, T >= 200 ? 1 : T > 70 ? std::min<int64_t>(most, 2) : most);
}

/// Sizes of heads: mostly small and odd, at times what real models have.
Value draw_width(Generator& generator, const Settings& so_far) {
  constexpr std::array<int64_t, 9> sizes = {1, 4, 8, 16, 17, 32, 33, 48, 64};
  if (so_far.integer("T") <= 20 && chance(generator, 0.15)) {
    return between(generator, 49, 256);
  }
  return chance(generator, 0.4) ? sizes[generator.next_below(sizes.size())] : between(generator, 2, 24);
}

/// An integer axis whose draw depends on what was drawn before.
Axis sized(const std::string& name, const std::string& help, int64_t low,
           std::function<Value(Generator&, const Settings& so_far)> draw) {
  Space ends;
  ends.integer(name, help, low, low);
  Axis axis = ends.axes().front();
  axis.draw = std::move(draw);
  return axis;
}

/// A choice that is its first word with this probability.
Axis mostly_first(const std::string& name, const std::string& help, const std::vector<std::string>& words,
                  double probability) {
  Space plain;
  plain.choice(name, help, words);
  Axis axis = plain.axes().front();
  axis.draw = [words, probability](Generator& generator, const Settings&) -> Value {
    return chance(generator, probability) ? words.front() : words[1 + generator.next_below(words.size() - 1)];
  };
  return axis;
}

Axis chunk_axis() {
  return {
      .name = "chunk_size",
      .help = "tokens of a chunk",
      .simplest = int64_t{64},
      .draw = [](Generator& generator, const Settings&) -> Value { return int64_t{16} << between(generator, 0, 2); },
      .simpler =
          [](const Value& value) {
            return std::get<int64_t>(value) == 64 ? std::vector<Value>{} : std::vector<Value>{int64_t{64}};
          }};
}

Axis loss_axis() {
  Space plain;
  plain.choice("loss", "which outputs have an upstream gradient", {"o", "both", "ht", "none"});
  Axis axis = plain.axes().front();
  axis.draw = [](Generator& generator, const Settings&) -> Value {
    const double u = generator.next_uniform();
    return std::string(u < 0.6 ? "both" : u < 0.75 ? "o" : u < 0.9 ? "ht" : "none");
  };
  return axis;
}

/// Combinations that mean nothing, or that nobody computes, become the nearest that do.
void repair(Settings& s) {
  const std::string gate = s.word("gate");
  if (gate != "lower-bound") {
    s.set("lower_bound", -5.0);
  }
  s.set("A_log", gate == "standard" || (gate == "lower-bound" && s.flag("A_log")));
  s.set("dt_bias", gate != "none" && s.flag("dt_bias"));
  s.set("neg_eigval", s.flag("beta_sigmoid") && s.flag("neg_eigval"));
  const bool bounded = gate == "none" || (gate == "lower-bound" && s.number("lower_bound") >= -5.0);
  s.set("safe_gate", bounded && s.flag("safe_gate"));
  // A vector of one element has no direction: what is left of its gradient behind the norm is rounding.
  s.set("l2norm", s.integer("K") > 1 && s.flag("l2norm"));
  if (s.word("norms") == "huge" && !s.flag("l2norm")) {
    s.set("norms", std::string("unit"));  // beta |k|^2 above 2: the recurrence itself grows without bound
  }
  if (s.word("norms") == "tiny" && s.word("dtype") == "f16") {
    s.set("norms", std::string("unit"));  // gradients behind the norm would be above what f16 can hold
  }
  if (s.flag("beta_sigmoid")) {
    s.set("beta", std::string("mixed"));
  }
  if (s.word("packing") == "cu_seqlens") {
    s.set("B", int64_t{1});
  } else if (s.word("packing") == "rows") {
    s.set("pieces", int64_t{1});
  }
  if (!s.flag("ht") && s.word("loss") != "none") {
    s.set("loss", std::string("o"));
  }
}

}  // namespace

Space kda_space() {
  Space space;
  space.choice("dtype", "of q k v g beta and of the gradient of o", {"f32", "f64", "bf16", "f16"})
      .axis(sized("T", "tokens of a row", 0, draw_time))
      .axis(sized("B", "rows", 1, [](Generator& g, const Settings& s) { return draw_few(g, s, 3); }))
      .axis(sized("H", "heads of q and k", 1, [](Generator& g, const Settings& s) { return draw_few(g, s, 2); }))
      .axis(sized("group", "value heads per head of q and k: HV / H", 1,
                  [](Generator& g, const Settings& s) { return draw_few(g, s, 3); }))
      .axis(sized("K", "channels of q, k and g", 1, draw_width))
      .axis(sized("V", "channels of v", 1, draw_width))
      .axis(mostly_first("packing", "one sequence per row, cu_seqlens, or segment_ids",
                         {"rows", "cu_seqlens", "segment_ids"}, 0.5))
      .axis(sized("pieces", "sequences with cu_seqlens, about as many segments per row with segment_ids", 1,
                  [](Generator& g, const Settings&) -> Value { return between(g, 1, 6); }))
      .choice("gate", "what g is: the log decay, or logits of a gate", {"none", "standard", "lower-bound"})
      .number("lower_bound", "of the lower-bound gate", {-5.0, -1.0, -0.1, -20.0})
      .flag("A_log", "is there (the standard gate always has it)", 0.7)
      .flag("dt_bias", "is there", 0.7)
      .axis(chunk_axis())
      .number("scale", "of the output; 0: K^-1/2", {0.0, 0.0, 1.0, 0.25, -0.7, 3.0})
      .flag("l2norm", "of q and k, in the operator")
      .flag("beta_sigmoid", "beta is a logit")
      .flag("neg_eigval", "beta is 2 sigmoid of its logit")
      .flag("safe_gate", "log decays are promised to lie in [-5, 0]")
      .flag("h0", "an initial state", 0.7)
      .flag("ht", "the final state is wanted", 0.7)
      .flag("v_first", "states are [.., V, K]", 0.3)
      .flag("save", "the kernel may keep states for backward")
      .axis(loss_axis())
      .axis(mostly_first("decay", "log decays: weak; 0; (-5, 0); down to -20; -20 among weak ones; steps of -20",
                         {"mild", "none", "bounded", "strong", "mixed", "resets"}, 0.3))
      .axis(mostly_first("keys", "random; one key; three keys in turn; cosine near 1",
                         {"random", "repeated", "few", "near"}, 0.6))
      .axis(mostly_first("norms", "of q and k: about 1; 1e-4; 1e3 (with l2norm)", {"unit", "tiny", "huge"}, 0.75))
      .axis(mostly_first("beta", "as given: all of [0, 2]; 0; 1; 2", {"mixed", "zero", "one", "two"}, 0.7))
      .repair(repair)
      .make(make_kda_case);
  return space;
}

}  // namespace deltatape::harness

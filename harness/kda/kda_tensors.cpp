#include "harness/kda/kda_tensors.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"
#include "core/generator.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

struct Sizes {
  int64_t B, T, H, HV, K, V;

  explicit Sizes(const Settings& s)
      : B(s.integer("B")),
        T(s.integer("T")),
        H(s.integer("H")),
        HV(H * s.integer("group")),
        K(s.integer("K")),
        V(s.integer("V")) {}
};

/// Draws of one tensor; every tensor has a stream of its own, so that settings which concern one leave the others.
class Draws {
 public:
  Draws(const Settings& settings, uint64_t stream)
      : generator_(static_cast<uint64_t>(settings.integer("seed")) * 64 + stream) {}
  double uniform() { return generator_.next_uniform(); }
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform());
  }
  /// In [low, high].
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator_.next_below(static_cast<uint64_t>(high - low) + 1));
  }
  Tensor tensor(const Shape& shape, const std::function<double()>& next) {
    std::vector<double> values(static_cast<size_t>(shape.numel()));
    std::generate(values.begin(), values.end(), next);
    return from_vector(values, shape);
  }
  Tensor normals(const Shape& shape) {
    return tensor(shape, [this] { return normal(); });
  }

 private:
  Generator generator_;
};

enum Stream : uint8_t { kQ, kK, kV, kG, kBeta, kALog, kBias, kH0, kDo, kDht, kPieces };

using Row = std::vector<double>;

void scale_to(Row& row, double length) {
  double squares = 0.0;
  for (const double x : row) {
    squares += x * x;
  }
  for (double& x : row) {
    x *= length / std::sqrt(squares);
  }
}

/// Rows of q or k: directions as `keys` says, lengths as `norms` says.
Tensor directions(const Settings& s, const Sizes& n, Stream stream, const std::string& keys) {
  Draws draws(s, stream);
  std::array<Row, 3> drawn;
  for (Row& row : drawn) {
    row.resize(static_cast<size_t>(n.K));
    std::generate(row.begin(), row.end(), [&] { return draws.normal(); });
    scale_to(row, 1.0);
  }
  const double size = s.word("norms") == "tiny" ? 1e-4 : s.word("norms") == "huge" ? 1e3 : 1.0;
  const bool normalized = s.flag("l2norm");
  std::vector<double> values;
  values.reserve(static_cast<size_t>(n.B * n.T * n.H * n.K));
  for (int64_t token = 0; token < n.B * n.T * n.H; ++token) {
    Row row = drawn[keys == "few" ? static_cast<size_t>(token / n.H % 3) : 0];
    if (keys == "random" || keys == "near") {
      const double spread = 0.07 / std::sqrt(static_cast<double>(n.K));
      for (double& x : row) {
        x = keys == "random" ? draws.normal() : x + spread * draws.normal();
      }
    }
    // Where the operator normalises, lengths vary; else keys longer than 1 could make the state grow.
    scale_to(row, size * (normalized ? std::exp(0.5 * draws.normal()) : 1.0 - 0.2 * draws.uniform()));
    values.insert(values.end(), row.begin(), row.end());
  }
  return from_vector(values, {n.B, n.T, n.H, n.K});
}

/// A log decay of this regime.
double log_decay(const std::string& regime, int64_t time, Draws& draws) {
  const double u = draws.uniform();
  if (regime == "none") {
    return 0.0;
  }
  if (regime == "bounded") {
    return -5.0 / (1.0 + std::exp(-2.0 * draws.normal()));
  }
  if (regime == "strong") {
    return -20.0 * u;
  }
  if (regime == "mixed") {
    return u < 0.15 ? -20.0 : -0.01 * u;
  }
  if (regime == "resets") {
    return time % 5 == 2 ? -20.0 : -0.01 * u;
  }
  return -0.1 * u;
}

/// A logit whose gate is weak, strong or in between, as the regime says.
double gate_logit(const std::string& regime, int64_t time, Draws& draws) {
  const double x = draws.normal();
  if (regime == "none") {
    return draws.uniform() < 0.5 ? -1e4 : x - 40.0;  // exactly 0, and nearly
  }
  if (regime == "strong") {
    return 4.0 * x + 4.0;
  }
  if (regime == "mixed") {
    return draws.uniform() < 0.15 ? 15.0 : x - 6.0;
  }
  if (regime == "resets") {
    return time % 5 == 2 ? 15.0 : x - 6.0;
  }
  return regime == "bounded" ? 2.0 * x : x - 3.0;
}

Tensor gates(const Settings& s, const Sizes& n) {
  Draws draws(s, kG);
  int64_t element = 0;
  return draws.tensor({n.B, n.T, n.HV, n.K}, [&] {
    const int64_t time = element++ / (n.HV * n.K) % std::max<int64_t>(n.T, 1);
    return s.word("gate") == "none" ? log_decay(s.word("decay"), time, draws)
                                    : gate_logit(s.word("decay"), time, draws);
  });
}

Tensor write_strengths(const Settings& s, const Sizes& n) {
  Draws draws(s, kBeta);
  const std::string& kind = s.word("beta");
  return draws.tensor({n.B, n.T, n.HV}, [&]() -> double {
    if (s.flag("beta_sigmoid")) {
      return 1.5 * draws.normal();
    }
    const double u = draws.uniform();
    if (kind == "zero" || kind == "one" || kind == "two") {
      return kind == "zero" ? 0.0 : kind == "one" ? 1.0 : 2.0;
    }
    return u < 0.1 ? 0.0 : u < 0.2 ? 1.0 : u < 0.3 ? 2.0 : u;
  });
}

/// Borders 0 <= ... <= T of `pieces` pieces, some of them of no or of one token.
std::vector<int64_t> borders(Draws& draws, int64_t pieces, int64_t T) {
  std::vector<int64_t> result{0};
  for (int64_t i = 1; i < pieces; ++i) {
    const int64_t kind = draws.between(0, 4);
    const int64_t next = kind < 2 ? result.back() + kind : draws.between(0, T);
    result.push_back(std::min(next, T));
  }
  result.push_back(T);
  std::sort(result.begin(), result.end());
  return result;
}

Tensor segments(const Settings& s, const Sizes& n) {
  Draws draws(s, kPieces);
  std::vector<int64_t> ids;
  ids.reserve(static_cast<size_t>(n.B * n.T));
  for (int64_t b = 0; b < n.B; ++b) {
    const std::vector<int64_t> ends = borders(draws, s.integer("pieces"), n.T);
    for (size_t piece = 1; piece < ends.size(); ++piece) {
      const int64_t id = draws.between(-2, 2);  // may come back, or stay
      ids.insert(ids.end(), static_cast<size_t>(ends[piece] - ends[piece - 1]), id);
    }
  }
  return from_vector(ids, {n.B, n.T});
}

constexpr double kMostElements = 1e8;  // of all tensors of a case together

/// About how many elements the tensors have; in floating point, where nothing overflows.
double count_elements(const Settings& s) {
  const auto size = [&](const char* name) { return static_cast<double>(s.integer(name)); };
  const double heads = size("H") * size("group");
  const double states = size("B") + size("pieces");
  return heads * (size("K") + size("V") + size("chunk_size")) * size("B") * size("T") +
         heads * states * size("K") * size("V") + states;
}

DType dtype_of_word(const std::string& word) {
  return word == "f64" ? DType::f64 : word == "bf16" ? DType::bf16 : word == "f16" ? DType::f16 : DType::f32;
}

}  // namespace

Case make_kda_case(const Settings& s) {
  const double elements = count_elements(s);
  check(elements <= kMostElements, "case", "the tensors have about {:.0e} elements together, expected at most {:.0e}",
        elements, kMostElements);
  const Sizes n(s);
  Case c;
  c.settings = s;
  c.dtype = dtype_of_word(s.word("dtype"));
  const DType wide = c.dtype == DType::f64 ? DType::f64 : DType::f32;
  const auto add = [&](const char* name, const Tensor& tensor, DType dtype) {
    c.inputs.emplace_back(name, to(tensor, dtype));
  };
  add("q", directions(s, n, kQ, "random"), c.dtype);
  add("k", directions(s, n, kK, s.word("keys")), c.dtype);
  add("v", Draws(s, kV).normals({n.B, n.T, n.HV, n.V}), c.dtype);
  add("g", gates(s, n), c.dtype);
  add("beta", write_strengths(s, n), c.dtype);
  if (s.flag("A_log")) {
    Draws draws(s, kALog);
    add("A_log", draws.tensor({n.HV}, [&] { return 0.5 * draws.normal(); }), wide);
  }
  if (s.flag("dt_bias")) {
    add("dt_bias", Draws(s, kBias).normals({n.HV * n.K}), wide);
  }
  int64_t states = n.B;
  Tensor cu_seqlens;
  if (s.word("packing") == "cu_seqlens") {
    Draws draws(s, kPieces);
    cu_seqlens = from_vector(borders(draws, s.integer("pieces"), n.T));
    states = s.integer("pieces");
  }
  const Shape state = s.flag("v_first") ? Shape{states, n.HV, n.V, n.K} : Shape{states, n.HV, n.K, n.V};
  if (s.flag("h0")) {
    add("h0", Draws(s, kH0).normals(state), wide);
  }
  if (cu_seqlens.defined()) {
    c.inputs.emplace_back("cu_seqlens", cu_seqlens);
  } else if (s.word("packing") == "segment_ids") {
    c.inputs.emplace_back("segment_ids", segments(s, n));
  }
  const std::string& loss = s.word("loss");
  if (loss == "o" || loss == "both") {
    c.upstream.emplace_back("o", to(Draws(s, kDo).normals({n.B, n.T, n.HV, n.V}), c.dtype));
  }
  if (s.flag("ht") && (loss == "ht" || loss == "both")) {
    c.upstream.emplace_back("ht", to(Draws(s, kDht).normals(state), wide));
  }
  return c;
}

}  // namespace deltatape::harness

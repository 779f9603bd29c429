// The decode kernel on the host twin against the recurrence in double: sizes, layouts, types, options, drafts, padding.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "backends/cuda/kda/decode/kernel.h"
#include "backends/cuda/kda/tile/launch.h"

namespace deltatape::cuda::kda::decoding {
namespace {

using tile::host::Order;

/// A step: sizes, options and numbers in double, each exact in the type that it is given in.
struct Case {
  int N = 1;
  int m = 1;
  int H = 1;
  int HV = 1;
  int K = 64;
  int V = 64;
  int P = 4;
  Gate gate = Gate::none;
  double lower_bound = -5.0;
  double scale = 0.25;
  double beta_factor = 1.0;
  bool l2norm = false;
  bool beta_sigmoid = false;
  bool parameters = true;  // A_log and dt_bias
  bool v_first = false;
  DType dtype = DType::f32;
  DType pool_dtype = DType::f32;
  std::vector<int64_t> first_slot;
  std::vector<int64_t> slots;

  std::vector<double> q, k, v, g, beta, A_log, dt_bias, pool;
};

double rounded(double x, DType dtype) {
  const auto y = static_cast<float>(x);
  return dtype == DType::bf16  ? static_cast<float>(BFloat16(y))
         : dtype == DType::f16 ? static_cast<float>(Float16(y))
                               : y;
}

void fill(Case& c, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  const auto numbers = [&](int count, double mean, double deviation, DType dtype) {
    std::vector<double> x;
    for (int i = 0; i < count; ++i) {
      x.push_back(rounded(mean + deviation * normal(generator), dtype));
    }
    return x;
  };
  const int rows = c.N * c.m;
  const double size = c.l2norm ? 1.0 : 1.0 / std::sqrt(c.K);
  c.q = numbers(rows * c.H * c.K, 0, size, c.dtype);
  c.k = numbers(rows * c.H * c.K, 0, size, c.dtype);
  c.v = numbers(rows * c.HV * c.V, 0, 1, c.dtype);
  c.g = numbers(rows * c.HV * c.K, 0, 1, c.dtype);
  c.beta = numbers(rows * c.HV, 0, 1, c.dtype);
  if (c.gate == Gate::none) {
    for (double& x : c.g) {
      x = -std::fabs(x);
    }
  }
  if (!c.beta_sigmoid) {
    for (double& x : c.beta) {
      x = std::min(std::fabs(x), 1.0);
    }
  }
  if (c.gate != Gate::none && c.parameters) {
    c.A_log = numbers(c.HV, 0, 0.5, DType::f32);
    c.dt_bias = numbers(c.HV * c.K, 0, 1, c.dtype);
  }
  c.pool = numbers(c.P * c.HV * c.K * c.V, 0, 1, c.pool_dtype);
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

double log_decay_of(const Case& c, double x, int head, int channel) {
  const double z = c.dt_bias.empty() ? x : x + c.dt_bias[static_cast<size_t>(head * c.K + channel)];
  const double a = c.A_log.empty() ? 1.0 : std::exp(c.A_log[static_cast<size_t>(head)]);
  switch (c.gate) {
    case Gate::standard:
      return -a * (std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z))));
    case Gate::lower_bound:
      return c.lower_bound * sigmoid_of(a * z);
    default:
      return z;
  }
}

/// `count` numbers from `first` on, normalised where the case says so.
std::vector<double> key(const Case& c, const std::vector<double>& x, int row, int head) {
  const auto begin = x.begin() + (row * c.H + head / (c.HV / c.H)) * c.K;
  std::vector<double> y(begin, begin + c.K);
  if (c.l2norm) {
    double squares = 1e-6;
    for (const double e : y) {
      squares += e * e;
    }
    for (double& e : y) {
      e /= std::sqrt(squares);
    }
  }
  return y;
}

/// One token and head in double: the state [K,V] is changed, the output row is returned.
std::vector<double> token(const Case& c, int row, int head, std::vector<double>& state) {
  const std::vector<double> q = key(c, c.q, row, head);
  const std::vector<double> k = key(c, c.k, row, head);
  const int value_row = row * c.HV + head;
  const double given = c.beta[static_cast<size_t>(value_row)];
  const double beta = c.beta_sigmoid ? c.beta_factor * sigmoid_of(given) : given;
  std::vector<double> o;
  for (int j = 0; j < c.V; ++j) {
    double predicted = 0;
    for (int i = 0; i < c.K; ++i) {
      double& s = state[static_cast<size_t>(i * c.V + j)];
      s *= std::exp(log_decay_of(c, c.g[static_cast<size_t>(value_row * c.K + i)], head, i));
      predicted += s * k[static_cast<size_t>(i)];
    }
    const double delta = beta * (c.v[static_cast<size_t>(value_row * c.V + j)] - predicted);
    double sum = 0;
    for (int i = 0; i < c.K; ++i) {
      double& s = state[static_cast<size_t>(i * c.V + j)];
      s += k[static_cast<size_t>(i)] * delta;
      sum += s * q[static_cast<size_t>(i)];
    }
    o.push_back(c.scale * sum);
  }
  return o;
}

struct Result {
  std::vector<double> o;
  std::vector<double> pool;
};

size_t place(const Case& c, int64_t slot, int head, int i, int j) {
  return static_cast<size_t>((slot * c.HV + head) * c.K * c.V + (c.v_first ? j * c.K + i : i * c.V + j));
}

Result reference(const Case& c) {
  Result r{std::vector<double>(c.v.size(), 0.0), c.pool};
  for (int n = 0; n < c.N; ++n) {
    for (int head = 0; head < c.HV && c.first_slot[static_cast<size_t>(n)] >= 0; ++head) {
      std::vector<double> state(static_cast<size_t>(c.K * c.V));
      for (int i = 0; i < c.K * c.V; ++i) {
        state[static_cast<size_t>(i)] = c.pool[place(c, c.first_slot[static_cast<size_t>(n)], head, i / c.V, i % c.V)];
      }
      for (int t = 0; t < c.m; ++t) {
        const int row = n * c.m + t;
        const int64_t slot = c.slots[static_cast<size_t>(row)];
        if (slot < 0) {
          continue;
        }
        const std::vector<double> o = token(c, row, head, state);
        std::copy(o.begin(), o.end(), r.o.begin() + (row * c.HV + head) * c.V);
        for (int i = 0; i < c.K * c.V; ++i) {
          r.pool[place(c, slot, head, i / c.V, i % c.V)] = state[static_cast<size_t>(i)];
        }
      }
    }
  }
  return r;
}

template <class T>
std::vector<T> typed(const std::vector<double>& x) {
  std::vector<T> y;
  for (const double e : x) {
    y.push_back(T(static_cast<float>(e)));
  }
  return y;
}
template <class T>
std::vector<double> untyped(const std::vector<T>& x) {
  std::vector<double> y;
  for (const T e : x) {
    y.push_back(static_cast<float>(e));
  }
  return y;
}
/// Calls f with a value of the type.
template <class F>
auto with_type(DType dtype, F&& f) {
  return dtype == DType::bf16 ? f(BFloat16()) : dtype == DType::f16 ? f(Float16()) : f(float());
}
Source source(tile::host::Memory& memory, const std::string& name, const std::vector<double>& x, DType dtype) {
  if (x.empty()) {
    return {};
  }
  return with_type(dtype,
                   [&](auto t) { return Source{.data = memory.input(name, typed<decltype(t)>(x)), .dtype = dtype}; });
}

template <int K, int V, int slice, bool v_first, class T>
void start(const Case& c, const Params& p) {
  tile::run_warps<Decode<K, V, slice, v_first, T>>(Grid{int64_t{c.N} * c.HV * (V / slice)}, p);
}

/// The kernel with slices of V or V / 2 columns.
Result run(const Case& c, bool halves, Order order, uint32_t seed) {
  tile::host::Memory memory;
  Params p;
  p.q = source(memory, "q", c.q, c.dtype);
  p.k = source(memory, "k", c.k, c.dtype);
  p.v = source(memory, "v", c.v, c.dtype);
  p.g = source(memory, "g", c.g, c.dtype);
  p.beta = source(memory, "beta", c.beta, c.dtype);
  p.A_log = source(memory, "A_log", c.A_log, DType::f32);
  p.dt_bias = source(memory, "dt_bias", c.dt_bias, c.dtype);
  p.o = with_type(c.dtype, [&](auto t) -> void* { return memory.output<decltype(t)>("o", c.v.size()); });
  p.o_dtype = c.dtype;
  p.pool = with_type(c.pool_dtype, [&](auto t) -> void* { return memory.inout("pool", typed<decltype(t)>(c.pool)); });
  p.first_slot = memory.input("first_slot", c.first_slot);
  p.slots = memory.input("slots", c.slots);
  p.tokens = c.m;
  p.H = c.H;
  p.HV = c.HV;
  p.gate = c.gate;
  p.lower_bound = static_cast<float>(c.lower_bound);
  p.scale = static_cast<float>(c.scale);
  p.beta_factor = static_cast<float>(c.beta_factor);
  p.l2norm = c.l2norm;
  p.beta_sigmoid = c.beta_sigmoid;
  const tile::host::Run settings(order, seed, &memory);
  const auto sized = [&]<int K, int V>(std::integer_sequence<int, K, V>) {
    if (c.v_first) {
      halves ? start<K, V, V / 2, true, float>(c, p) : start<K, V, V, true, float>(c, p);
    } else if (c.pool_dtype == DType::bf16) {
      halves ? start<K, V, V / 2, false, BFloat16>(c, p) : start<K, V, V, false, BFloat16>(c, p);
    } else {
      halves ? start<K, V, V / 2, false, float>(c, p) : start<K, V, V, false, float>(c, p);
    }
  };
  if (c.K == 64) {
    c.V == 64 ? sized(std::integer_sequence<int, 64, 64>{}) : sized(std::integer_sequence<int, 64, 128>{});
  } else {
    c.V == 64 ? sized(std::integer_sequence<int, 128, 64>{}) : sized(std::integer_sequence<int, 128, 128>{});
  }
  memory.check_complete();
  Result r;
  with_type(c.dtype, [&](auto t) { r.o = untyped(memory.read(static_cast<decltype(t)*>(p.o))); });
  with_type(c.pool_dtype, [&](auto t) { r.pool = untyped(memory.read(static_cast<decltype(t)*>(p.pool))); });
  return r;
}

/// The greatest difference, relative to the greatest element.
double error(const std::vector<double>& x, const std::vector<double>& expected) {
  double difference = 0;
  double greatest = 1e-30;
  REQUIRE(x.size() == expected.size());
  for (size_t i = 0; i < x.size(); ++i) {
    difference = std::isnan(x[i]) ? 1e30 : std::max(difference, std::fabs(x[i] - expected[i]));
    greatest = std::max(greatest, std::fabs(expected[i]));
  }
  return difference / greatest;
}

double unit_of(DType dtype) { return dtype == DType::bf16 ? 1.0 / 256 : dtype == DType::f16 ? 1.0 / 2048 : 2e-6; }

void check_case(Case c, bool halves, uint32_t seed = 1, Order order = Order::round_robin) {
  fill(c, seed);
  const Result expected = reference(c);
  const Result r = run(c, halves, order, seed);
  CAPTURE(c.K);
  CAPTURE(c.V);
  CAPTURE(c.v_first);
  CAPTURE(static_cast<int>(c.gate));
  CHECK(error(r.o, expected.o) <= unit_of(c.dtype));
  CHECK(error(r.pool, expected.pool) <= unit_of(c.pool_dtype));
  for (int64_t slot = 0; slot < c.P; ++slot) {
    if (std::find(c.slots.begin(), c.slots.end(), slot) == c.slots.end()) {
      const auto begin = static_cast<std::ptrdiff_t>(place(c, slot, 0, 0, 0));
      const auto end = begin + c.HV * c.K * c.V;
      CHECK(std::equal(r.pool.begin() + begin, r.pool.begin() + end, c.pool.begin() + begin));
    }
  }
  for (size_t i = 0; i < r.o.size(); ++i) {
    if (c.slots[i / static_cast<size_t>(c.HV * c.V)] < 0) {
      CHECK((r.o[i] == 0.0 && !std::signbit(r.o[i])));
    }
  }
}

/// One token of two sequences, two value heads on one head of q and k.
Case one_token() {
  Case c;
  c.N = 2;
  c.H = 1;
  c.HV = 2;
  c.first_slot = {2, 0};
  c.slots = {2, 3};  // in place, and to another slot
  return c;
}

TEST_SUITE("cuda kda decode") {
  TEST_CASE("sizes, slices and layouts") {
    for (const int K : {64, 128}) {
      for (const int V : {64, 128}) {
        for (const bool v_first : {false, true}) {
          for (const bool halves : {false, true}) {
            Case c = one_token();
            c.K = K;
            c.V = V;
            c.v_first = v_first;
            check_case(c, halves);
          }
        }
      }
    }
  }

  TEST_CASE("gates, norm and sigmoid") {
    for (const Gate gate : {Gate::none, Gate::standard, Gate::lower_bound}) {
      for (const bool v_first : {false, true}) {
        Case c = one_token();
        c.gate = gate;
        c.v_first = v_first;
        c.scale = -0.5;
        check_case(c, false, 2);
        c.l2norm = true;
        c.beta_sigmoid = true;
        check_case(c, false, 3);
        c.beta_factor = 2.0;
        c.parameters = false;
        if (gate != Gate::standard) {
          check_case(c, false, 4);
        }
      }
    }
  }

  TEST_CASE("types of tensors and states") {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      Case c = one_token();
      c.dtype = dtype;
      c.gate = Gate::standard;
      check_case(c, false, 5);
      c.v_first = true;
      check_case(c, true, 6);
    }
    Case c = one_token();
    c.dtype = DType::bf16;
    c.pool_dtype = DType::bf16;
    check_case(c, false, 7);
  }

  TEST_CASE("several tokens, padding and skipped sequences, in every order of warps") {
    Case c;
    c.N = 4;
    c.m = 3;
    c.H = 2;
    c.HV = 2;
    c.P = 9;
    // From another slot; the first token padding; all of a sequence padding; the same slot again and again.
    c.first_slot = {8, 3, -1, 5};
    c.slots = {0, 1, 2, -1, 3, -7, 6, 6, 6, 5, 5, 5};
    c.gate = Gate::lower_bound;
    c.beta_sigmoid = true;
    c.l2norm = true;
    for (const bool v_first : {false, true}) {
      c.v_first = v_first;
      for (const Order order : {Order::round_robin, Order::reverse, Order::random}) {
        check_case(c, false, 8, order);
        check_case(c, true, 9, order);
      }
    }
  }

  TEST_CASE("everything is forgotten where the gate says so, and a token that is padding is not read") {
    Case c = one_token();
    fill(c, 10);
    std::fill(c.g.begin(), c.g.end(), -std::numeric_limits<double>::infinity());
    c.slots = {2, -1};
    for (size_t i = c.v.size() / 2; i < c.v.size(); ++i) {
      c.v[i] = std::nan("");
    }
    Result r = run(c, false, Order::round_robin, 0);
    std::vector<double> v = c.v;
    std::fill(v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end(), 0.0);
    const Result expected = reference(c);
    CHECK(error(r.o, expected.o) <= 2e-6);
    CHECK(error(r.pool, expected.pool) <= 2e-6);
  }
}

}  // namespace
}  // namespace deltatape::cuda::kda::decoding

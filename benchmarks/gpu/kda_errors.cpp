// How far the bf16 kernels of KDA on a device are from float64, on six kinds of gates and keys and with each gate in
// the kernels, beside what an emulation of their rounding points allows (tests/backends/cuda/kda/v1/rounding_limits.h).
// Exit code 1 when one is too far off, or when other kernels than v1 would run.
//
// Usage: gpu_kda_errors [--json FILE] [--tiny] [--device cpu|cuda]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "autograd/backward.h"
#include "core/error.h"
#include "core/generator.h"
#include "core/tensor.h"
#include "ops/convert.h"
#include "ops/kda/plan.h"
#include "ops/random.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace {

using namespace deltatape;
namespace v1 = deltatape::test::kda_v1;
using nlohmann::json;

constexpr std::array<const char*, 8> kNames{"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dh0"};

constexpr int kSize = 128;  // K and V

/// The inputs of one gate set for every head, in f64 on the host, as they are in bf16.
struct Case {
  kda::Inputs in;
  kda::Options options;
  Tensor d_o;
  Tensor d_ht;
};

// [1, T, heads, D] from one matrix [T, D] per head; [1, heads, D, E] where `states`.
Tensor stacked(const std::vector<v1::HeadInputs<double>>& heads, bool states,
               const std::function<const v1::Matrix<double>&(const v1::HeadInputs<double>&)>& of) {
  const auto count = static_cast<int64_t>(heads.size());
  const int64_t rows = of(heads[0]).rows;
  const int64_t columns = of(heads[0]).cols;
  std::vector<double> values(static_cast<size_t>(rows * count * columns));
  for (int64_t head = 0; head < count; ++head) {
    const auto& from = of(heads[static_cast<size_t>(head)]);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t to = (states ? head * rows + row : row * count + head) * columns;
      std::copy_n(from.x.begin() + row * columns, columns, values.begin() + to);
    }
  }
  return from_vector(values, states ? Shape{1, count, rows, columns} : Shape{1, rows, count, columns});
}

/// Given log decays of a set; T tokens.
Case draw(v1::GateSet set, int T, int H, int HV) {
  std::vector<v1::HeadInputs<double>> heads;
  for (int head = 0; head < HV; ++head) {
    heads.push_back(v1::draw_head(set, T, kSize, kSize, 100 + static_cast<uint64_t>(head)));
  }
  const std::vector<v1::HeadInputs<double>> shared(heads.begin(), heads.begin() + H);
  Case c;
  c.in.q = stacked(
      shared, false, [](const auto& head) -> const auto& { return head.q; });
  c.in.k = stacked(
      shared, false, [](const auto& head) -> const auto& { return head.k; });
  c.in.v = stacked(
      heads, false, [](const auto& head) -> const auto& { return head.v; });
  c.d_o = stacked(
      heads, false, [](const auto& head) -> const auto& { return head.d_o; });
  c.in.initial_state = stacked(
      heads, true, [](const auto& head) -> const auto& { return head.h0; });
  c.d_ht = stacked(
      heads, true, [](const auto& head) -> const auto& { return head.dht; });
  std::vector<double> g;
  std::vector<double> beta;
  for (int t = 0; t < T; ++t) {
    for (const auto& head : heads) {
      for (int x = 0; x < kSize; ++x) {
        g.push_back(static_cast<double>(v1::nearest_bf16(static_cast<float>(head.g(t, x) / 1.4426950408889634))));
      }
      beta.push_back(head.beta[static_cast<size_t>(t)]);
    }
  }
  c.in.g = from_vector(g, {1, T, HV, kSize});
  c.in.beta = from_vector(beta, {1, T, HV});
  c.options.output_final_state = true;
  return c;
}

/// The same numbers as q, k, v, upstream gradients and states; logits of the gate and of beta, which the kernels turn
/// into decays as `gate` says, with A_log and dt_bias, and q and k that they normalise.
Case draw(kda::Gate gate, int T, int H, int HV) {
  Case c = draw(v1::GateSet::mixed, T, H, HV);
  Generator generator(7);
  const auto stored = [](const Tensor& x) { return to(to(x, DType::bf16), DType::f64); };
  const TensorOptions f64{DType::f64, Device::cpu()};
  c.in.g = stored(randn({1, T, HV, kSize}, generator, f64));
  c.in.beta = stored(randn({1, T, HV}, generator, f64));
  c.in.q = stored(randn({1, T, H, kSize}, generator, f64));
  c.in.k = stored(randn({1, T, H, kSize}, generator, f64));
  c.in.A_log = to(to(randn({HV}, generator, f64), DType::f32), DType::f64);
  c.in.dt_bias = to(to(randn({HV * kSize}, generator, f64), DType::f32), DType::f64);
  c.options.gate = gate;
  c.options.use_qk_l2norm = c.options.use_beta_sigmoid = true;
  return c;
}

/// o, ht, dq, dk, dv, dg, dbeta, dh0 as f64 on the host.
std::vector<std::vector<double>> results(const Case& c, kda::Implementation implementation, Device device,
                                         DType dtype) {
  kda::Inputs in = c.in;
  std::vector<Tensor> leaves;
  for (Tensor* input : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.initial_state}) {
    const DType own = input == &in.initial_state && dtype == DType::bf16 ? DType::f32 : dtype;
    *input = to(to(*input, own), device).detach();
    input->set_requires_grad();
    leaves.push_back(*input);
  }
  for (Tensor* parameter : {&in.A_log, &in.dt_bias}) {
    if (parameter->defined()) {
      *parameter = to(to(*parameter, dtype == DType::f64 ? DType::f64 : DType::f32), device);
    }
  }
  const kda::Output out = kda::run(implementation, in, c.options);
  const std::vector<Tensor> upstream{to(to(c.d_o, dtype), device), to(to(c.d_ht, out.final_state.dtype()), device)};
  std::vector<Tensor> all{out.o, out.final_state};
  for (const Tensor& gradient : grad(std::vector{out.o, out.final_state}, leaves, upstream)) {
    all.push_back(gradient);
  }
  std::vector<std::vector<double>> values;
  for (const Tensor& tensor : all) {
    values.push_back(to(tensor.detach(), Device::cpu()).to_vector<double>());
  }
  return values;
}

std::array<double, 8> limits_of(v1::GateSet set) {
  const v1::RoundingErrors e = v1::emulated_errors(set);
  std::array<double, 8> limits{e.o, e.ht, e.dq, e.dk, e.dv, e.dg, e.dbeta, e.dh0};
  for (double& limit : limits) {
    limit *= v1::kRoundingAllowance;
  }
  return limits;
}

struct Shape1 {
  int T;
  int H;
  int HV;
};

/// One row of the table.
struct Row {
  std::string name;
  std::array<double, 8> limits;
  std::function<Case(const Shape1&)> draw;
};

std::vector<Row> rows_of_table() {
  std::vector<Row> rows;
  for (const v1::GateSet set : v1::kGateSets) {
    rows.push_back(
        {std::string(v1::name_of(set)), limits_of(set), [set](const Shape1& s) { return draw(set, s.T, s.H, s.HV); }});
  }
  // The emulation's q and k are bf16 as they come; here kernels normalise them, and round them then. As the tests of
  // v1's backward with norm and sigmoid do, these rows take the widest limits of the sets.
  std::array<double, 8> widest{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < widest.size(); ++i) {
      widest[i] = std::max(widest[i], row.limits[i]);
    }
  }
  const std::array<std::pair<const char*, kda::Gate>, 2> gates{
      {{"standard gate", kda::Gate::standard}, {"lower-bound gate", kda::Gate::lower_bound}}};
  for (const auto& entry : gates) {
    const kda::Gate gate = entry.second;
    rows.push_back({entry.first, widest, [gate](const Shape1& s) { return draw(gate, s.T, s.H, s.HV); }});
  }
  return rows;
}

/// What kda::plan says of a case in bf16.
std::string plan_text(const Case& c, const Shape1& s, Device device) {
  const kda::Shapes shapes{.T = s.T, .H = s.H, .HV = s.HV, .K = kSize, .V = kSize, .dtype = DType::bf16};
  return kda::plan(c.options, shapes, device).text;
}

int run(Device device, bool tiny, const std::string& json_file) {
  const std::vector<Shape1> shapes =
      tiny ? std::vector<Shape1>{{65, 1, 1}} : std::vector<Shape1>{{512, 2, 2}, {63, 2, 2}, {65, 1, 2}, {1000, 1, 2}};
  json rows = json::array();
  int too_far = 0;
  int compared = 0;
  fmt::print("| gates | T | H, HV | {} |\n|---|---|---|{}\n", fmt::join(kNames, " | "),
             "---|---|---|---|---|---|---|---|");
  for (const Row& table_row : rows_of_table()) {
    for (const Shape1& shape : shapes) {
      const Case c = table_row.draw(shape);
      const std::string plan = plan_text(c, shape, device);
      if (plan.find("forward v1, ") == std::string::npos || plan.find("; backward v1, ") == std::string::npos) {
        fmt::print(stderr, "gpu_kda_errors: the plan is '{}', expected v1 forward and backward\n", plan);
        return 1;
      }
      const auto mine = results(c, kda::Implementation::fused_chunk, device, DType::bf16);
      const auto exact = results(c, kda::Implementation::fused_recurrent, Device::cpu(), DType::f64);
      const auto& limits = table_row.limits;
      json row{{"gates", table_row.name}, {"T", shape.T}, {"H", shape.H}, {"HV", shape.HV}};
      std::string line;
      for (size_t i = 0; i < kNames.size(); ++i) {
        const double error = v1::relative_rms(mine[i], exact[i]);
        const bool good = error <= limits[i];
        too_far += good ? 0 : 1;
        ++compared;
        row[kNames[i]] = error;
        line += fmt::format(" {:.4f}{} |", error, good ? "" : " !");
      }
      fmt::print("| {} | {} | {}, {} |{}\n", table_row.name, shape.T, shape.H, shape.HV, line);
      rows.push_back(row);
    }
  }
  if (!json_file.empty()) {
    std::ofstream(json_file) << rows.dump(1);
  }
  fmt::print("{} of {} within 1.5 of the emulation's errors\n", compared - too_far, compared);
  return too_far == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  bool tiny = false;
  std::string json_file;
  std::string device = "cuda";
  const std::span<char*> arguments(argv + 1, static_cast<size_t>(argc - 1));
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string word = arguments[i];
    if (word == "--tiny") {
      tiny = true;
    } else if (word == "--json" && i + 1 < arguments.size()) {
      json_file = arguments[++i];
    } else if (word == "--device" && i + 1 < arguments.size()) {
      device = arguments[++i];
    } else {
      fmt::print(stderr, "gpu_kda_errors: unknown argument '{}'\n", word);
      return 2;
    }
  }
  try {
    return run(Device::parse("gpu_kda_errors", device), tiny, json_file);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}

// B3 on the host twin: its gradients from the model's states against the token recurrence.
#include "backends/cuda/kda/v1/backward_main.h"

#include <doctest/doctest.h>

#include "tests/backends/cuda/kda/v1/plain_call.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace deltatape::test::kda_v1 {
namespace {

using namespace cuda;  // the kernels
using cuda::kda::ChunkEntry;
using tile::host::Memory;

std::vector<BFloat16> stored(const std::vector<double>& x) {
  std::vector<BFloat16> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = tile::narrow<BFloat16>(static_cast<float>(x[i]));
  }
  return y;
}
std::vector<float> floats(const std::vector<double>& x) { return {x.begin(), x.end()}; }
std::vector<double> doubles(const std::vector<BFloat16>& x) {
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = static_cast<double>(tile::widen(x[i]));
  }
  return y;
}

struct MainResults {
  CallGradients got;  // without dh0
  std::vector<float> gate_sums, dq_parts, dk_parts;
};

/// Runs the kernel on what the model with bf16 roundings says about the states.
template <int C, int K, int V>
MainResults run_main(const CallShape& s, const CallTensors& x, bool parts = false) {
  std::vector<ChunkEntry> chunks;
  std::vector<int> first_chunk;
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    first_chunk.push_back(static_cast<int>(chunks.size()));
    for (int t = s.sequences[n].first; t < s.sequences[n].second; t += C) {
      chunks.push_back({t, std::min(C, s.sequences[n].second - t), static_cast<int32_t>(n)});
    }
  }
  const size_t records = chunks.size() * static_cast<size_t>(s.HV);
  std::vector<BFloat16> A(records * C * C);
  std::vector<BFloat16> h(records * V * K);
  std::vector<BFloat16> dS(records * V * K);
  std::vector<BFloat16> v_new(x.v.size());
  std::vector<BFloat16> dv2(x.v.size());
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    for (int head = 0; head < s.HV; ++head) {
      ModelOptions options;
      options.chunk = C;
      options.bf16 = true;
      const HeadInputs<float> in = converted<float>(head_of(s, x, static_cast<int>(n), head, true));
      const ChunkModel<float> model(in, options);
      for (size_t c = 0; c < model.chunks().size(); ++c) {
        const ChunkValues<float>& values = model.chunks()[c];
        const size_t record =
            (static_cast<size_t>(first_chunk[n]) + c) * static_cast<size_t>(s.HV) + static_cast<size_t>(head);
        for (int i = 0; i < C; ++i) {
          for (int j = 0; j < C; ++j) {
            const auto at = static_cast<size_t>(tile::Swizzled::index<BFloat16, C>(i, j));
            A[record * C * C + at] = tile::narrow<BFloat16>(values.A(i, j));
          }
        }
        const ChunkEntry& chunk = chunks[static_cast<size_t>(first_chunk[n]) + c];
        for (int i = 0; i < chunk.length; ++i) {
          for (int y = 0; y < V; ++y) {
            const size_t row = static_cast<size_t>(chunk.first_row + i) * static_cast<size_t>(s.HV) +
                               static_cast<size_t>(head);
            v_new[row * V + static_cast<size_t>(y)] = tile::narrow<BFloat16>(values.v_new(i, y));
            dv2[row * V + static_cast<size_t>(y)] = tile::narrow<BFloat16>(values.dv2(i, y));
          }
        }
        for (int y = 0; y < V; ++y) {
          for (int i = 0; i < K; ++i) {
            const size_t at = (record * V + static_cast<size_t>(y)) * K + static_cast<size_t>(i);
            h[at] = tile::narrow<BFloat16>(values.h(i, y));
            dS[at] = tile::narrow<BFloat16>(values.dS(i, y));
          }
        }
      }
    }
  }
  Memory memory;
  const tile::host::Run run(
      tile::host::Run::current() == nullptr ? tile::host::Order::round_robin : tile::host::Run::current()->order, 7,
      &memory);
  cuda::kda::v1::MainArguments p;
  p.chunks = memory.input("chunks", chunks);
  p.H = s.H;
  p.HV = s.HV;
  p.first_head = 0;
  p.heads = s.HV;
  p.q = memory.input("q", stored(x.q));
  p.k = memory.input("k", stored(x.k));
  p.v = memory.input("v", stored(x.v));
  p.g = memory.input("g", stored(x.g));
  p.beta = memory.input("beta", stored(x.beta));
  p.d_o = memory.input("d_o", stored(x.d_o));
  p.A_log = s.A_log ? memory.input("A_log", floats(x.A_log)) : nullptr;
  p.dt_bias = s.dt_bias ? memory.input("dt_bias", floats(x.dt_bias)) : nullptr;
  p.A = memory.input("A", A);
  p.A_heads = s.HV;
  p.h = memory.input("h", h);
  p.dS = memory.input("dS", dS);
  p.v_new = memory.input("v_new", v_new);
  p.dv2 = memory.input("dv2", dv2);
  p.scale = static_cast<float>(1.0 / std::sqrt(K));
  p.gate = s.gate;
  p.lower_bound = static_cast<float>(s.lower_bound);
  p.l2norm = s.l2norm;
  p.beta_sigmoid = s.beta_sigmoid;
  p.beta_factor = static_cast<float>(s.beta_factor);
  if (parts) {
    p.dq_parts = memory.output<float>("dq_parts", x.g.size());
    p.dk_parts = memory.output<float>("dk_parts", x.g.size());
  } else {
    p.dq = memory.output<BFloat16>("dq", x.q.size());
    p.dk = memory.output<BFloat16>("dk", x.k.size());
  }
  p.dv = memory.output<BFloat16>("dv", x.v.size());
  p.dg = memory.output<BFloat16>("dg", x.g.size());
  p.dbeta = memory.output<BFloat16>("dbeta", x.beta.size());
  p.gate_sums = memory.output<float>("gate_sums", records * 2 * K);
  tile::run_warps<cuda::kda::v1::BackwardMain<C, K, V>>(Grid{static_cast<int>(records)}, p);
  memory.check_complete();
  MainResults r;
  if (parts) {
    r.dq_parts = memory.read(p.dq_parts);
    r.dk_parts = memory.read(p.dk_parts);
  } else {
    r.got.dq = doubles(memory.read(p.dq));
    r.got.dk = doubles(memory.read(p.dk));
  }
  r.got.dv = doubles(memory.read(p.dv));
  r.got.dg = doubles(memory.read(p.dg));
  r.got.dbeta = doubles(memory.read(p.dbeta));
  r.gate_sums = memory.read(p.gate_sums);
  r.got.ddt_bias.resize(static_cast<size_t>(s.HV) * K);
  r.got.dA_log.resize(static_cast<size_t>(s.HV));
  for (size_t i = 0; i < records; ++i) {
    const size_t head = i % static_cast<size_t>(s.HV);
    for (size_t c = 0; c < K; ++c) {
      r.got.ddt_bias[head * K + c] += static_cast<double>(r.gate_sums[(2 * i) * K + c]);
      r.got.dA_log[head] += static_cast<double>(r.gate_sums[(2 * i + 1) * K + c]);
    }
  }
  return r;
}

TEST_CASE("host_exec kda v1: B3 first light") {
  for (const GateSet set : kGateSets) {
    CallShape s;
    s.rows = 130;
    s.K = s.V = 128;
    s.sequences = {{0, 130}};
    s.h0 = s.dht = true;
    const CallTensors x = draw_call(s, set, 5);
    const CallGradients expected = plain_gradients(s, x);
    const MainResults r = run_main<64, 128, 128>(s, x);
    MESSAGE(name_of(set), " dq ", relative_rms(r.got.dq, expected.dq), " dk ", relative_rms(r.got.dk, expected.dk),
            " dv ", relative_rms(r.got.dv, expected.dv), " dg ", relative_rms(r.got.dg, expected.dg), " dbeta ",
            relative_rms(r.got.dbeta, expected.dbeta));
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

// The kernels of v1's backward on the host twin, with every access to global memory checked: B3 from the model's
// states, and all of them one after the other.
#include "backends/cuda/kda/v1/backward_main.h"

#include <doctest/doctest.h>

#include "backends/cuda/kda/v1/backward_finish.h"
#include "backends/cuda/kda/v1/prep.h"
#include "backends/cuda/kda/v1/reverse_scan.h"
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
template <int C, int K, int V, bool same_factors = true>
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
            const size_t row =
                static_cast<size_t>(chunk.first_row + i) * static_cast<size_t>(s.HV) + static_cast<size_t>(head);
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
  tile::run_warps<cuda::kda::v1::BackwardMain<C, K, V, same_factors>>(Grid{static_cast<int>(records)}, p);
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

/// B1 to B4, every buffer with its bounds. The scans have `warps` warps.
template <int C, int K, int V>
CallGradients run_all(const CallShape& s, const CallTensors& x, int warps, Memory& memory) {
  namespace v1 = cuda::kda::v1;
  std::vector<ChunkEntry> chunks;
  std::vector<cuda::kda::SequenceEntry> sequences;
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    const auto number = static_cast<int64_t>(n);
    const auto [begin, end] = s.sequences[n];
    sequences.push_back(
        {begin, end - begin, s.h0 ? number : -1, s.dht ? number : -1, static_cast<int64_t>(chunks.size()), 0, 0});
    for (int t = begin; t < end; t += C) {
      chunks.push_back({t, std::min(C, end - t), static_cast<int32_t>(n)});
    }
  }
  const size_t records = chunks.size() * static_cast<size_t>(s.HV);
  const size_t states = sequences.size() * static_cast<size_t>(s.HV) * K * V;
  v1::PrepArguments prep;
  prep.q = memory.input("q", stored(x.q));
  prep.k = memory.input("k", stored(x.k));
  prep.g = memory.input("g", stored(x.g));
  prep.beta = memory.input("beta", stored(x.beta));
  prep.A_log = s.A_log ? memory.input("A_log", floats(x.A_log)) : nullptr;
  prep.dt_bias = s.dt_bias ? memory.input("dt_bias", floats(x.dt_bias)) : nullptr;
  prep.gate = s.gate;
  prep.lower_bound = static_cast<float>(s.lower_bound);
  prep.l2norm = s.l2norm;
  prep.beta_sigmoid = s.beta_sigmoid;
  prep.beta_factor = static_cast<float>(s.beta_factor);
  prep.scale = static_cast<float>(1.0 / std::sqrt(K));
  prep.H = s.H;
  prep.HV = prep.heads = prep.A_heads = s.HV;
  prep.chunks = memory.input("chunks", chunks);
  prep.records = memory.output<unsigned char>("records", records * v1::Record<C, K>::kBytes);
  prep.A = memory.output<BFloat16>("A", records * C * C);
  const Grid blocks{static_cast<int>(records)};
  tile::run_warps<v1::Prep<v1::PrepShape<C, K, false, true>>>(blocks, prep);

  v1::BothScansArguments scans;
  scans.forward.records = scans.reverse.records = prep.records;
  scans.forward.A = prep.A;
  scans.forward.A_heads = s.HV;
  scans.forward.v = memory.input("v", stored(x.v));
  scans.forward.sequences = scans.reverse.sequences = memory.input("sequences", sequences);
  scans.forward.initial_state = s.h0 ? memory.input("h0", floats(x.h0)) : nullptr;
  scans.forward.h_bf16 = memory.output<BFloat16>("h", records * V * K);
  scans.forward.v_new = memory.output<BFloat16>("v_new", x.v.size());
  scans.forward.HV = scans.forward.heads = scans.reverse.HV = scans.reverse.heads = s.HV;
  scans.forward.V = scans.reverse.V = V;
  scans.forward.slices = scans.reverse.slices = V / 16 / warps;
  scans.reverse.d_o = memory.input("d_o", stored(x.d_o));
  scans.reverse.d_final_state = s.dht ? memory.input("dht", floats(x.dht)) : nullptr;
  scans.reverse.d_initial_state = s.h0 ? memory.output<float>("dh0", states) : nullptr;
  scans.reverse.dS = memory.output<BFloat16>("dS", records * V * K);
  scans.reverse.dv2 = memory.output<BFloat16>("dv2", x.v.size());
  scans.forward_blocks = static_cast<int>(sequences.size()) * s.HV * scans.forward.slices;
  const int shared = 2 * v1::ScanShape<C, K, true>::stage_bytes(warps);
  tile::run_warps<v1::BothScans<C, K>>(tile::WarpLaunch{Grid{2 * scans.forward_blocks}, warps, shared}, scans);

  v1::MainArguments p;
  p.chunks = prep.chunks;
  p.H = s.H;
  p.HV = p.heads = p.A_heads = s.HV;
  p.q = prep.q;
  p.k = prep.k;
  p.v = scans.forward.v;
  p.g = static_cast<const BFloat16*>(prep.g);
  p.beta = static_cast<const BFloat16*>(prep.beta);
  p.d_o = scans.reverse.d_o;
  p.A_log = prep.A_log;
  p.dt_bias = prep.dt_bias;
  p.A = prep.A;
  p.h = scans.forward.h_bf16;
  p.dS = scans.reverse.dS;
  p.v_new = scans.forward.v_new;
  p.dv2 = scans.reverse.dv2;
  p.scale = prep.scale;
  p.gate = s.gate;
  p.lower_bound = prep.lower_bound;
  p.l2norm = s.l2norm;
  p.beta_sigmoid = s.beta_sigmoid;
  p.beta_factor = prep.beta_factor;
  auto* const dq = memory.output<BFloat16>("dq", x.q.size());
  auto* const dk = memory.output<BFloat16>("dk", x.k.size());
  if (s.HV > s.H) {
    p.dq_parts = memory.output<float>("dq_parts", x.g.size());
    p.dk_parts = memory.output<float>("dk_parts", x.g.size());
  } else {
    p.dq = dq;
    p.dk = dk;
  }
  p.dv = memory.output<BFloat16>("dv", x.v.size());
  p.dg = memory.output<BFloat16>("dg", x.g.size());
  p.dbeta = memory.output<BFloat16>("dbeta", x.beta.size());
  p.gate_sums = memory.output<float>("gate_sums", records * 2 * K);
  tile::run_warps<v1::BackwardMain<C, K, V>>(blocks, p);

  v1::GateSumArguments gate;
  gate.shares = p.gate_sums;
  gate.dA_log = memory.output<float>("dA_log", static_cast<size_t>(s.HV));
  gate.ddt_bias = memory.output<float>("ddt_bias", static_cast<size_t>(s.HV) * K);
  gate.chunks = static_cast<int64_t>(chunks.size());
  gate.K = K;
  gate.heads = s.HV;
  tile::run_warps<v1::GateSums>(Grid{s.HV}, gate);
  if (s.HV > s.H) {
    v1::HeadSumArguments sums;
    sums.rows = s.rows;
    sums.H = s.H;
    sums.heads = s.HV;
    sums.group = s.HV / s.H;
    sums.l2norm = s.l2norm;
    const Grid grid{(s.rows * s.H + 7) / 8};
    sums.parts = p.dq_parts;
    sums.x = prep.q;
    sums.dx = dq;
    tile::run_warps<v1::HeadSums<K>>(grid, sums);
    sums.parts = p.dk_parts;
    sums.x = prep.k;
    sums.dx = dk;
    tile::run_warps<v1::HeadSums<K>>(grid, sums);
  }
  memory.check_complete();
  CallGradients got;
  got.dq = doubles(memory.read(dq));
  got.dk = doubles(memory.read(dk));
  got.dv = doubles(memory.read(p.dv));
  got.dg = doubles(memory.read(p.dg));
  got.dbeta = doubles(memory.read(p.dbeta));
  const auto of_floats = [&](const float* from) {
    const std::vector<float> y = memory.read(from);
    return std::vector<double>(y.begin(), y.end());
  };
  got.dA_log = of_floats(gate.dA_log);
  got.ddt_bias = of_floats(gate.ddt_bias);
  if (s.h0) {
    got.dh0 = of_floats(scans.reverse.d_initial_state);
  }
  return got;
}

struct Errors {
  double dq, dk, dv, dg, dbeta;
};
Errors errors_of(const CallGradients& a, const CallGradients& b) {
  return {relative_rms(a.dq, b.dq), relative_rms(a.dk, b.dk), relative_rms(a.dv, b.dv), relative_rms(a.dg, b.dg),
          relative_rms(a.dbeta, b.dbeta)};
}
void check_errors(const Errors& e, const RoundingErrors& limits) {
  CHECK(e.dq <= kRoundingAllowance * limits.dq);
  CHECK(e.dk <= kRoundingAllowance * limits.dk);
  CHECK(e.dv <= kRoundingAllowance * limits.dv);
  CHECK(e.dg <= kRoundingAllowance * limits.dg);
  CHECK(e.dbeta <= kRoundingAllowance * limits.dbeta);
}

TEST_CASE("kda v1 backward kernels: B3 from the model's states [slow]") {
  for (const GateSet set : kGateSets) {
    CallShape s;
    s.rows = 512;
    s.K = s.V = 128;
    s.sequences = {{0, 512}};
    const CallTensors x = draw_call(s, set, 11);
    const CallGradients expected = plain_gradients(s, x);
    const Errors e = errors_of(run_main<64, 128, 128>(s, x).got, expected);
    CAPTURE(name_of(set));
    MESSAGE(name_of(set), ": dq ", e.dq, " dk ", e.dk, " dv ", e.dv, " dg ", e.dg, " dbeta ", e.dbeta);
    check_errors(e, emulated_errors(set));
  }
}

TEST_CASE("kda v1 backward kernels: without the same rounded factors on both sides dg of steep gates is lost") {
  CallShape s;
  s.rows = 256;
  s.K = s.V = 64;
  s.sequences = {{0, 256}};
  const CallTensors x = draw_call(s, GateSet::steep, 11);
  const CallGradients expected = plain_gradients(s, x);
  const double limit = kRoundingAllowance * emulated_errors(GateSet::steep).dg;
  CHECK(relative_rms(run_main<64, 64, 64>(s, x).got.dg, expected.dg) <= limit);
  CHECK(relative_rms(run_main<64, 64, 64, false>(s, x).got.dg, expected.dg) > limit);
}

/// What B3 leaves for B4, from the token recurrence: dq and dk of each value head before the norm, and the gate's
/// gradients of each chunk.
struct Parts {
  std::vector<double> dq, dk, gate_sums;
};
Parts plain_parts(const CallShape& s, const CallTensors& x, int C) {
  Parts parts;
  parts.dq.resize(x.g.size());
  parts.dk.resize(x.g.size());
  size_t chunk = 0;
  const auto heads = static_cast<size_t>(s.HV);
  const auto K = static_cast<size_t>(s.K);
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    const auto [begin, end] = s.sequences[n];
    const auto chunks = static_cast<size_t>((end - begin + C - 1) / C);
    parts.gate_sums.resize((chunk + chunks) * heads * 2 * K);
    for (size_t head = 0; head < heads; ++head) {
      const HeadInputs<double> in = head_of(s, x, static_cast<int>(n), static_cast<int>(head), false);
      const HeadGradients<double> out = token_recurrence(in);
      const double a = s.A_log ? std::exp(x.A_log[head]) : 1.0;
      for (int t = 0; t < end - begin; ++t) {
        const size_t row = static_cast<size_t>(begin + t) * heads + head;
        double* const of_bias = &parts.gate_sums[((chunk + static_cast<size_t>(t / C)) * heads + head) * 2 * K];
        for (size_t c = 0; c < K; ++c) {
          const auto i = static_cast<int>(c);
          parts.dq[row * K + c] = out.dq(t, i);
          parts.dk[row * K + c] = out.dk(t, i);
          const double dy = out.dg(t, i);
          const double z = x.g[row * K + c] + (s.dt_bias ? x.dt_bias[head * K + c] : 0.0);
          const double sigmoid = 1.0 / (1.0 + std::exp(s.gate == deltatape::kda::Gate::standard ? -z : -a * z));
          if (s.gate == deltatape::kda::Gate::standard) {
            of_bias[c] -= dy * a * sigmoid;
            of_bias[K + c] += dy * in.g(t, i) / 1.4426950408889634;
          } else {
            const double dx = dy * s.lower_bound * a * sigmoid * (1.0 - sigmoid);
            of_bias[c] += dx;
            of_bias[K + c] += dx * z;
          }
        }
      }
    }
    chunk += chunks;
  }
  return parts;
}

TEST_CASE("kda v1 backward kernels: what B3 leaves for B4, head by head and chunk by chunk") {
  for (const int which : {0, 1, 2}) {
    CallShape s;
    s.rows = 230;
    s.sequences = {{0, 130}, {130, 131}, {131, 230}};
    s.H = 1;
    s.HV = 2;
    s.K = which == 2 ? 128 : 64;
    s.gate = which == 1 ? deltatape::kda::Gate::standard : deltatape::kda::Gate::lower_bound;
    s.A_log = s.dt_bias = which != 2;
    s.l2norm = which == 1;
    s.h0 = s.dht = true;
    const CallTensors x = draw_call(s, GateSet::mixed, 6);
    const MainResults got = which == 0   ? run_main<64, 64, 64>(s, x, true)
                            : which == 1 ? run_main<32, 64, 64>(s, x, true)
                                         : run_main<64, 128, 64>(s, x, true);
    const Parts expected = plain_parts(s, x, which == 1 ? 32 : 64);
    const RoundingErrors limits = emulated_errors(GateSet::mixed);
    CAPTURE(which);
    INFO("dq ", relative_rms(got.dq_parts, expected.dq), " dk ", relative_rms(got.dk_parts, expected.dk), " gate ",
         relative_rms(got.gate_sums, expected.gate_sums));
    REQUIRE(got.gate_sums.size() == expected.gate_sums.size());
    CHECK(relative_rms(got.dq_parts, expected.dq) <= kRoundingAllowance * limits.dq);
    CHECK(relative_rms(got.dk_parts, expected.dk) <= kRoundingAllowance * limits.dk);
    CHECK(relative_rms(got.gate_sums, expected.gate_sums) <= kRoundingAllowance * limits.dg);
  }
}

TEST_CASE("kda v1 backward kernels: B1 to B4, each write where it belongs and once") {
  for (const int which : {0, 1, 2}) {
    CallShape s;
    s.rows = 140;
    s.sequences = {{0, 70}, {70, 70}, {70, 71}, {71, 140}};
    s.H = 1;
    s.HV = which == 0 ? 1 : 2;
    s.l2norm = which > 0;
    s.h0 = s.dht = true;
    s.gate = which == 0   ? deltatape::kda::Gate::none
             : which == 1 ? deltatape::kda::Gate::standard
                          : deltatape::kda::Gate::lower_bound;
    s.A_log = s.dt_bias = which > 0;
    s.beta_sigmoid = which == 2;
    Memory memory;
    const tile::host::Run run(tile::host::Order::random, 5, &memory);
    const CallTensors x = draw_call(s, GateSet::mixed, 4);
    const CallGradients expected = plain_gradients(s, x);
    const CallGradients got = which == 1 ? run_all<32, 64, 64>(s, x, 2, memory) : run_all<64, 64, 64>(s, x, 4, memory);
    const Errors e = errors_of(got, expected);
    MESSAGE("dq ", e.dq, " dk ", e.dk, " dv ", e.dv, " dg ", e.dg, " dbeta ", e.dbeta, " dh0 ",
            relative_rms(got.dh0, expected.dh0), " dA_log ", relative_rms(got.dA_log, expected.dA_log), " ddt_bias ",
            relative_rms(got.ddt_bias, expected.ddt_bias));
    check_errors(e, {.0070, .0067, .0070, .0070, .0070, .0067, .0138, .0067});
    CHECK(relative_rms(got.dh0, expected.dh0) <= kRoundingAllowance * .0067);
    if (which > 0) {
      CHECK(relative_rms(got.dA_log, expected.dA_log) <= kRoundingAllowance * .0067);
      CHECK(relative_rms(got.ddt_bias, expected.ddt_bias) <= kRoundingAllowance * .0067);
    }
  }
}

}  // namespace
}  // namespace deltatape::test::kda_v1

#include "tests/backends/cuda/kda/v1/forward_case.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/record.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::test::kda_v1 {
namespace {

using cuda::kda::Gate;

/// Small sizes are int here; a product of them is an index.
size_t as_index(int i) { return static_cast<size_t>(i); }

double rounded(double x) { return static_cast<double>(nearest_bf16(static_cast<float>(x))); }

std::vector<BFloat16> as_bf16(const std::vector<float>& x) {
  std::vector<BFloat16> y;
  y.reserve(x.size());
  for (const float value : x) {
    y.emplace_back(value);
  }
  return y;
}

/// What a tensor holds of head `head` of `heads`, row after row.
template <class T>
std::vector<double> part_of(const std::vector<T>& x, int first_row, int rows, int heads, int head, int cols) {
  std::vector<double> y;
  for (int r = first_row; r < first_row + rows; ++r) {
    for (int c = 0; c < cols; ++c) {
      y.push_back(static_cast<double>(static_cast<float>(x[as_index((r * heads + head) * cols + c)])));
    }
  }
  return y;
}

/// Sums for a relative root mean square over several tensors.
struct Rms {
  double error = 0;
  double size = 0;
  template <class A>
  void add(const std::vector<A>& a, const std::vector<double>& b) {
    for (size_t i = 0; i < b.size(); ++i) {
      const double d = static_cast<double>(a[i]) - b[i];
      error += d * d;
      size += b[i] * b[i];
    }
  }
  [[nodiscard]] double value() const { return error == 0 ? 0.0 : std::sqrt(error / size); }
};

/// The largest error relative to each element. What lies below the range of f32 may be zero.
double largest_relative(double so_far, double x, double expected) {
  constexpr double kSmallest = 1e-33;
  const double error = std::abs(x - expected) / std::max(std::abs(expected), kSmallest);
  return error <= so_far ? so_far : error;  // NaN wins
}

}  // namespace

double image_element(const BFloat16* image, int cols, int row, int col) {
  // Swizzled<cols>, written out: chunks of 8 of a row change places with the row's number in its group of 8.
  const int chunk = cols >= 64 ? (col / 8) ^ (row % 8) : (col / 8) ^ (row / 2 % 4);
  return static_cast<double>(static_cast<float>(image[row * cols + chunk * 8 + col % 8]));
}

ForwardCase::ForwardCase(const ForwardOptions& options) : options_(options) {
  int chunk = 0;
  for (int n = 0; n < sequences(); ++n) {
    const int length = options_.lengths[static_cast<size_t>(n)];
    first_rows_.push_back(rows_);
    sequence_table_.push_back({.first_row = rows_,
                               .length = length,
                               .state_in = options_.states ? n : -1,
                               .state_out = n,
                               .first_chunk = chunk,
                               .first_h = chunk,
                               .first_checkpoint = 0});
    for (int first = 0; first < length; first += options_.C) {
      chunk_table_.push_back({rows_ + first, std::min(options_.C, length - first), n});
      ++chunk;
    }
    rows_ += length;
  }
  draw();
  make_buffers();
}

void ForwardCase::draw() {
  const auto& p = options_;
  const auto size = [&](int heads, int cols) { return as_index(rows_ * heads * cols); };
  q_.resize(size(p.H, p.K));
  k_.resize(size(p.H, p.K));
  v_.resize(size(p.HV, p.V));
  d_o_.resize(v_.size());
  g_.resize(size(p.HV, p.K));
  beta_.resize(size(p.HV, 1));
  A_log_.resize(static_cast<size_t>(p.HV));
  dt_bias_.resize(as_index(p.HV * p.K));
  h0_.resize(as_index(sequences() * p.HV * p.K * p.V));
  dht_.resize(h0_.size());
  std::mt19937_64 random(p.seed);
  std::normal_distribution<double> normal;
  for (float& x : A_log_) {
    x = static_cast<float>(0.5 * normal(random));
  }
  for (float& x : dt_bias_) {
    x = static_cast<float>(normal(random));
  }
  const double ln2 = std::log(2.0);
  for (int n = 0; n < sequences(); ++n) {
    const int T = p.lengths[static_cast<size_t>(n)];
    for (int hv = 0; hv < p.HV; ++hv) {
      HeadInputs<double> in = draw_head(p.set, T, p.K, p.V, p.seed + static_cast<uint64_t>(100 * n + hv), p.states);
      const int key_head = hv / (p.HV / p.H);
      if (key_head * (p.HV / p.H) != hv) {
        in.q = heads_.back().q;
        in.k = heads_.back().k;
      }
      const double a = p.A_log ? std::exp(static_cast<double>(A_log_[static_cast<size_t>(hv)])) : 1.0;
      for (int t = 0; t < T; ++t) {
        const int row = first_rows_[static_cast<size_t>(n)] + t;
        for (int x = 0; x < p.K; ++x) {
          const auto of_key = as_index((row * p.H + key_head) * p.K + x);
          if (p.l2norm && key_head * (p.HV / p.H) == hv) {
            q_[of_key] = nearest_bf16(static_cast<float>(3 * normal(random)));
            k_[of_key] = nearest_bf16(static_cast<float>(2 * normal(random)));
          } else if (!p.l2norm) {
            q_[of_key] = static_cast<float>(in.q(t, x));
            k_[of_key] = static_cast<float>(in.k(t, x));
          }
          double raw = rounded(in.g(t, x) * ln2);
          double log_decay = raw;
          if (p.gate != Gate::none) {
            raw = p.g_f32 ? static_cast<double>(static_cast<float>(2 * normal(random))) : rounded(2 * normal(random));
            const double bias = p.dt_bias ? static_cast<double>(dt_bias_[as_index(hv * p.K + x)]) : 0.0;
            const double z = raw + bias;
            log_decay = p.gate == Gate::standard ? -a * (std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))))
                                                 : p.lower_bound / (1 + std::exp(-a * z));
          }
          g_[as_index((row * p.HV + hv) * p.K + x)] = static_cast<float>(raw);
          in.g(t, x) = log_decay / ln2;
        }
        if (p.l2norm) {
          double qq = 1e-6;
          double kk = 1e-6;
          const auto first = as_index((row * p.H + key_head) * p.K);
          for (size_t x = 0; x < static_cast<size_t>(p.K); ++x) {
            qq += static_cast<double>(q_[first + x]) * static_cast<double>(q_[first + x]);
            kk += static_cast<double>(k_[first + x]) * static_cast<double>(k_[first + x]);
          }
          for (int x = 0; x < p.K; ++x) {
            in.q(t, x) = static_cast<double>(q_[first + static_cast<size_t>(x)]) / std::sqrt(qq);
            in.k(t, x) = static_cast<double>(k_[first + static_cast<size_t>(x)]) / std::sqrt(kk);
          }
        }
        double& beta = in.beta[static_cast<size_t>(t)];
        double raw_beta = beta;
        if (p.beta_sigmoid) {
          raw_beta = rounded(normal(random));
          beta = p.beta_factor / (1 + std::exp(-raw_beta));
        }
        beta_[as_index(row * p.HV + hv)] = static_cast<float>(raw_beta);
        for (int x = 0; x < p.V; ++x) {
          v_[as_index((row * p.HV + hv) * p.V + x)] = static_cast<float>(in.v(t, x));
          d_o_[as_index((row * p.HV + hv) * p.V + x)] = static_cast<float>(in.d_o(t, x));
        }
      }
      for (int x = 0; x < p.K && p.states; ++x) {
        for (int y = 0; y < p.V; ++y) {
          const int at = p.v_first ? y * p.K + x : x * p.V + y;
          h0_[as_index((n * p.HV + hv) * p.K * p.V + at)] = static_cast<float>(in.h0(x, y));
          dht_[as_index((n * p.HV + hv) * p.K * p.V + at)] = static_cast<float>(in.dht(x, y));
        }
      }
      heads_.push_back(std::move(in));
    }
  }
  // As on the device: longest first.
  std::stable_sort(sequence_table_.begin(), sequence_table_.end(),
                   [](const auto& a, const auto& b) { return a.length > b.length; });
}

void ForwardCase::make_buffers() {
  const auto& p = options_;
  prep.q = memory.input("q", as_bf16(q_));
  prep.k = memory.input("k", as_bf16(k_));
  prep.g_f32 = p.g_f32;
  prep.beta_f32 = p.beta_f32;
  prep.g = p.g_f32 ? static_cast<const void*>(memory.input("g", g_)) : memory.input("g", as_bf16(g_));
  prep.beta = p.beta_f32 ? static_cast<const void*>(memory.input("beta", beta_)) : memory.input("beta", as_bf16(beta_));
  if (p.gate != Gate::none) {
    prep.A_log = p.A_log ? memory.input("A_log", A_log_) : nullptr;
    prep.dt_bias = p.dt_bias ? memory.input("dt_bias", dt_bias_) : nullptr;
  }
  prep.gate = p.gate;
  prep.lower_bound = static_cast<float>(p.lower_bound);
  prep.l2norm = p.l2norm;
  prep.beta_sigmoid = p.beta_sigmoid;
  prep.beta_factor = static_cast<float>(p.beta_factor);
  prep.scale = static_cast<float>(1.0 / std::sqrt(p.K));
  prep.H = p.H;
  prep.HV = prep.heads = prep.A_heads = p.HV;
  prep.chunks = chunk_table_.data();
  const auto pairs = as_index(chunks() * p.HV);
  records_out_ =
      memory.output<unsigned char>("records", pairs * static_cast<size_t>(cuda::kda::v1::record_bytes(p.C, p.K)));
  A_out_ = memory.output<BFloat16>("A", pairs * static_cast<size_t>(p.C * p.C));
  prep.records = records_out_;
  prep.A = A_out_;
  scan.records = records_out_;
  scan.A = A_out_;
  scan.A_heads = scan.heads = scan.HV = p.HV;
  scan.v = memory.input("v", as_bf16(v_));
  scan.sequences = sequence_table_.data();
  scan.initial_state = p.states ? memory.input("h0", h0_) : nullptr;
  scan.V = p.V;
  scan.slices = p.V / 16 / p.warps;
  scan.stages = p.stages;
  scan.v_first = p.v_first;
}

void ForwardCase::run_prep(bool solve) {
  const cuda::kda::v1::PrepKind kind{.C = options_.C, .K = options_.K, .centred = options_.centred, .solve = solve};
  options_.kernels.prep(cuda::current_stream(Device::cuda()), kind, prep, chunks());
  records = memory.read(prep.records);
  A = memory.read(prep.A);
}

void ForwardCase::run_scan() {
  const auto& p = options_;
  const auto states = as_index(p.HV * p.K * p.V);
  scan.o = memory.output<BFloat16>("o", v_.size());
  scan.final_state = memory.output<float>("ht", static_cast<size_t>(sequences()) * states);
  scan.h = memory.output<float>("h", static_cast<size_t>(chunks()) * states);
  const cuda::kda::v1::ScanKind kind{.C = p.C, .K = p.K, .for_backward = false, .warps = p.warps};
  options_.kernels.scan(cuda::current_stream(Device::cuda()), kind, scan, sequences());
  o = memory.read(scan.o);
  ht = memory.read(scan.final_state);
  h = memory.read(scan.h);
}

void ForwardCase::run_scan_for_backward() {
  const auto& p = options_;
  cuda::kda::v1::ScanArguments arguments = scan;
  arguments.o = nullptr;
  arguments.h = nullptr;
  arguments.final_state = nullptr;
  arguments.h_bf16 = memory.output<BFloat16>("h_bf16", as_index(chunks() * p.HV * p.K * p.V));
  arguments.v_new = memory.output<BFloat16>("v_new", v_.size());
  const cuda::kda::v1::ScanKind kind{.C = p.C, .K = p.K, .for_backward = true, .warps = p.warps};
  options_.kernels.scan(cuda::current_stream(Device::cuda()), kind, arguments, sequences());
  h_bf16 = memory.read(arguments.h_bf16);
  v_new = memory.read(arguments.v_new);
}

void ForwardCase::run_both_scans() {
  const auto& p = options_;
  const auto states = as_index(chunks() * p.HV * p.K * p.V);
  cuda::kda::v1::BothScansArguments scans;
  scans.forward = scan;
  scans.forward.h_bf16 = memory.output<BFloat16>("h_bf16", states);
  scans.forward.v_new = memory.output<BFloat16>("v_new", v_.size());
  scans.reverse.records = scan.records;
  scans.reverse.d_o = memory.input("d_o", as_bf16(d_o_));
  scans.reverse.sequences = scan.sequences;
  scans.reverse.HV = scans.reverse.heads = p.HV;
  scans.reverse.V = p.V;
  scans.reverse.slices = scan.slices;
  scans.reverse.stages = p.stages;
  scans.reverse.v_first = p.v_first;
  scans.reverse.dS = memory.output<BFloat16>("dS", states);
  scans.reverse.dv2 = memory.output<BFloat16>("dv2", v_.size());
  if (p.states) {
    scans.reverse.d_final_state = memory.input("dht", dht_);
    scans.reverse.d_initial_state = memory.output<float>("dh0", dht_.size());
  }
  p.both_scans(cuda::current_stream(Device::cuda()), p.C, p.K, p.warps, scans, int64_t{sequences()} * p.HV);
  h_bf16 = memory.read(scans.forward.h_bf16);
  v_new = memory.read(scans.forward.v_new);
  dS = memory.read(scans.reverse.dS);
  dv2 = memory.read(scans.reverse.dv2);
  if (p.states) {
    dh0 = memory.read(scans.reverse.d_initial_state);
  }
}

ForwardCase::PrepErrors ForwardCase::prep_errors() const {
  const auto& p = options_;
  PrepErrors e;
  const auto of_record = static_cast<size_t>(cuda::kda::v1::record_bytes(p.C, p.K));
  const int matrix = p.C * p.K * 2;
  for (int c = 0; c < chunks(); ++c) {
    const cuda::kda::ChunkEntry& chunk = chunk_table_[static_cast<size_t>(c)];
    const int first = static_cast<int>(chunk.first_row) - first_rows_[static_cast<size_t>(chunk.sequence)];
    for (int hv = 0; hv < p.HV; ++hv) {
      const HeadInputs<double>& in = head(chunk.sequence, hv);
      const ChunkOperands expected = chunk_operands(in, first, chunk.length, p.C);
      const size_t pair = as_index(c * p.HV + hv);
      const unsigned char* const record = records.data() + pair * of_record;
      const auto matrix_at = [&](int offset) { return reinterpret_cast<const BFloat16*>(record + offset); };
      const BFloat16* const A_image = A.data() + pair * static_cast<size_t>(p.C * p.C);
      std::vector<double> w;
      std::vector<double> Aqk;
      std::vector<double> solved;
      for (int i = 0; i < p.C; ++i) {
        for (int x = 0; x < p.K; ++x) {
          w.push_back(-image_element(matrix_at(0), p.K, i, x));
          const double kg = image_element(matrix_at(matrix), p.K, i, x);
          const double qg = image_element(matrix_at(2 * matrix), p.K, i, x);
          e.kg = largest_relative(e.kg, kg, expected.kg(i, x));
          e.qg = largest_relative(e.qg, qg, expected.qg(i, x));
          if (i >= chunk.length) {
            e.zeros_behind_the_end = e.zeros_behind_the_end && w.back() == 0 && kg == 0 && qg == 0;
          }
        }
        for (int j = 0; j < p.C; ++j) {
          Aqk.push_back(image_element(matrix_at(3 * matrix), p.C, i, j));
          solved.push_back(image_element(A_image, p.C, i, j));
          const bool must_be_zero = j > i || i >= chunk.length;
          e.zeros_behind_the_end =
              e.zeros_behind_the_end && (!must_be_zero || (Aqk.back() == 0 && (solved.back() == 0 || i == j)));
        }
      }
      const auto* const decay = reinterpret_cast<const float*>(record + 3 * matrix + p.C * p.C * 2);
      for (int x = 0; x < p.K; ++x) {
        e.decay = largest_relative(e.decay, static_cast<double>(decay[x]), expected.decay[static_cast<size_t>(x)]);
      }
      for (int i = 0; i < p.C; ++i) {
        const double beta = i < chunk.length ? in.beta[as_index(first + i)] : 0.0;
        e.beta = std::max(e.beta, std::abs(static_cast<double>(decay[p.K + i]) - beta));
      }
      e.w = std::max(e.w, relative_rms(w, expected.w.x));
      e.Aqk = std::max(e.Aqk, relative_rms(Aqk, expected.Aqk.x));
      e.A = std::max(e.A, relative_rms(solved, expected.A.x));
    }
  }
  return e;
}

ForwardCase::ScanErrors ForwardCase::scan_errors() const {
  const auto& p = options_;
  Rms all_o;
  Rms all_ht;
  Rms all_h;
  Rms all_v_new;
  Rms all_dS;
  Rms all_dv2;
  Rms all_dh0;
  const auto of_state = as_index(p.K * p.V);
  const auto state_of = [&](const float* state, bool v_first) {
    std::vector<double> x(of_state);
    for (int i = 0; i < p.K; ++i) {
      for (int j = 0; j < p.V; ++j) {
        x[as_index(i * p.V + j)] = static_cast<double>(state[v_first ? j * p.K + i : i * p.V + j]);
      }
    }
    return x;
  };
  int chunk = 0;
  for (int n = 0; n < sequences(); ++n) {
    const int T = p.lengths[static_cast<size_t>(n)];
    const int first = first_rows_[static_cast<size_t>(n)];
    const int chunks_of_n = (T + p.C - 1) / p.C;
    for (int hv = 0; hv < p.HV; ++hv) {
      const ForwardResults expected = forward_recurrence(head(n, hv), p.C);
      const ReverseResults reverse = dS.empty() ? ReverseResults() : reverse_recurrence(head(n, hv), p.C);
      const auto number = as_index(n * p.HV + hv);
      if (!o.empty()) {
        all_o.add(part_of(o, first, T, p.HV, hv, p.V), expected.o.x);
        all_ht.add(state_of(ht.data() + number * of_state, p.v_first), expected.ht.x);
      }
      if (!v_new.empty()) {
        all_v_new.add(part_of(v_new, first, T, p.HV, hv, p.V), expected.v_new.x);
      }
      if (!dv2.empty()) {
        all_dv2.add(part_of(dv2, first, T, p.HV, hv, p.V), reverse.dv2.x);
      }
      if (!dh0.empty()) {
        all_dh0.add(state_of(dh0.data() + number * of_state, p.v_first), reverse.dh0.x);
      }
      for (int c = 0; c < chunks_of_n; ++c) {
        const auto at = static_cast<size_t>((chunk + c) * p.HV + hv) * of_state;
        if (!h.empty()) {
          all_h.add(state_of(h.data() + at, p.v_first), expected.h[static_cast<size_t>(c)].x);
        }
        const auto stored_state = [&](const std::vector<BFloat16>& from) {
          const std::vector<float> state(from.begin() + static_cast<std::ptrdiff_t>(at),
                                         from.begin() + static_cast<std::ptrdiff_t>(at + of_state));
          return state_of(state.data(), true);
        };
        if (!h_bf16.empty()) {
          all_h.add(stored_state(h_bf16), expected.h[static_cast<size_t>(c)].x);
        }
        if (!dS.empty()) {
          all_dS.add(stored_state(dS), reverse.dS[static_cast<size_t>(c)].x);
        }
      }
    }
    chunk += chunks_of_n;
  }
  return {.o = all_o.value(),
          .ht = all_ht.value(),
          .h = all_h.value(),
          .v_new = all_v_new.value(),
          .dS = all_dS.value(),
          .dv2 = all_dv2.value(),
          .dh0 = all_dh0.value()};
}

}  // namespace deltatape::test::kda_v1

#include "harness/plugin/kda_call.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "harness/kda/kda.h"
#include "ops/convert.h"

namespace deltatape::harness::plugin {
namespace {

constexpr std::array<std::string_view, 22> kResults = {
    "o",   "ht",  "dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0",  "g_cumsum",
    "Aqk", "Akk", "w",  "u",  "qg", "kg", "v_new", "h",      "dAqk",     "dAkk", "dh"};

/// Chunks of all sequences, one after another; 0 tokens have none.
int64_t chunks(int64_t tokens, int64_t chunk_size) { return (tokens + chunk_size - 1) / chunk_size; }

int64_t chunks_of_sequences(const Tensor& cu_seqlens, int64_t chunk_size) {
  const auto ends = cu_seqlens.to_vector<int64_t>();
  int64_t count = 0;
  for (size_t i = 1; i < ends.size(); ++i) {
    count += chunks(ends[i] - ends[i - 1], chunk_size);
  }
  return count;
}

int64_t chunks_of_segments(const Tensor& segment_ids, int64_t chunk_size) {
  const auto ids = segment_ids.to_vector<int64_t>();
  const int64_t T = segment_ids.size(1);
  int64_t count = 0;
  int64_t length = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    ++length;
    if (static_cast<int64_t>(i + 1) % T == 0 || ids[i + 1] != ids[i]) {
      count += chunks(length, chunk_size);
      length = 0;
    }
  }
  return count;
}

/// Shapes and dtypes of everything that the case can have as a result.
class Results {
 public:
  Results(const Case& c, const deltatape_kda_call& call, bool final_state) : case_(c), call_(call) {
    wide_ = c.dtype == DType::f64 ? DType::f64 : DType::f32;
    add("o", c.dtype, find(c.inputs, "v").shape());
    if (final_state) {
      add("ht", wide_,
          call.state_v_first != 0 ? Shape{call.N, call.HV, call.V, call.K} : Shape{call.N, call.HV, call.K, call.V});
    }
    if (call.backward != 0) {
      add_gradients();
    }
    add_intermediates();
  }
  [[nodiscard]] const std::vector<Wanted>& all() const { return all_; }

 private:
  void add(const std::string& name, DType dtype, const Shape& shape) { all_.push_back({name, dtype, shape}); }

  void add_gradients() {
    for (const std::string name : {"q", "k", "v", "g", "beta", "A_log", "dt_bias", "h0"}) {
      const Tensor input = find(case_.inputs, name);
      if (input.defined()) {
        const bool wide = name == "A_log" || name == "dt_bias" || name == "h0";
        add("d" + name, wide ? wide_ : case_.dtype, input.shape());
      }
    }
  }

  void add_intermediates() {
    const Shape keys{call_.B, call_.T, call_.HV, call_.K};
    const Shape values{call_.B, call_.T, call_.HV, call_.V};
    const Shape pairs{call_.B, call_.T, call_.HV, call_.chunk_size};
    const Shape states = chunk_states();
    const std::vector<std::pair<std::string, Shape>> forward = {
        {"g_cumsum", keys}, {"Aqk", pairs}, {"Akk", pairs},    {"w", keys},   {"u", values},
        {"qg", keys},       {"kg", keys},   {"v_new", values}, {"h", states},
    };
    for (const auto& [name, shape] : forward) {
      add(name, wide_, shape);
    }
    if (call_.backward != 0) {
      add("dAqk", wide_, pairs);
      add("dAkk", wide_, pairs);
      add("dh", wide_, states);
    }
  }

  [[nodiscard]] Shape chunk_states() const {
    const Tensor cu_seqlens = find(case_.inputs, "cu_seqlens");
    const Tensor segment_ids = find(case_.inputs, "segment_ids");
    if (cu_seqlens.defined()) {
      return {1, chunks_of_sequences(cu_seqlens, call_.chunk_size), call_.HV, call_.K, call_.V};
    }
    if (segment_ids.defined()) {
      return {1, chunks_of_segments(segment_ids, call_.chunk_size), call_.HV, call_.K, call_.V};
    }
    return {call_.B, chunks(call_.T, call_.chunk_size), call_.HV, call_.K, call_.V};
  }

  const Case& case_;
  const deltatape_kda_call& call_;
  DType wide_ = DType::f32;
  std::vector<Wanted> all_;
};

int32_t gate_code(kda::Gate gate) {
  switch (gate) {
    case kda::Gate::standard:
      return DELTATAPE_GATE_STANDARD;
    case kda::Gate::lower_bound:
      return DELTATAPE_GATE_LOWER_BOUND;
    case kda::Gate::none:
      break;
  }
  return DELTATAPE_GATE_NONE;
}

int32_t as_flag(bool value) { return value ? 1 : 0; }

deltatape_kda_call sizes_and_options(const Case& c, const kda::Options& options, int64_t threads) {
  const Tensor q = find(c.inputs, "q");
  const Tensor v = find(c.inputs, "v");
  check(q.defined() && v.defined() && q.rank() == 4 && v.rank() == 4, "plugin",
        "the case has no q and v of rank 4, expected a case of KDA");
  const Tensor cu_seqlens = find(c.inputs, "cu_seqlens");
  deltatape_kda_call call{};
  call.size = sizeof call;
  call.B = q.size(0);
  call.T = q.size(1);
  call.H = q.size(2);
  call.HV = v.size(2);
  call.K = q.size(3);
  call.V = v.size(3);
  call.N = cu_seqlens.defined() ? cu_seqlens.numel() - 1 : call.B;
  call.dtype = code_of(c.dtype);
  call.gate = gate_code(options.gate);
  call.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(call.K)));
  call.lower_bound = options.lower_bound;
  call.use_qk_l2norm = as_flag(options.use_qk_l2norm);
  call.use_beta_sigmoid = as_flag(options.use_beta_sigmoid);
  call.allow_neg_eigval = as_flag(options.allow_neg_eigval);
  call.safe_gate = as_flag(options.safe_gate);
  call.state_v_first = as_flag(options.state_v_first);
  call.chunk_size = static_cast<int32_t>(options.chunk_size);
  call.backward = as_flag(!c.upstream.empty());
  call.threads = static_cast<int32_t>(threads);
  return call;
}

}  // namespace

bool is_result(std::string_view name) { return std::find(kResults.begin(), kResults.end(), name) != kResults.end(); }

int32_t code_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return DELTATAPE_F64;
    case DType::bf16:
      return DELTATAPE_BF16;
    case DType::f16:
      return DELTATAPE_F16;
    case DType::i64:
      return DELTATAPE_I64;
    default:
      return DELTATAPE_F32;
  }
}

KdaCall kda_call(const Case& c, const std::vector<std::string>& listed, int64_t threads) {
  const kda::Options options = kda_options(c.settings);
  KdaCall result;
  result.call = sizes_and_options(c, options, threads);
  const DType wide = c.dtype == DType::f64 ? DType::f64 : DType::f32;
  const auto add = [&](const std::string& as, const Tensor& tensor, DType dtype) {
    if (tensor.defined()) {
      result.inputs.emplace_back(as, contiguous(to(to(tensor.detach(), Device::cpu()), dtype)));
    }
  };
  for (const char* name : {"q", "k", "v", "g", "beta"}) {
    add(name, find(c.inputs, name), c.dtype);
  }
  for (const char* name : {"A_log", "dt_bias", "h0"}) {
    add(name, find(c.inputs, name), wide);
  }
  for (const char* name : {"cu_seqlens", "segment_ids"}) {
    add(name, find(c.inputs, name), DType::i64);
  }
  add("do", find(c.upstream, "o"), c.dtype);
  add("dht", find(c.upstream, "ht"), wide);
  const Results had(c, result.call, options.output_final_state);
  for (const Wanted& wanted : had.all()) {
    if (std::find(listed.begin(), listed.end(), wanted.name) != listed.end()) {
      result.results.push_back(wanted);
    }
  }
  result.call.input_count = static_cast<int32_t>(result.inputs.size());
  result.call.result_count = static_cast<int32_t>(result.results.size());
  return result;
}

}  // namespace deltatape::harness::plugin

#include "tools/operator_case.h"

#include <array>

#include "ops/kda/inputs.h"
#include "tools/kda_run.h"

namespace deltatape::tools {
namespace {

constexpr std::array<const char*, 10> kResults = {"o",  "ht",    "dq",     "dk",       "dv",
                                                  "dg", "dbeta", "dA_log", "ddt_bias", "dh0"};

Tensor required_floats(const CaseFiles& files, const char* name) {
  files.require(name);
  return files.load_floats(name);
}

// Whether an optional tensor is there. Its key in the config, where there is one, must agree.
bool is_given(const CaseFiles& files, const char* name, const char* key) {
  const bool there = files.has(name);
  const bool expected = files.value<bool>(key, there);
  check(there == expected, "CASE", "{}: '{}' is {}, and {} is {}", files.config_label(), key, expected,
        files.tensor_label(name), there ? "there" : "missing");
  return there;
}

Tensor optional_floats(const CaseFiles& files, const char* name, const char* key) {
  return is_given(files, name, key) ? files.load_floats(name) : Tensor();
}

kda::Options read_options(const CaseFiles& files) {
  kda::Options options;
  if (files.has_key("scale")) {
    options.scale = files.value<double>("scale");
  }
  const bool bounded = files.has_key("lower_bound");
  options.lower_bound = files.value<double>("lower_bound", options.lower_bound);
  if (files.value<bool>("use_gate", false)) {
    options.gate = bounded ? kda::Gate::lower_bound : kda::Gate::standard;
  }
  options.use_qk_l2norm = files.value<bool>("use_qk_l2norm", false);
  options.use_beta_sigmoid = files.value<bool>("use_beta_sigmoid", false);
  options.allow_neg_eigval = files.value<bool>("allow_neg_eigval", false);
  options.safe_gate = files.value<bool>("safe_gate", false);
  options.state_v_first = files.value<bool>("state_v_first", false);
  options.chunk_size = files.value<int64_t>("chunk_size", options.chunk_size);
  options.output_final_state = files.value<bool>("output_final_state", files.has("ht") || files.has("dht"));
  kda::check_options(files.config_label(), options);
  return options;
}

// Shapes, file by file: the sizes are those of q and v.
void check_shapes(const CaseFiles& files, const KdaCase& c) {
  const kda::Inputs& in = c.inputs;
  files.check_rank("q", in.q, 4, "[B, T, H, K]");
  files.check_rank("v", in.v, 4, "[B, T, HV, V]");
  const int64_t B = in.q.size(0);
  const int64_t T = in.q.size(1);
  const int64_t H = in.q.size(2);
  const int64_t K = in.q.size(3);
  const int64_t HV = in.v.size(2);
  const int64_t V = in.v.size(3);
  const int64_t N = in.cu_seqlens.defined() ? in.cu_seqlens.numel() - 1 : B;
  files.check_size("B", B, "q");
  files.check_size("T", T, "q");
  files.check_size("H", H, "q");
  files.check_size("K", K, "q");
  files.check_size("HV", HV, "v");
  files.check_size("V", V, "v");
  files.check_size("N", N, in.cu_seqlens.defined() ? "cu_seqlens" : "q");
  files.check_shape("k", in.k, {B, T, H, K}, "[B, T, H, K]");
  files.check_shape("v", in.v, {B, T, HV, V}, "[B, T, HV, V]");
  files.check_shape("g", in.g, {B, T, HV, K}, "[B, T, HV, K]");
  files.check_shape("beta", in.beta, {B, T, HV}, "[B, T, HV]");
  files.check_shape("A_log", in.A_log, {HV}, "[HV]");
  files.check_shape("dt_bias", in.dt_bias, {HV * K}, "[HV*K]");
  files.check_shape("segment_ids", in.segment_ids, {B, T}, "[B, T]");
  files.check_shape("do", c.d_o, {B, T, HV, V}, "[B, T, HV, V]");
  const bool v_first = c.options.state_v_first;
  const Shape state = v_first ? Shape{N, HV, V, K} : Shape{N, HV, K, V};
  const char* layout = v_first ? "[N, HV, V, K]" : "[N, HV, K, V]";
  files.check_shape("h0", in.initial_state, state, layout);
  files.check_shape("dht", c.d_final_state, state, layout);
}

}  // namespace

KdaCase load_operator_case(const CaseFiles& files) {
  files.check_kind("operator");
  KdaCase c;
  c.description = files.name();
  c.options = read_options(files);
  kda::Inputs& in = c.inputs;
  in.q = required_floats(files, "q");
  in.k = required_floats(files, "k");
  in.v = required_floats(files, "v");
  in.g = required_floats(files, "g");
  in.beta = required_floats(files, "beta");
  in.A_log = optional_floats(files, "A_log", "has_A_log");
  in.dt_bias = optional_floats(files, "dt_bias", "has_dt_bias");
  in.initial_state = optional_floats(files, "h0", "has_h0");
  in.cu_seqlens = is_given(files, "cu_seqlens", "varlen") ? files.load_integers("cu_seqlens") : Tensor();
  in.segment_ids = files.load_integers("segment_ids");
  c.d_o = files.load_floats("do");
  c.d_final_state = files.load_floats("dht");
  check(!c.d_final_state.defined() || c.options.output_final_state, "CASE",
        "{}: 'output_final_state' is false, and {} is there", files.config_label(), files.tensor_label("dht"));
  check_shapes(files, c);
  kda::check_inputs(files.path().string(), widened(c).inputs, c.options);  // everything else
  return c;
}

io::TensorMap load_operator_references(const CaseFiles& files) {
  io::TensorMap references;
  for (const char* name : kResults) {
    if (files.has(name)) {
      references[name] = files.load(name);
    }
  }
  return references;
}

}  // namespace deltatape::tools

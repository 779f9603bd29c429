#include "tools/layer_case.h"

#include "autograd/grad_mode.h"
#include "ops/ops.h"
#include "ops/sequences.h"

namespace deltatape::tools {
namespace {

constexpr const char* kGradient = "grad.";

bool starts_with(const std::string& text, std::string_view start) { return text.rfind(start, 0) == 0; }

bool keeps_wide(const std::string& parameter) { return parameter == "A_log" || parameter == "dt_bias"; }

nn::KDALayerConfig read_config(const CaseFiles& files) {
  nn::KDALayerConfig c;
  c.hidden_size = files.value<int64_t>("hidden_size");
  c.num_heads = files.value<int64_t>("num_heads");
  c.head_dim = files.value<int64_t>("head_dim");
  if (files.has_key("num_v_heads")) {
    c.num_v_heads = files.value<int64_t>("num_v_heads");
  }
  c.expand_v = files.value<double>("expand_v", c.expand_v);
  c.use_short_conv = files.value<bool>("use_short_conv", c.use_short_conv);
  c.conv_size = files.value<int64_t>("conv_size", c.conv_size);
  c.conv_bias = files.value<bool>("conv_bias", c.conv_bias);
  c.allow_neg_eigval = files.value<bool>("allow_neg_eigval", c.allow_neg_eigval);
  c.safe_gate = files.value<bool>("safe_gate", c.safe_gate);
  if (files.has_key("lower_bound")) {
    c.lower_bound = files.value<double>("lower_bound");
  }
  c.norm_eps = files.value<double>("norm_eps", c.norm_eps);
  try {
    c.check_values();
  } catch (const Error& error) {
    fail(files.config_label(), "{}", error.what());
  }
  const auto head_v_dim = files.value<int64_t>("head_v_dim", c.head_v_dim());
  check(head_v_dim == c.head_v_dim(), "CASE", "{}: 'head_v_dim' is {}, expected head_dim * expand_v = {}",
        files.config_label(), head_v_dim, c.head_v_dim());
  return c;
}

void check_tensors(const CaseFiles& files, const LayerCase& c) {
  files.check_rank("x", c.x, 3, "[B, T, hidden_size]");
  const int64_t B = c.x.size(0);
  const int64_t T = c.x.size(1);
  files.check_size("B", B, "x");
  files.check_size("T", T, "x");
  files.check_shape("x", c.x, {B, T, c.config.hidden_size}, "[B, T, hidden_size]");
  files.check_shape("dy", c.dy, c.x.shape(), "[B, T, hidden_size]");
  files.check_size("N", c.cu_seqlens.defined() ? c.cu_seqlens.numel() - 1 : B,
                   c.cu_seqlens.defined() ? "cu_seqlens" : "x");
  if (c.cu_seqlens.defined()) {
    checked_cu_seqlens(files.path().string(), c.cu_seqlens, B, T);
  }
}

// What a layer of this config has, with the shapes it has: only those are read.
io::TensorMap read_parameters(const CaseFiles& files, const nn::KDALayerConfig& config) {
  Generator generator;
  const nn::KimiDeltaAttention layer(config, generator);
  io::TensorMap parameters;
  for (const auto& [name, parameter] : layer.named_parameters()) {
    files.require(name);
    parameters[name] = files.load_floats(name);
    files.check_shape(name, parameters[name], parameter.shape(), "the parameter's");
  }
  return parameters;
}

// Makes the parameters those of `c`, in their dtypes.
void set_parameters(nn::KimiDeltaAttention& layer, const LayerCase& c) {
  layer.to(c.x.dtype());
  layer.to(c.x.device());
  // A module has one dtype; these two may be wider.
  for (Tensor* const parameter : {&layer.A_log, &layer.dt_bias}) {
    *parameter = zeros(parameter->shape(), c.parameters.at("A_log").options());
    parameter->set_requires_grad();
  }
  layer.load_state_dict(c.parameters);
}

}  // namespace

LayerCase load_layer_case(const CaseFiles& files) {
  files.check_kind("layer");
  LayerCase c;
  c.config = read_config(files);
  files.require("x");
  c.x = files.load_floats("x");
  c.dy = files.load_floats("dy");
  const bool varlen = files.value<bool>("varlen", files.has("cu_seqlens"));
  if (varlen) {
    files.require("cu_seqlens");
    c.cu_seqlens = files.load_integers("cu_seqlens");
  }
  check(varlen || !files.has("cu_seqlens"), "CASE", "{}: 'varlen' is false, and {} is there", files.config_label(),
        files.tensor_label("cu_seqlens"));
  check_tensors(files, c);
  c.parameters = read_parameters(files, c.config);
  return c;
}

io::TensorMap load_layer_references(const CaseFiles& files) {
  io::TensorMap references;
  for (const std::string& name : files.names()) {
    if (name == "y" || name == "dx" || starts_with(name, kGradient)) {
      references[name] = files.load(name);
    }
  }
  return references;
}

LayerCase rounded(const LayerCase& c, DType dtype, Device device) {
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  LayerCase result = c;
  result.x = to(to(c.x, dtype), device);
  result.dy = c.dy.defined() ? to(to(c.dy, dtype), device) : c.dy;
  result.cu_seqlens = c.cu_seqlens.defined() ? to(c.cu_seqlens, device) : c.cu_seqlens;
  for (auto& [name, parameter] : result.parameters) {
    parameter = to(to(parameter, keeps_wide(name) ? wide : dtype), device);
  }
  return result;
}

bool is_stress_layer(const LayerCase& c) {
  const NoGradGuard no_grad;
  const LayerCase wide = rounded(c, DType::f64, Device::cpu());
  Generator generator;
  nn::KimiDeltaAttention layer(c.config, generator);
  set_parameters(layer, wide);
  const int64_t B = wide.x.size(0);
  const int64_t T = wide.x.size(1);
  const Tensor k = layer.k_proj.forward(wide.x);
  KdaCase operands;
  operands.inputs.k = reshape(layer.k_conv1d ? layer.k_conv1d->forward(k, wide.cu_seqlens) : silu(k),
                              {B, T, c.config.num_heads, c.config.head_dim});
  operands.inputs.g = reshape(layer.f_proj.forward(wide.x), {B, T, c.config.value_heads(), c.config.head_dim});
  operands.inputs.beta = layer.b_proj.forward(wide.x);
  operands.inputs.A_log = layer.A_log;
  operands.inputs.dt_bias = layer.dt_bias;
  operands.options.gate = c.config.lower_bound ? kda::Gate::lower_bound : kda::Gate::standard;
  operands.options.lower_bound = c.config.lower_bound.value_or(operands.options.lower_bound);
  operands.options.use_beta_sigmoid = true;
  operands.options.allow_neg_eigval = c.config.allow_neg_eigval;
  return is_stress_case(operands);
}

NamedTensors run_layer(const LayerCase& c, kda::Implementation implementation) {
  Generator generator;
  nn::KimiDeltaAttention layer(c.config, generator);
  set_parameters(layer, c);
  layer.set_implementation(implementation);
  Tensor x = c.x.detach();
  x.set_requires_grad(c.dy.defined());
  const Tensor y = layer.forward(x, c.cu_seqlens);
  NamedTensors results = {{"y", y.detach()}};
  if (!c.dy.defined()) {
    return results;
  }
  y.backward(c.dy);
  const auto gradient_of = [](const Tensor& leaf) {
    return leaf.grad().defined() ? leaf.grad() : zeros_like(leaf.detach());
  };
  results.emplace_back("dx", gradient_of(x));
  for (const auto& [name, parameter] : layer.named_parameters()) {
    results.emplace_back(kGradient + name, gradient_of(parameter));
  }
  return results;
}

TensorKind kind_of_layer(const std::string& tensor) {
  if (tensor == "y") {
    return TensorKind::output;
  }
  for (const char* name : {"grad.A_log", "grad.dt_bias", "grad.f_proj.", "grad.b_proj."}) {
    if (starts_with(tensor, name)) {
      return TensorKind::gate;
    }
  }
  return TensorKind::gradient;
}

}  // namespace deltatape::tools

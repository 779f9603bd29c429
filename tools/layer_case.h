// Stored cases of the KimiDeltaAttention layer: config, parameters, x and dy, and what should come out.
#pragma once

#include "nn/kda_attention.h"
#include "tools/case_files.h"
#include "tools/comparison.h"
#include "tools/kda_tolerance.h"

namespace deltatape::tools {

struct LayerCase {
  nn::KDALayerConfig config;
  io::TensorMap parameters;  // by their names in a state dict
  Tensor x;                  // [B,T,hidden_size]
  Tensor dy;                 // upstream gradient, likewise; undefined: forward only
  Tensor cu_seqlens;         // optional
};

/// Reads a case, tensors in the dtypes that they are stored in.
///
/// Keys of the config: hidden_size, num_heads, head_dim; with the defaults of nn::KDALayerConfig num_v_heads, expand_v,
/// use_short_conv, conv_size, conv_bias, allow_neg_eigval, safe_gate, lower_bound, norm_eps; `varlen` counts as whether
/// cu_seqlens is there. head_v_dim, B, T and N, where given, must agree with the rest. Throws Error that names the file
/// and the key, what was expected and what came.
LayerCase load_layer_case(const CaseFiles& files);

/// `y`, `dx` and every `grad.<parameter>` that the case has.
io::TensorMap load_layer_references(const CaseFiles& files);

/// `c` in `dtype` on `device`; A_log and dt_bias stay f32 beside 16 bits. Integers as they are.
LayerCase rounded(const LayerCase& c, DType dtype, Device device);

/// y and, with dy, dx and grad.<parameter> in the order of the layer, computed in the dtypes that `c` has.
NamedTensors run_layer(const LayerCase& c, kda::Implementation implementation);

/// As is_stress_case, for what the layer's operator is given.
bool is_stress_layer(const LayerCase& c);

/// The kind of a result by its name: y as o; A_log, dt_bias, f_proj and b_proj as dg; everything else as dq.
TensorKind kind_of_layer(const std::string& tensor);

}  // namespace deltatape::tools

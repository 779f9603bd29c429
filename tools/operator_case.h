// Stored cases of the KDA operator: config, inputs, upstream gradients, and what should come out.
#pragma once

#include "tools/case_files.h"
#include "tools/kda_case.h"

namespace deltatape::tools {

/// Reads the inputs and options of a case, tensors in the dtypes that they are stored in.
///
/// Keys of the config and what counts where they are missing or null: use_qk_l2norm, use_gate, use_beta_sigmoid,
/// allow_neg_eigval, safe_gate, state_v_first: false; scale: K^-1/2; lower_bound: none (it counts with use_gate only);
/// chunk_size: 64; output_final_state: whether `ht` or `dht` is there; has_h0, has_A_log, has_dt_bias, varlen: whether
/// the tensor is there. B, T, H, HV, K, V and N, where given, must agree with the tensors. Throws Error that names the
/// file and the key, what was expected and what came.
KdaCase load_operator_case(const CaseFiles& files);

/// The outputs and gradients that the case has, by the names of run_kda.
io::TensorMap load_operator_references(const CaseFiles& files);

}  // namespace deltatape::tools

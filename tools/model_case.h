// A whole-model case: a folder with a model, a batch, a training run and a prompt, and what should come out.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "nn/kda_config.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"

namespace deltatape::tools {

struct ModelCase {
  std::string name;  // of the folder
  nn::KDAConfig config;
  io::TensorMap parameters;
  Tensor input_ids;        // i64 [B,T]
  Tensor labels;           // i64 [B,T], unshifted
  Tensor cu_seqlens;       // i64 [N+1], optional
  Tensor train_input_ids;  // i64 [steps,B,T]
  Tensor prompt_ids;       // i64 [1,P]
  nn::AdamWOptions adamw;
  std::optional<double> grad_clip_norm;
  std::optional<nn::Schedule> schedule;
  int64_t new_tokens = 0;
};

/// Reads the inputs of a case. Throws Error that names the file, the key, what was expected and what came.
ModelCase load_model_case(const std::filesystem::path& folder);

/// What a case computes. Floating-point results are f64 on the host.
struct ModelResults {
  io::TensorMap arrays;  // logits, loss, train_losses, train_grad_norms, greedy_ids (i64)
  io::TensorMap grads;   // by parameter
  io::TensorMap final;   // parameters after training
};

/// Runs forward, backward, the training steps and greedy decoding in `dtype` on `device`.
ModelResults run_model_case(const ModelCase& model_case, DType dtype, Device device, const std::string& impl);

/// Writes logits.npy, loss.npy, train_losses.npy, train_grad_norms.npy, greedy_ids.npy, grads.safetensors and
/// final.safetensors into `folder`, which is made.
void save_model_results(const std::filesystem::path& folder, const ModelResults& results);

/// What the case's folder expects; a file that is not there gives no entries.
ModelResults load_model_references(const std::filesystem::path& folder);

}  // namespace deltatape::tools

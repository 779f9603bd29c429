// A fused KDA kernel of this library behind the harness' C interface. Every known bug is this file with a faulty
// kernel; without one it is a plugin that must pass. Compiled with
//   DELTATAPE_PLUGIN_KERNEL       fused_chunk or fused_recurrent
//   DELTATAPE_PLUGIN_KEEP_STATES  whether forward keeps states for backward
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include "autograd/backward.h"
#include "core/error.h"
#include "harness/plugin/deltatape_plugin.h"
#include "ops/convert.h"
#include "ops/kda/fused.h"
#include "ops/views.h"

namespace deltatape {
namespace {

DType dtype_of_code(int32_t code) {
  switch (code) {
    case DELTATAPE_F64:
      return DType::f64;
    case DELTATAPE_F32:
      return DType::f32;
    case DELTATAPE_BF16:
      return DType::bf16;
    case DELTATAPE_F16:
      return DType::f16;
    case DELTATAPE_I64:
      return DType::i64;
    default:
      fail("kda_plugin", "dtype is {}, expected 0 to 4", code);
  }
}

/// The tensors of a call by name.
class Tensors {
 public:
  Tensors(const deltatape_tensor* first, int32_t count) : tensors_(first, static_cast<size_t>(count)) {}

  [[nodiscard]] const deltatape_tensor* find(std::string_view name) const {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [name](const deltatape_tensor& tensor) { return name == tensor.name; });
    return found == tensors_.end() ? nullptr : &*found;
  }
  /// On the caller's memory; undefined when the case has none of this name.
  [[nodiscard]] Tensor get(std::string_view name) const {
    const deltatape_tensor* const tensor = find(name);
    if (tensor == nullptr) {
      return {};
    }
    const Shape shape(std::span<const int64_t>(tensor->shape, static_cast<size_t>(tensor->rank)));
    return from_external(tensor->data, shape, {dtype_of_code(tensor->dtype)}, {});
  }
  /// Copies a result to where it is wanted; an undefined one is zeros.
  void put(std::string_view name, const Tensor& value) const {
    const deltatape_tensor* const tensor = find(name);
    if (tensor == nullptr) {
      return;
    }
    const Tensor place = get(name);
    const auto bytes = static_cast<size_t>(place.numel()) * size_of(place.dtype());
    if (bytes == 0) {
      return;
    }
    if (!value.defined()) {
      std::memset(tensor->data, 0, bytes);
      return;
    }
    check(value.shape() == place.shape(), "kda_plugin", "{} has shape {}, expected {}", name, place.shape(),
          value.shape());
    const Tensor converted = contiguous(to(value.detach(), place.dtype()));
    std::memcpy(tensor->data, converted.raw(), bytes);
  }

 private:
  std::span<const deltatape_tensor> tensors_;
};

kda::Options options_of(const deltatape_kda_call& call) {
  kda::Options options;
  options.scale = call.scale;
  options.gate = static_cast<kda::Gate>(call.gate);
  options.lower_bound = call.lower_bound;
  options.use_qk_l2norm = call.use_qk_l2norm != 0;
  options.use_beta_sigmoid = call.use_beta_sigmoid != 0;
  options.allow_neg_eigval = call.allow_neg_eigval != 0;
  options.safe_gate = call.safe_gate != 0;
  options.state_v_first = call.state_v_first != 0;
  options.chunk_size = call.chunk_size;
  options.output_final_state = true;
  options.save_intermediates = DELTATAPE_PLUGIN_KEEP_STATES;
  return options;
}

void run(const deltatape_kda_call& call) {
  omp_set_num_threads(std::max(call.threads, 1));
  const Tensors inputs(call.inputs, call.input_count);
  const Tensors results(call.results, call.result_count);
  constexpr std::array kNames = {"q", "k", "v", "g", "beta", "A_log", "dt_bias", "h0"};
  kda::Inputs in;
  const std::array places = {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state};
  for (size_t i = 0; i < kNames.size(); ++i) {
    *places[i] = inputs.get(kNames[i]);
    if (call.backward != 0 && places[i]->defined()) {
      places[i]->set_requires_grad();
    }
  }
  in.cu_seqlens = inputs.get("cu_seqlens");
  in.segment_ids = inputs.get("segment_ids");
  const kda::Output out = kda::DELTATAPE_PLUGIN_KERNEL(in, options_of(call));
  results.put("o", out.o);
  results.put("ht", out.final_state);
  if (call.backward == 0) {
    return;
  }

  std::vector<Tensor> outputs;
  std::vector<Tensor> upstream;
  if (const Tensor d_o = inputs.get("do"); d_o.defined()) {
    outputs.push_back(out.o);
    upstream.push_back(d_o);
  }
  if (const Tensor dht = inputs.get("dht"); dht.defined()) {
    outputs.push_back(out.final_state);
    upstream.push_back(dht);
  }
  std::vector<Tensor> wanted;
  std::vector<std::string> names;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (places[i]->defined()) {
      wanted.push_back(*places[i]);
      names.push_back(std::string("d") + kNames[i]);
    }
  }
  std::vector<Tensor> gradients(wanted.size());  // zeros without an upstream gradient
  if (!outputs.empty()) {
    gradients = grad(outputs, wanted, upstream, {.allow_unused = true});
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    results.put(names[i], gradients[i]);
  }
}

}  // namespace
}  // namespace deltatape

extern "C" {

int32_t deltatape_plugin_abi_version(void) { return DELTATAPE_PLUGIN_ABI_VERSION; }

const char* deltatape_plugin_results(void) { return "o,ht,dq,dk,dv,dg,dbeta,dA_log,ddt_bias,dh0"; }

int32_t deltatape_plugin_run(const deltatape_kda_call* call, char* message, int64_t message_size) {
  try {
    deltatape::run(*call);
    return DELTATAPE_OK;
  } catch (const std::exception& error) {
    const std::string_view text = error.what();
    if (message_size > 0) {
      const size_t length = std::min(text.size(), static_cast<size_t>(message_size - 1));
      std::memcpy(message, text.data(), length);
      message[length] = 0;
    }
    return DELTATAPE_FAILED;
  }
}
}

#include "tests/tools/case_writer.h"

#include "autograd/backward.h"
#include "io/npy.h"
#include "io/npz.h"
#include "nn/kda_attention.h"
#include "ops/convert.h"
#include "ops/kda/recurrent.h"
#include "ops/random.h"
#include "tests/io/temporary_folder.h"

namespace deltatape::test {
namespace {

Tensor as_f32(const Tensor& x) { return to(x.detach(), DType::f32); }

io::TensorMap map_of(const NamedResults& tensors) { return {tensors.begin(), tensors.end()}; }

}  // namespace

StoredCase operator_case(const std::string& name, const KDACase& kda_case) {
  StoredCase stored;
  KDACase c = kda_case;  // with the values that f32 has
  const auto store = [&stored](const char* key, Tensor& x) {
    if (x.defined()) {
      stored.tensors.emplace_back(key, as_f32(x));
      x = to(as_f32(x), DType::f64);
    }
  };
  store("q", c.inputs.q);
  store("k", c.inputs.k);
  store("v", c.inputs.v);
  store("g", c.inputs.g);
  store("beta", c.inputs.beta);
  store("A_log", c.inputs.A_log);
  store("dt_bias", c.inputs.dt_bias);
  store("h0", c.inputs.initial_state);
  store("do", c.d_o);
  store("dht", c.d_ht);
  if (c.inputs.cu_seqlens.defined()) {
    stored.tensors.emplace_back("cu_seqlens", c.inputs.cu_seqlens);
  }
  for (const auto& named : run_case(&kda::recurrent, c)) {
    stored.tensors.push_back(named);
  }
  const kda::Options& options = c.options;
  const bool bounded = options.gate == kda::Gate::lower_bound;
  stored.config = {{"kind", "operator"},
                   {"name", name},
                   {"B", c.inputs.q.size(0)},
                   {"T", c.inputs.q.size(1)},
                   {"H", c.inputs.q.size(2)},
                   {"HV", c.inputs.v.size(2)},
                   {"K", c.inputs.q.size(3)},
                   {"V", c.inputs.v.size(3)},
                   {"use_gate", options.gate != kda::Gate::none},
                   {"lower_bound", bounded ? nlohmann::json(options.lower_bound) : nlohmann::json()},
                   {"safe_gate", options.safe_gate},
                   {"use_qk_l2norm", options.use_qk_l2norm},
                   {"use_beta_sigmoid", options.use_beta_sigmoid},
                   {"allow_neg_eigval", options.allow_neg_eigval},
                   {"output_final_state", options.output_final_state},
                   {"state_v_first", options.state_v_first},
                   {"chunk_size", options.chunk_size},
                   {"has_h0", c.inputs.initial_state.defined()},
                   {"has_A_log", c.inputs.A_log.defined()},
                   {"has_dt_bias", c.inputs.dt_bias.defined()},
                   {"varlen", c.inputs.cu_seqlens.defined()}};
  if (options.scale) {
    stored.config["scale"] = *options.scale;
  }
  return stored;
}

StoredCase full_operator_case(const std::string& name) {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.allow_neg_eigval = true;
  options.output_final_state = true;
  options.chunk_size = 16;
  options.scale = 0.5;
  return operator_case(name, make_case({.B = 2, .T = 19, .H = 1, .HV = 2, .K = 5, .V = 3}, options, 7));
}

StoredCase layer_case(const std::string& name, bool varlen) {
  nn::KDALayerConfig config;
  config.hidden_size = 12;
  config.num_heads = 1;
  config.num_v_heads = 2;
  config.head_dim = 4;
  config.expand_v = 1.5;
  config.initializer_range = 0.4;
  Generator generator(3);
  nn::KimiDeltaAttention layer(config, generator);
  StoredCase stored;
  for (const auto& [key, parameter] : layer.named_parameters()) {
    stored.tensors.emplace_back(key, as_f32(parameter));
  }
  layer.to(DType::f64);
  layer.set_implementation(kda::Implementation::recurrent);
  const int64_t batch = varlen ? 1 : 2;
  const Tensor x = randn({batch, 20, config.hidden_size}, generator);
  const Tensor dy = randn({batch, 20, config.hidden_size}, generator);
  stored.tensors.emplace_back("x", x);
  stored.tensors.emplace_back("dy", dy);
  Tensor cu_seqlens;
  if (varlen) {
    cu_seqlens = from_vector<int64_t>({0, 13, 13, 20});
    stored.tensors.emplace_back("cu_seqlens", cu_seqlens);
  }
  Tensor leaf = to(x, DType::f64);
  leaf.set_requires_grad();
  const Tensor y = layer.forward(leaf, cu_seqlens);
  y.backward(to(dy, DType::f64));
  stored.tensors.emplace_back("y", y.detach());
  stored.tensors.emplace_back("dx", leaf.grad());
  for (const auto& [key, parameter] : layer.named_parameters()) {
    stored.tensors.emplace_back("grad." + key, parameter.grad());
  }
  stored.config = {{"kind", "layer"},
                   {"name", name},
                   {"B", batch},
                   {"T", 20},
                   {"hidden_size", config.hidden_size},
                   {"num_heads", config.num_heads},
                   {"num_v_heads", *config.num_v_heads},
                   {"head_dim", config.head_dim},
                   {"expand_v", config.expand_v},
                   {"lower_bound", nullptr},
                   {"varlen", varlen}};
  return stored;
}

void write_folder(const StoredCase& stored, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_bytes(folder / "config.json", stored.config.dump(1) + "\n");
  for (const auto& [name, tensor] : stored.tensors) {
    io::save_npy(folder / (name + ".npy"), tensor);
  }
}

void write_npz(const StoredCase& stored, const std::filesystem::path& path) {
  io::save_npz(path, map_of(stored.tensors), {{"config.json", stored.config.dump()}});
}

void write_safetensors(const StoredCase& stored, const std::filesystem::path& path) {
  io::save_safetensors(path, map_of(stored.tensors), {{"config", stored.config.dump()}});
}

}  // namespace deltatape::test

#include "tools/model_case.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/grad_mode.h"
#include "core/error.h"
#include "io/file.h"
#include "io/npy.h"
#include "nn/generate.h"
#include "ops/ops.h"
#include "tools/json_value.h"
#include "tools/trainer.h"

namespace deltatape::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<const char*, 5> kArrays = {"logits", "loss", "train_losses", "train_grad_norms", "greedy_ids"};

// A value of the case's config, or an Error that names file and key.
template <class T>
T get(const json& object, const char* key, const std::string& file) {
  check(object.is_object() && object.contains(key), "model", "{} has no '{}', expected one", file, key);
  return json_value<T>("model", file, key, object.at(key));
}

Tensor load_ids(const fs::path& path, int rank) {
  Tensor ids = io::load_npy(path);
  check(ids.dtype() == DType::i64 && ids.rank() == rank, "model", "{} is {}, expected i64 of rank {}", path.string(),
        describe(ids), rank);
  return ids;
}

void read_training(const json& train, const std::string& file, ModelCase& model_case) {
  const auto lr = get<double>(train, "lr", file);
  const auto betas = get<std::vector<double>>(train, "betas", file);
  check(betas.size() == 2, "model", "{}: 'betas' has {} entries, expected 2", file, betas.size());
  model_case.adamw.learning_rate = lr;
  model_case.adamw.beta1 = betas[0];
  model_case.adamw.beta2 = betas[1];
  model_case.adamw.eps = get<double>(train, "eps", file);
  model_case.adamw.weight_decay = get<double>(train, "weight_decay", file);
  if (train.contains("grad_clip_norm") && !train.at("grad_clip_norm").is_null()) {
    model_case.grad_clip_norm = get<double>(train, "grad_clip_norm", file);
  }
  const auto schedule = get<std::string>(train, "schedule", file);
  const auto steps = get<int64_t>(train, "steps", file);
  const auto warmup_steps = get<int64_t>(train, "warmup_steps", file);
  check(schedule == "cosine" || schedule == "constant", "model", "{}: 'schedule' is '{}', expected cosine or constant",
        file, schedule);
  model_case.schedule = schedule == "cosine"
                            ? nn::Schedule::cosine(lr, warmup_steps, steps, get<double>(train, "min_lr_ratio", file))
                            : nn::Schedule::constant(lr, warmup_steps);
  check(model_case.train_input_ids.size(0) == steps, "model", "{}: 'steps' is {}, train_input_ids.npy has {}", file,
        steps, model_case.train_input_ids.size(0));
}

Tensor to_f64(const Tensor& x) { return to(to(x.detach(), Device::cpu()), DType::f64); }

// Labels of a packed batch are its ids, except that nothing predicts the first token of a document.
Tensor training_labels(const Tensor& ids, const Tensor& cu_seqlens) {
  Tensor labels = clone(ids);
  if (cu_seqlens.defined()) {
    auto* values = labels.mutable_data<int64_t>();
    for (const int64_t start : cu_seqlens.to_vector<int64_t>()) {
      if (start < labels.numel()) {
        values[start] = -100;
      }
    }
  }
  return labels;
}

class CaseRun {
 public:
  CaseRun(const ModelCase& model_case, DType dtype, Device device, const std::string& impl)
      : case_(model_case), device_(device) {
    Generator generator;
    model_ = std::make_unique<nn::KDAForCausalLM>(case_.config, generator);
    model_->to(dtype);  // before loading: f64 keeps every digit of the file
    model_->load_state_dict(case_.parameters);
    if (!device.is_cpu()) {
      model_->to(device);
    }
    choose_implementation(*model_, impl);
    if (case_.cu_seqlens.defined()) {
      cu_seqlens_ = to(case_.cu_seqlens, device);
    }
  }

  void first_batch(ModelResults& results) {
    const Tensor logits = model_->forward(to(case_.input_ids, device_), cu_seqlens_);
    const Tensor loss = nn::causal_lm_loss(logits, to(case_.labels, device_));
    loss.backward();
    results.arrays["logits"] = to_f64(logits);
    results.arrays["loss"] = reshape(to_f64(loss), {1});
    for (const auto& [name, parameter] : model_->named_parameters()) {
      results.grads[name] = parameter.grad().defined() ? clone(to_f64(parameter.grad()))
                                                       : zeros(parameter.shape(), {DType::f64, Device::cpu()});
    }
    model_->zero_grad();
  }

  void decode(ModelResults& results) const {
    nn::GenerateOptions options;
    options.max_new_tokens = case_.new_tokens;
    Generator generator;
    const auto ids = nn::generate(*model_, case_.prompt_ids.to_vector<int64_t>(), options, generator);
    results.arrays["greedy_ids"] = from_vector(ids);
  }

  // Changes the parameters, so it comes last.
  void train(ModelResults& results) {
    nn::AdamW optimizer(model_->named_parameters(), case_.adamw);
    const std::vector<Tensor> parameters = model_->parameters();
    std::vector<double> losses;
    std::vector<double> norms;
    for (int64_t step = 0; step < case_.train_input_ids.size(0); ++step) {
      const Tensor ids = contiguous(select(case_.train_input_ids, 0, step));
      const Tensor logits = model_->forward(to(ids, device_), cu_seqlens_);
      const Tensor loss = nn::causal_lm_loss(logits, to(training_labels(ids, case_.cu_seqlens), device_));
      losses.push_back(to_f64(loss).item());
      optimizer.zero_grad();
      loss.backward();
      norms.push_back(case_.grad_clip_norm ? nn::clip_grad_norm(parameters, *case_.grad_clip_norm)
                                           : nn::grad_norm(parameters));
      optimizer.set_learning_rate(case_.schedule->at(step));
      optimizer.step();
    }
    results.arrays["train_losses"] = from_vector(losses);
    results.arrays["train_grad_norms"] = from_vector(norms);
    for (const auto& [name, parameter] : model_->named_parameters()) {
      results.final[name] = to_f64(parameter);
    }
  }

 private:
  const ModelCase& case_;
  Device device_;
  std::unique_ptr<nn::KDAForCausalLM> model_;
  Tensor cu_seqlens_;
};

}  // namespace

ModelCase load_model_case(const fs::path& folder) {
  check(fs::is_directory(folder), "CASE", "{} is not a folder, expected one with a model case", folder.string());
  const std::string file = (folder / "config.json").string();
  const std::string text = io::read_file("CASE", file);
  json config;
  try {
    config = json::parse(text);
  } catch (const json::exception& error) {
    fail("CASE", "{} is not JSON: {}", file, error.what());
  }
  const auto kind = get<std::string>(config, "kind", file);
  check(kind == "model", "CASE", "{}: 'kind' is '{}', expected 'model'", file, kind);

  ModelCase model_case;
  model_case.name = fs::absolute(folder).lexically_normal().filename().string();
  if (model_case.name.empty()) {
    model_case.name = fs::absolute(folder).lexically_normal().parent_path().filename().string();
  }
  model_case.config = nn::KDAConfig::from_json(get<json>(config, "model", file).dump());
  model_case.parameters = io::load_safetensors(folder / "model.safetensors").tensors;
  model_case.input_ids = load_ids(folder / "input_ids.npy", 2);
  model_case.labels = load_ids(folder / "labels.npy", 2);
  model_case.train_input_ids = load_ids(folder / "train_input_ids.npy", 3);
  model_case.prompt_ids = load_ids(folder / "prompt_ids.npy", 2);
  if (config.contains("varlen") && get<bool>(config, "varlen", file)) {
    model_case.cu_seqlens = load_ids(folder / "cu_seqlens.npy", 1);
  }
  read_training(get<json>(config, "train", file), file, model_case);
  model_case.new_tokens = get<int64_t>(get<json>(config, "decode", file), "new_tokens", file);
  return model_case;
}

ModelResults run_model_case(const ModelCase& model_case, DType dtype, Device device, const std::string& impl) {
  CaseRun run(model_case, dtype, device, impl);
  ModelResults results;
  run.first_batch(results);
  run.decode(results);
  run.train(results);
  return results;
}

void save_model_results(const fs::path& folder, const ModelResults& results) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "--out", "{} cannot be made: {}", folder.string(), error.message());
  for (const auto& [name, tensor] : results.arrays) {
    io::save_npy(folder / (name + ".npy"), tensor);
  }
  io::save_safetensors(folder / "grads.safetensors", results.grads);
  io::save_safetensors(folder / "final.safetensors", results.final);
}

ModelResults load_model_references(const fs::path& folder) {
  ModelResults references;
  for (const char* name : kArrays) {
    const auto path = folder / (std::string(name) + ".npy");
    if (fs::exists(path)) {
      references.arrays[name] = io::load_npy(path);
    }
  }
  if (fs::exists(folder / "grads.safetensors")) {
    references.grads = io::load_safetensors(folder / "grads.safetensors").tensors;
  }
  if (fs::exists(folder / "final.safetensors")) {
    references.final = io::load_safetensors(folder / "final.safetensors").tensors;
  }
  return references;
}

}  // namespace deltatape::tools

#include "tools/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "autograd/grad_mode.h"
#include "ops/index_range.h"
#include "ops/ops.h"
#include "tools/kda_run.h"

namespace deltatape::tools {
namespace {

// Parameters and batches come from streams of their own, so that one does not shift the other.
constexpr uint64_t kBatchStream = 0x6261746368657300;

// FNV-1a: tells whether a resumed run reads the same text, nothing more.
std::string fingerprint(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return fmt::format("{} bytes, fnv1a {:016x}", bytes.size(), hash);
}

std::string describe_data(const Data& data, const TrainOptions& options) {
  const auto* text = dynamic_cast<const TextData*>(&data);
  return text != nullptr ? fingerprint(text->text().bytes) : "task " + options.task;
}

Tensor rows_of(const Tensor& x, int64_t first, int64_t count) { return slice(x, 0, Slice{first, first + count}); }

}  // namespace

void choose_implementation(nn::KDAForCausalLM& model, const std::string& impl) {
  model.set_implementation(model_implementation(impl));
}

Trainer::Trainer(const nn::KDAConfig& config, std::unique_ptr<Data> data, TrainOptions options)
    : options_(std::move(options)),
      data_(std::move(data)),
      device_(Device::parse("--device", options_.device)),
      schedule_(options_.make_schedule()),
      batches_(options_.seed ^ kBatchStream) {
  check(config.vocab_size >= data_->vocabulary(), "--config", "vocab_size is {}, expected at least {} for this data",
        config.vocab_size, data_->vocabulary());
  Generator initial(options_.seed);
  model_ = std::make_unique<nn::KDAForCausalLM>(config, initial);
  choose_implementation(*model_, options_.impl);
  if (!device_.is_cpu()) {
    model_->to(device_);
  }
  check(!options_.cuda_graph || !device_.is_cpu(), "--cuda-graph", "--device is {}, expected cuda", options_.device);
  nn::AdamWOptions adamw;
  adamw.learning_rate = schedule_.at(0);
  adamw.beta1 = options_.beta1;
  adamw.beta2 = options_.beta2;
  adamw.eps = options_.eps;
  adamw.weight_decay = options_.weight_decay;
  optimizer_ = std::make_unique<nn::AdamW>(model_->named_parameters(), adamw);
  parameters_ = model_->parameters();
}

double Trainer::run_step(const Batch& batch) {
  const Tensor loss = cross_entropy(model_->forward(to(batch.ids, device_)), to(batch.targets, device_));
  const double value = loss.item();
  if (std::isfinite(value)) {
    optimizer_->zero_grad();
    loss.backward();
  }
  warmed_up_ = true;
  return value;
}

double Trainer::replay_step(const Batch& batch) {
  // The replay looks too, but tells only behind the step: here a bad batch is refused in the op's own words before it.
  const int64_t vocabulary = model_->config().vocab_size;
  check_index_range("embedding", "index", batch.ids, vocabulary);
  check_index_range("cross_entropy", "target", batch.targets, vocabulary, CrossEntropyOptions().ignore_index);
  if (recorded_) {
    copy_(recorded_->batch.ids, batch.ids);
    copy_(recorded_->batch.targets, batch.targets);
  } else {
    optimizer_->zero_grad();  // so that every replay writes gradients of its own instead of adding to others
    Recorded recorded{{to(batch.ids, device_), to(batch.targets, device_)}, {}, {}};
    recorded.graph = cuda::Graph::record(device_, [&] {
      const Tensor loss = cross_entropy(model_->forward(recorded.batch.ids), recorded.batch.targets);
      loss.backward();
      recorded.loss = loss.detach();
    });
    recorded_ = std::move(recorded);
  }
  recorded_->graph.replay();
  return recorded_->loss.item();
}

StepMetrics Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  const Batch batch = data_->training(options_.batch, options_.seq_len, batches_);
  StepMetrics metrics;
  metrics.step = steps_done_ + 1;
  metrics.lr = schedule_.at(steps_done_);
  metrics.loss = options_.cuda_graph && warmed_up_ ? replay_step(batch) : run_step(batch);
  if (!std::isfinite(metrics.loss)) {
    metrics.grad_norm = metrics.loss;
    return metrics;
  }
  metrics.grad_norm = options_.grad_clip_norm > 0 ? nn::clip_grad_norm(parameters_, options_.grad_clip_norm)
                                                  : nn::grad_norm(parameters_);
  if (!std::isfinite(metrics.grad_norm)) {
    return metrics;
  }
  optimizer_->set_learning_rate(metrics.lr);
  optimizer_->step();
  ++steps_done_;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  metrics.tokens_per_s = static_cast<double>(options_.batch * options_.seq_len) / elapsed.count();
  return metrics;
}

Evaluation Trainer::evaluate(int64_t rows) const {
  const NoGradGuard no_grad;
  const Batch all = data_->validation(rows, options_.seq_len);
  CrossEntropyOptions sum;
  sum.sum = true;
  double loss = 0.0;
  int64_t right = 0;
  int64_t counted = 0;
  for (int64_t first = 0; first < all.ids.size(0); first += options_.batch) {
    const int64_t count = std::min(options_.batch, all.ids.size(0) - first);
    const Tensor targets = contiguous(rows_of(all.targets, first, count));
    const Tensor logits = model_->forward(to(contiguous(rows_of(all.ids, first, count)), device_));
    loss += to(cross_entropy(logits, to(targets, device_), sum), Device::cpu()).item();
    const std::vector<int64_t> answers = to(argmax(logits, -1), Device::cpu()).to_vector<int64_t>();
    const std::vector<int64_t> expected = targets.to_vector<int64_t>();
    for (size_t i = 0; i < expected.size(); ++i) {
      counted += expected[i] >= 0 ? 1 : 0;
      right += expected[i] >= 0 && expected[i] == answers[i] ? 1 : 0;
    }
  }
  return {loss / static_cast<double>(counted), static_cast<double>(right) / static_cast<double>(counted)};
}

io::Checkpoint Trainer::checkpoint() const {
  io::Checkpoint state;
  state.step = steps_done_;
  for (const auto& [name, tensor] : model_->state_dict()) {
    state.model[name] = to(tensor, Device::cpu());
  }
  for (const auto& [name, tensor] : optimizer_->state_dict()) {
    state.optimizer[name] = to(tensor, Device::cpu());
  }
  state.generators["batches"] = batches_.state();
  state.notes["data"] = describe_data(*data_, options_);
  return state;
}

void Trainer::restore(const io::Checkpoint& checkpoint) {
  const auto generator = checkpoint.generators.find("batches");
  check(generator != checkpoint.generators.end(), "--resume", "the checkpoint has no generator 'batches'");
  check(generator->second.seed == (options_.seed ^ kBatchStream), "--resume", "the run was begun with another --seed");
  const auto note = checkpoint.notes.find("data");
  const std::string data = describe_data(*data_, options_);
  check(note != checkpoint.notes.end() && note->second == data, "--resume",
        "the run was begun with other data: {}, now {}; {}", note != checkpoint.notes.end() ? note->second : "unknown",
        data,
        options_.task.empty() ? "--text differs from the run's, or its files have changed"
                              : "--task differs from the run's");
  model_->load_state_dict(checkpoint.model);
  optimizer_->load_state_dict(checkpoint.optimizer);
  batches_.set_state(generator->second);
  steps_done_ = checkpoint.step;
}

}  // namespace deltatape::tools

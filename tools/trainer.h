// One training run: a model, its optimizer, its data, and everything that a checkpoint keeps.
#pragma once

#include <memory>
#include <optional>

#include "backends/cuda/runtime/graph.h"
#include "io/checkpoint.h"
#include "nn/nn.h"
#include "tools/data.h"
#include "tools/metrics.h"
#include "tools/train_options.h"

namespace deltatape::tools {

/// A model's mean loss over some rows, and the share of right answers among the positions that count.
struct Evaluation {
  double loss = 0.0;
  double accuracy = 0.0;
};

class Trainer {
 public:
  /// A fresh model with initial parameters drawn from options.seed. Throws Error when config, data and options do not
  /// fit together.
  Trainer(const nn::KDAConfig& config, std::unique_ptr<Data> data, TrainOptions options);

  /// One update on the next batch. A loss or gradient that is not finite changes nothing: the caller stops there.
  StepMetrics step();
  /// Over at most `rows` validation rows, in batches.
  [[nodiscard]] Evaluation evaluate(int64_t rows) const;

  /// The state after the steps done so far; its tensors share memory with the run.
  [[nodiscard]] io::Checkpoint checkpoint() const;
  /// Goes on from a checkpoint. Throws Error when it belongs to another model, text or seed.
  void restore(const io::Checkpoint& checkpoint);

  [[nodiscard]] int64_t steps_done() const { return steps_done_; }
  [[nodiscard]] const TrainOptions& options() const { return options_; }
  [[nodiscard]] const Data& data() const { return *data_; }
  [[nodiscard]] const nn::KDAForCausalLM& model() const { return *model_; }

 private:
  TrainOptions options_;
  std::unique_ptr<Data> data_;
  Device device_;
  nn::Schedule schedule_;
  std::unique_ptr<nn::KDAForCausalLM> model_;
  std::unique_ptr<nn::AdamW> optimizer_;
  std::vector<Tensor> parameters_;
  Generator batches_;
  int64_t steps_done_ = 0;

  // Forward, loss and backward as a graph, with --cuda-graph: the batch that it reads and the loss that it writes.
  struct Recorded {
    Batch batch;
    Tensor loss;
    cuda::Graph graph;
  };
  std::optional<Recorded> recorded_;
  bool warmed_up_ = false;  // one ordinary step is done before recording

  // Both give the loss, and leave the gradients in the parameters unless it is not finite.
  double run_step(const Batch& batch);
  double replay_step(const Batch& batch);
};

/// Applies the value of --impl: composed, or auto and fused, which are the same.
void choose_implementation(nn::KDAForCausalLM& model, const std::string& impl);

}  // namespace deltatape::tools

// A training step of the KDA language model for a script that runs a peer.
// Usage: model_worker CONFIG.json BATCH.npz
//
// BATCH.npz has ids and targets, i64 [B,T]; every step learns the same batch. Options of AdamW are those of
// `deltatape train`. Each line of input gives one line of output:
//   product    milliseconds of a product of two 1024 x 1024 matrices
//   save PATH  the parameters, by their names, as .npz
//   gradients PATH  those of the loss, by the parameters' names
//   step       loss before the step, and milliseconds: forward, loss, backward, clipping and update
#include <vector>

#include "benchmarks/peers/worker.h"
#include "io/file.h"

namespace {

using namespace deltatape;

class Training {
 public:
  Training(const std::string& config, const std::string& batch)
      : model_(nn::KDAConfig::from_json(io::read_file("model_worker", config)), generator_),
        optimizer_(model_.named_parameters(), {.learning_rate = 1e-3}),
        parameters_(model_.parameters()) {
    const io::TensorMap given = io::load_npz(batch).tensors;
    ids_ = given.at("ids");
    targets_ = given.at("targets");
  }

  void save(const std::string& path) const { io::save_npz(path, model_.state_dict()); }

  /// Changes no parameter.
  void save_gradients(const std::string& path) {
    cross_entropy(model_.forward(ids_), targets_).backward();
    io::TensorMap gradients;
    for (const auto& [name, parameter] : model_.named_parameters()) {
      gradients[name] = clone(parameter.grad().detach());
    }
    optimizer_.zero_grad();
    io::save_npz(path, gradients);
  }

  /// The loss. The same calls as Trainer::step of tools/trainer.cpp.
  double step() {
    double value = 0.0;
    {
      const Tensor loss = cross_entropy(model_.forward(ids_), targets_);
      value = loss.item();
      optimizer_.zero_grad();
      loss.backward();
    }
    nn::clip_grad_norm(parameters_, 1.0);
    optimizer_.step();
    return value;
  }

 private:
  Generator generator_{0};
  nn::KDAForCausalLM model_;
  nn::AdamW optimizer_;
  std::vector<Tensor> parameters_;
  Tensor ids_;
  Tensor targets_;
};

std::string answer(Training& training, const std::string& line) {
  if (line == "step") {
    double loss = 0.0;
    const double ms = bench::milliseconds([&] { loss = training.step(); });
    return fmt::format("{} {}", loss, ms);
  }
  if (line.starts_with("gradients ")) {
    training.save_gradients(line.substr(10));
    return "saved";
  }
  check(line.starts_with("save "), "model_worker",
        "the request is '{}', expected product, step, save PATH or gradients PATH", line);
  training.save(line.substr(5));
  return "saved";
}

}  // namespace

int main(int count, char** arguments) {
  return bench::run_worker([&] {
    check(count == 3, "model_worker", "{} arguments, expected CONFIG.json BATCH.npz", count - 1);
    Training training(arguments[1], arguments[2]);
    bench::serve([&](const std::string& line) { return answer(training, line); });
  });
}

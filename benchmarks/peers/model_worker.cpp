// A training step of the KDA language model for a script that runs a peer; see kda_worker.cpp.
// Usage: model_worker CONFIG.json BATCH.npz
//
// BATCH.npz has ids and targets, i64 [B,T]; every step learns the same batch. Options of AdamW are those of
// `deltatape train`. Each line of input gives one line of output:
//   save PATH  the parameters, by their names, as .npz
//   step       loss before the step, and milliseconds: forward, loss, backward, clipping and update
#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "deltatape.h"
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

void answer(Training& training, const std::string& line) {
  if (line == "step") {
    const auto start = std::chrono::steady_clock::now();
    const double loss = training.step();
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    fmt::print("{} {}\n", loss, elapsed.count());
  } else if (line.starts_with("save ")) {
    training.save(line.substr(5));
    fmt::print("saved\n");
  } else {
    fail("model_worker", "the request is '{}', expected step or save PATH", line);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  try {
    check(count == 3, "model_worker", "{} arguments, expected CONFIG.json BATCH.npz", count - 1);
    Training training(arguments[1], arguments[2]);
    for (std::string line; std::getline(std::cin, line);) {
      answer(training, line);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}

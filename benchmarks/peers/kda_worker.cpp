// The KDA operator for a script that runs a peer: the script gives the inputs in a .npz file, then asks on standard
// input for one run after another, in turns with its own. A process of its own, since two OpenMP run times in one get
// in each other's way. Usage: kda_worker INPUTS.npz
//
// INPUTS.npz has q, k, v, g (gate logits), beta (logits), A_log, dt_bias and d_o; the operator has the lower-bound
// gate, the norm and the sigmoid within. Each line of input gives one line of output:
//   product    GFLOP/s of a product of two 1024 x 1024 matrices
//   forward    milliseconds of a forward pass without a tape
//   both       milliseconds of a recorded forward pass, and of its backward pass
//   save PATH  results of the last `both` (o, dq, dk, ...) as .npz
#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "deltatape.h"

namespace {

using namespace deltatape;

double milliseconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double product_gflops() {
  const NoGradGuard guard;
  Generator generator(1);
  const Tensor a = randn({1024, 1024}, generator);
  const Tensor b = randn({1024, 1024}, generator);
  const double ms = milliseconds([&] { static_cast<void>(matmul(a, b)); });
  return 2.0 * 1024.0 * 1024.0 * 1024.0 / ms / 1e6;
}

class Operator {
 public:
  explicit Operator(const std::string& path) {
    const io::TensorMap given = io::load_npz(path).tensors;
    for (auto& [name, input] : inputs()) {
      *input = given.at(name);
      input->set_requires_grad();
    }
    d_o_ = given.at("d_o");
    options_.gate = kda::Gate::lower_bound;
    options_.use_qk_l2norm = true;
    options_.use_beta_sigmoid = true;
  }

  double forward() {
    const NoGradGuard guard;
    kda::Output out;  // freed after the clock has stopped
    return milliseconds([&] { out = kda::run(kda::Implementation::automatic, in_, options_); });
  }

  std::pair<double, double> both() {
    std::vector<Tensor> leaves;
    for (const auto& [name, input] : inputs()) {
      leaves.push_back(*input);
    }
    out_ = {};
    gradients_.clear();
    const double forward = milliseconds([&] { out_ = kda::run(kda::Implementation::automatic, in_, options_); });
    const double backward =
        milliseconds([&] { gradients_ = grad(std::vector<Tensor>{out_.o}, leaves, std::vector<Tensor>{d_o_}); });
    return {forward, backward};
  }

  void save(const std::string& path) {
    io::TensorMap results{{"o", out_.o.detach()}};
    size_t i = 0;
    for (const auto& [name, input] : inputs()) {
      results["d" + name] = gradients_.at(i++);
    }
    io::save_npz(path, results);
  }

 private:
  std::vector<std::pair<std::string, Tensor*>> inputs() {
    return {{"q", &in_.q},
            {"k", &in_.k},
            {"v", &in_.v},
            {"g", &in_.g},
            {"beta", &in_.beta},
            {"A_log", &in_.A_log},
            {"dt_bias", &in_.dt_bias}};
  }

  kda::Inputs in_;
  kda::Options options_;
  Tensor d_o_;
  kda::Output out_;
  std::vector<Tensor> gradients_;
};

void answer(Operator& op, const std::string& line) {
  if (line == "product") {
    fmt::print("{}\n", product_gflops());
  } else if (line == "forward") {
    fmt::print("{}\n", op.forward());
  } else if (line == "both") {
    const auto [forward, backward] = op.both();
    fmt::print("{} {}\n", forward, backward);
  } else if (line.starts_with("save ")) {
    op.save(line.substr(5));
    fmt::print("saved\n");
  } else {
    fail("kda_worker", "the request is '{}', expected product, forward, both or save PATH", line);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  try {
    check(count == 2, "kda_worker", "{} arguments, expected INPUTS.npz", count - 1);
    Operator op(arguments[1]);
    for (std::string line; std::getline(std::cin, line);) {
      answer(op, line);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}

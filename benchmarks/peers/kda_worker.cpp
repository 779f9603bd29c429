// The KDA operator for a script that runs a peer. Usage: kda_worker INPUTS.npz
//
// INPUTS.npz has q, k, v, g (gate logits), beta (logits), A_log, dt_bias and d_o; the operator has the lower-bound
// gate, the norm and the sigmoid within. Each line of input gives one line of output:
//   product    milliseconds of a product of two 1024 x 1024 matrices
//   forward    milliseconds of a forward pass without a tape
//   both       milliseconds of a recorded forward pass, and of its backward pass
//   save PATH  results of the last `both` (o, dq, dk, ...) as .npz
#include <utility>
#include <vector>

#include "benchmarks/peers/worker.h"

namespace {

using namespace deltatape;
using bench::milliseconds;

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

std::string answer(Operator& op, const std::string& line) {
  if (line == "forward") {
    return fmt::format("{}", op.forward());
  }
  if (line == "both") {
    const auto [forward, backward] = op.both();
    return fmt::format("{} {}", forward, backward);
  }
  check(line.starts_with("save "), "kda_worker", "the request is '{}', expected product, forward, both or save PATH",
        line);
  op.save(line.substr(5));
  return "saved";
}

}  // namespace

int main(int count, char** arguments) {
  return bench::run_worker([&] {
    check(count == 2, "kda_worker", "{} arguments, expected INPUTS.npz", count - 1);
    Operator op(arguments[1]);
    bench::serve([&](const std::string& line) { return answer(op, line); });
  });
}

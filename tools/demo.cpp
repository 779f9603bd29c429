#include "tools/demo.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "core/error.h"
#include "tools/command.h"
#include "tools/model_gradients.h"

namespace deltatape::tools {
namespace {

constexpr double kLearnedBelow = 0.8;  // of the loss that byte frequencies give
constexpr size_t kPromptBytes = 40;
constexpr int64_t kSampleBytes = 240;
constexpr int64_t kGradientCheckTokens = 32;

std::string printable(const std::vector<int64_t>& tokens) {
  std::string text;
  for (const int64_t token : tokens) {
    const auto c = static_cast<char>(token);
    text += (c >= ' ' && c <= '~') || c == '\n' ? c : '.';
  }
  return text;
}

void print_sample(const Trainer& trainer, const std::string& prompt) {
  nn::GenerateOptions options;
  options.max_new_tokens = kSampleBytes;
  options.sampling.temperature = 0.7;
  Generator generator(1);
  std::vector<int64_t> tokens;
  for (const char c : prompt) {
    tokens.push_back(static_cast<unsigned char>(c));
  }
  const std::string text = printable(nn::generate(trainer.model(), tokens, options, generator));
  std::string indented = "  | ";
  for (const char c : text) {
    indented += c;
    if (c == '\n') {
      indented += "  | ";
    }
  }
  fmt::print("{}\n\n", indented);
  std::fflush(stdout);
}

void print_introduction(const Trainer& trainer, const TextData& data) {
  const TrainOptions& options = trainer.options();
  const nn::KDAConfig& config = trainer.model().config();
  fmt::print(
      "This trains a language model whose layers are Kimi Delta Attention: a memory matrix per head that every byte "
      "of\n"
      "the text decays, corrects and reads. The model learns to predict the next byte of {} files ({} bytes; the last\n"
      "tenth is kept for validation). It has {} parameters in {} layers, width {}, {} heads of {} x {}. Each of the "
      "{}\n"
      "steps takes {} pieces of {} bytes; the gradients come from the tape, the updates from AdamW.\n\n",
      data.text().files.size(), data.text().bytes.size(), trainer.model().num_parameters(), config.num_hidden_layers,
      config.hidden_size, config.num_heads, config.head_dim, config.layer().head_v_dim(), options.steps, options.batch,
      options.seq_len);
}

bool report_learning(const LoopResult& result, double unigram, double seconds) {
  const double ratio = result.validation.loss / unigram;
  const bool learned = ratio <= kLearnedBelow;
  fmt::print("After {} steps in {:.0f} s:\n", result.last.step, seconds);
  fmt::print("  training loss      {:.4f} nats per byte\n", result.last.loss);
  fmt::print("  validation loss    {:.4f}\n", result.validation.loss);
  fmt::print("  byte frequencies   {:.4f} (what knowing only how often each byte occurs gives)\n", unigram);
  fmt::print("  ratio              {:.3f}, expected at most {}: {}\n\n", ratio, kLearnedBelow,
             learned ? "the model has learned" : "FAILED, the model has not learned enough");
  return learned;
}

bool report_gradients(const Trainer& trainer) {
  const auto derivatives =
      check_model_gradients(trainer.model(), trainer.data().validation(1, kGradientCheckTokens), 1);
  fmt::print(
      "Are the gradients right? The trained model in float64: the derivative of its loss along a random direction in\n"
      "every parameter, from the tape (analytic) and from differences of the loss itself (numeric):\n\n");
  to_table(derivatives).print(stdout);
  const bool ok = all_ok(derivatives);
  double worst = 0.0;
  for (const auto& row : derivatives) {
    worst = std::max(worst, row.relative_error);
  }
  fmt::print("\n{} of {} parameters checked, worst relative error {:.1e}: {}\n\n", derivatives.size(),
             derivatives.size(), worst, ok ? "the gradients are right" : "FAILED, at least one gradient is wrong");
  return ok;
}

}  // namespace

nn::KDAConfig demo_config(int64_t vocabulary) {
  nn::KDAConfig config;
  config.hidden_size = 128;
  config.num_heads = 2;
  config.head_dim = 64;
  config.intermediate_size = 384;
  config.num_hidden_layers = 2;
  config.vocab_size = vocabulary;
  return config;
}

TrainOptions demo_options(bool quick) {
  TrainOptions options;
  options.steps = quick ? 150 : 600;
  options.batch = 8;
  options.seq_len = quick ? 128 : 256;
  options.lr = 3e-3;
  options.schedule = "cosine";
  options.warmup_steps = 20;
  options.weight_decay = 0.3;
  options.eval_every = 50;
  options.checkpoint_every = 100;
  return options;
}

int run_demo(Trainer& trainer, OutputFolder* out) {
  const auto* data = dynamic_cast<const TextData*>(&trainer.data());
  check(data != nullptr, "--demo", "--task is given, expected --text");
  const auto start = std::chrono::steady_clock::now();
  const std::string_view validation = data->split().validation;
  const size_t line_end = validation.find('\n');  // the prompt begins where a line does
  const std::string prompt(validation.substr(line_end == std::string_view::npos ? 0 : line_end + 1, kPromptBytes));
  print_introduction(trainer, *data);
  fmt::print("What the model makes of a prompt before training:\n\n");
  print_sample(trainer, prompt);

  const LoopResult result = run_training_loop(trainer, out);
  if (result.end != LoopEnd::done) {
    fmt::print(stderr, "deltatape train: the run ended after step {} with loss {}\n", trainer.steps_done(),
               result.last.loss);
    return kFailed;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const bool learned = report_learning(result, data->unigram_loss().value(), seconds.count());
  fmt::print("The same prompt after training:\n\n");
  print_sample(trainer, prompt);
  const bool right = report_gradients(trainer);
  if (out != nullptr) {
    fmt::print("The model:              {}\n", (out->path() / "model.safetensors").string());
    fmt::print("The losses as a table:  {}\n", (out->path() / "metrics.csv").string());
    if (std::filesystem::exists(out->path() / "loss.png")) {
      fmt::print("The losses, drawn:      {}\n", (out->path() / "loss.png").string());
    }
    fmt::print("More text from it:      deltatape generate --model {} --prompt 'The '\n", out->path().string());
  }
  return learned && right ? kFine : kFailed;
}

}  // namespace deltatape::tools

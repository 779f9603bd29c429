#include "tools/training_loop.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <system_error>

#include "core/error.h"
#include "io/file.h"
#include "tools/model_gradients.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"

namespace deltatape::tools {
namespace {

namespace fs = std::filesystem;

// Whether it is the temporary name of a file that an OutputFolder writes: NAME.PID.partial, and gnuplot's two.
bool is_left_over(const std::string& file) {
  if (file == "loss.png.partial" || file == "loss.png.gnuplot.partial") {
    return true;
  }
  const size_t ending = file.rfind(".partial");
  if (ending == std::string::npos || ending + 8 != file.size() || ending == 0) {
    return false;
  }
  const size_t digits = file.find_last_not_of("0123456789", ending - 1);
  if (digits == std::string::npos || digits + 1 == ending || file[digits] != '.') {
    return false;
  }
  const std::string name = file.substr(0, digits);
  constexpr std::array<const char*, 7> kNames = {
      "config.json",   "train.json",  "checkpoint.safetensors",  "model.safetensors",
      "metrics.jsonl", "metrics.csv", "loss.png.gnuplot.partial"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

fs::path prepare(const fs::path& folder, const Trainer& trainer) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "--out", "{} cannot be made: {}", folder.string(), error.message());
  const bool fresh = trainer.steps_done() == 0;
  for (const char* name : {"checkpoint.safetensors", "metrics.jsonl", "metrics.csv", "loss.png"}) {
    if (fresh) {
      fs::remove(folder / name, error);
    }
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (is_left_over(entry.path().filename().string())) {  // of a run that was killed while it wrote
      fs::remove(entry.path(), error);
    }
  }
  io::write_file("--out", folder / "config.json", trainer.model().config().to_json() + "\n");
  io::write_file("--out", folder / "train.json", to_json(trainer.options()).dump(2) + "\n");
  return folder;
}

std::string progress_text(const StepMetrics& metrics) {
  return fmt::format("loss {:.4f}  {:.0f} tokens/s", metrics.loss, metrics.tokens_per_s);
}

bool is_due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

// A short batch, since every parameter costs four passes in float64.
bool gradients_hold(const Trainer& trainer) {
  const Batch batch = trainer.data().validation(1, std::min<int64_t>(trainer.options().seq_len, 32));
  const auto derivatives = check_model_gradients(trainer.model(), batch, static_cast<uint64_t>(trainer.steps_done()));
  if (!all_ok(derivatives)) {
    to_table(derivatives).print(stderr);
    return false;
  }
  return true;
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& folder, const Trainer& trainer)
    : OutputFolder(folder, trainer, read_metrics(folder, trainer.steps_done())) {}

OutputFolder::OutputFolder(const fs::path& folder, const Trainer& trainer, std::vector<StepMetrics> metrics)
    : folder_(prepare(folder, trainer)), metrics_(folder_, std::move(metrics)) {}

void OutputFolder::save(const Trainer& trainer) {
  const io::Checkpoint state = trainer.checkpoint();
  io::save_checkpoint(folder_ / "checkpoint.safetensors", state);
  io::save_safetensors(folder_ / "model.safetensors", state.model, {{"format", "pt"}});
  metrics_.write_csv();
  const std::string problem = metrics_.draw(trainer.data().unigram_loss());
  if (!problem.empty() && !picture_problem_told_) {
    spdlog::warn("no picture of the loss: {}", problem);
    picture_problem_told_ = true;
  }
}

LoopResult run_training_loop(Trainer& trainer, OutputFolder* out) {
  const TrainOptions& options = trainer.options();
  const StopSignals signals;
  Progress progress(trainer.steps_done(), options.steps);
  LoopResult result;
  while (trainer.steps_done() < options.steps && result.end == LoopEnd::done) {
    if (is_due(options.check_gradients, trainer.steps_done()) && !gradients_hold(trainer)) {
      result.end = LoopEnd::gradient_miss;
      break;
    }
    result.last = trainer.step();
    const int64_t done = trainer.steps_done();
    if (!std::isfinite(result.last.loss) || !std::isfinite(result.last.grad_norm)) {
      result.end = LoopEnd::not_finite;
    } else if (signals.asked()) {
      result.end = LoopEnd::interrupted;
    } else if (is_due(options.eval_every, done) && done < options.steps) {
      const Evaluation validation = trainer.evaluate(kEvaluationRows);
      result.last.val_loss = validation.loss;
      if (trainer.data().counts_answers()) {
        result.last.val_accuracy = validation.accuracy;
      }
    }
    if (done == options.steps) {
      result.validation = trainer.evaluate(kFinalEvaluationRows);
      result.last.val_loss = result.validation.loss;
      if (trainer.data().counts_answers()) {
        result.last.val_accuracy = result.validation.accuracy;
      }
    }
    if (out != nullptr) {
      out->metrics().add(result.last);
      if (result.end == LoopEnd::interrupted || done == options.steps || is_due(options.checkpoint_every, done)) {
        out->save(trainer);
      }
    }
    progress.update(done, progress_text(result.last));
  }
  if (result.end == LoopEnd::done && !std::isfinite(result.validation.loss)) {
    result.end = LoopEnd::not_finite;
  }
  return result;
}

}  // namespace deltatape::tools

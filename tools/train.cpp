// deltatape train: trains a KDA language model on text or on a synthetic task.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <limits>
#include <memory>

#include "core/error.h"
#include "io/file.h"
#include "tools/command.h"
#include "tools/demo.h"
#include "tools/training_loop.h"

namespace deltatape::tools {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

struct TrainArguments {
  TrainOptions options;  // as given; what was not given has the default
  std::string config;
  std::string out;
  bool resume = false;
  bool demo = false;
  bool quick = false;

  // An option of the command line, and how its value gets into another TrainOptions.
  struct Binding {
    CLI::Option* option;
    std::function<void(TrainOptions&, const TrainOptions&)> copy;
  };
  std::vector<Binding> bindings;

  template <class T>
  CLI::Option* bind(CLI::App& app, const std::string& name, T TrainOptions::*member, const std::string& help) {
    CLI::Option* option = app.add_option(name, options.*member, help);
    if constexpr (!std::is_same_v<T, std::vector<std::string>> && !std::is_same_v<T, std::string>) {
      option->capture_default_str();
    }
    bindings.push_back({option, [member](TrainOptions& to, const TrainOptions& from) { to.*member = from.*member; }});
    return option;
  }

  /// `base` with everything that the command line gives.
  [[nodiscard]] TrainOptions over(TrainOptions base) const {
    for (const Binding& binding : bindings) {
      if (binding.option->count() > 0) {
        binding.copy(base, options);
      }
    }
    return base;
  }
};

TrainOptions resolve_options(const TrainArguments& arguments) {
  if (!arguments.resume) {
    return arguments.over(arguments.demo ? demo_options(arguments.quick) : TrainOptions());
  }
  check(!arguments.out.empty(), "--resume", "no --out is given, expected the folder of the run to go on with");
  check(arguments.config.empty(), "--resume", "--config is given too, expected the model of the run itself");
  const std::filesystem::path folder = arguments.out;
  check(std::filesystem::exists(folder / "checkpoint.safetensors"), "--resume",
        "{} does not exist, expected the checkpoint of a run", (folder / "checkpoint.safetensors").string());
  const TrainOptions begun = load_train_options(folder / "train.json");
  const TrainOptions& given = arguments.options;
  check(given.text.empty() || begun.task.empty(), "--resume", "--text is given, the run was begun with --task {}",
        begun.task);
  check(given.task.empty() || given.task == begun.task, "--resume", "--task is {}, the run was begun with {}",
        given.task, begun.task.empty() ? "--text" : "--task " + begun.task);
  return arguments.over(begun);
}

std::unique_ptr<Data> load_data(const TrainOptions& options) {
  check(options.text.empty() != options.task.empty(), "train", "{}, expected one of --text and --task",
        options.task.empty() ? "neither --text nor --task is given" : "both --text and --task are given");
  if (!options.task.empty()) {
    return make_task(options.task, options.seq_len);
  }
  const std::vector<std::filesystem::path> paths(options.text.begin(), options.text.end());
  io::Text text = io::load_text(paths);
  for (const auto& path : text.left_out) {
    spdlog::info("left out: {} (binary or not readable)", path.string());
  }
  return std::make_unique<TextData>(std::move(text), options.seq_len);
}

nn::KDAConfig load_config(const TrainArguments& arguments, const Data& data) {
  std::string file = arguments.config;
  if (arguments.resume) {
    file = (std::filesystem::path(arguments.out) / "config.json").string();
  }
  if (file.empty()) {
    return demo_config(data.vocabulary());
  }
  const std::string text = io::read_file("--config", file);
  try {
    return nn::KDAConfig::from_json(text);
  } catch (const Error& error) {
    fail("--config", "{}: {}", file, error.what());
  }
}

void print_summary(const Trainer& trainer, const LoopResult& result, const std::string& out) {
  fmt::print("steps            {}\n", trainer.steps_done());
  fmt::print("training loss    {:.4f} nats per token\n", result.last.loss);
  fmt::print("validation loss  {:.4f}\n", result.validation.loss);
  if (trainer.data().counts_answers()) {
    fmt::print("right answers    {:.2f} %\n", 100.0 * result.validation.accuracy);
  }
  if (const auto unigram = trainer.data().unigram_loss()) {
    fmt::print("byte frequencies {:.4f} (validation loss / this = {:.3f})\n", *unigram,
               result.validation.loss / *unigram);
  }
  if (!out.empty()) {
    fmt::print("results          {}\n", out);
  }
}

int report_end(const Trainer& trainer, const LoopResult& result, const std::string& out) {
  switch (result.end) {
    case LoopEnd::done:
      return kFine;
    case LoopEnd::interrupted:
      fmt::print(stderr, "deltatape train: stopped after step {}{}\n", trainer.steps_done(),
                 out.empty() ? "" : "; --resume goes on from there");
      return kFailed;
    case LoopEnd::not_finite:
      fmt::print(stderr, "deltatape train: step {} has loss {} and gradient norm {}, expected finite numbers\n",
                 result.last.step, result.last.loss, result.last.grad_norm);
      return kFailed;
    case LoopEnd::gradient_miss:
      fmt::print(stderr, "deltatape train: the gradient check after step {} failed\n", trainer.steps_done());
      return kFailed;
  }
  return kFailed;
}

int run_train(const TrainArguments& arguments) {
  const TrainOptions options = resolve_options(arguments);
  if (options.threads > 0) {
    set_threads(options.threads);
  }
  auto data = load_data(options);
  const nn::KDAConfig config = load_config(arguments, *data);
  Trainer trainer(config, std::move(data), options);
  if (arguments.resume) {
    trainer.restore(io::load_checkpoint(std::filesystem::path(arguments.out) / "checkpoint.safetensors"));
    if (trainer.steps_done() >= options.steps) {
      fmt::print("nothing to do: {} steps of {} are done\n", trainer.steps_done(), options.steps);
      return kFine;
    }
  }
  std::unique_ptr<OutputFolder> out;
  if (!arguments.out.empty()) {
    out = std::make_unique<OutputFolder>(arguments.out, trainer);
  }
  if (arguments.demo) {
    return run_demo(trainer, out.get());
  }
  const LoopResult result = run_training_loop(trainer, out.get());
  const int exit_code = report_end(trainer, result, arguments.out);
  if (exit_code == kFine) {
    print_summary(trainer, result, arguments.out);
  }
  return exit_code;
}

void add_data_options(CLI::App& app, TrainArguments& arguments) {
  CLI::Option* text = arguments.bind(app, "--text", &TrainOptions::text,
                                     "Files and folders of text; bytes are tokens, the last tenth is for validation");
  text->type_name("PATH...");
  arguments.bind(app, "--task", &TrainOptions::task, "A synthetic task instead: palindrome, mqar or stack")
      ->check(one_of({"palindrome", "mqar", "stack"}));
  app.add_option("--config", arguments.config, "The model, in the keys of FLA's config.json (default: a small one)")
      ->type_name("FILE.json");
  app.add_option("--out", arguments.out, "Folder for the model, the record of the run and the picture of the loss")
      ->type_name("DIR");
  app.add_flag("--resume", arguments.resume, "Go on with the run in DIR; options given here replace its own");
}

void add_graph_option(CLI::App& app, TrainArguments& arguments) {
  CLI::Option* option = app.add_flag("--cuda-graph", arguments.options.cuda_graph,
                                     "With --device cuda: record a step once and replay it, for small models");
  arguments.bindings.push_back(
      {option, [](TrainOptions& to, const TrainOptions& from) { to.cuda_graph = from.cuda_graph; }});
}

void add_run_options(CLI::App& app, TrainArguments& arguments) {
  const auto bind = [&](const char* name, auto member, const char* help) {
    return arguments.bind(app, name, member, help);
  };
  bind("--steps", &TrainOptions::steps, "Updates of the whole run")->check(integer_from(1));
  bind("--batch", &TrainOptions::batch, "Rows per update")->check(integer_from(1));
  bind("--seq-len", &TrainOptions::seq_len, "Tokens per row")->check(integer_from(1));
  bind("--lr", &TrainOptions::lr, "Highest learning rate of AdamW")->check(number_in(0, kNoLimit));
  bind("--schedule", &TrainOptions::schedule,
       "After the warm-up: constant, cosine, or wsd (linear over the last fifth)")
      ->check(one_of({"constant", "cosine", "wsd"}))
      ->capture_default_str();
  bind("--warmup-steps", &TrainOptions::warmup_steps, "Steps of linear warm-up")->check(integer_from(0));
  bind("--weight-decay", &TrainOptions::weight_decay, "AdamW's, for matrices")->check(number_in(0, kNoLimit));
  bind("--grad-clip", &TrainOptions::grad_clip_norm, "Largest norm of the gradient, 0 for no limit")
      ->check(number_in(0, kNoLimit));
  bind("--seed", &TrainOptions::seed, "Of initial parameters and batches")->check(integer_from(0));
  bind("--impl", &TrainOptions::impl, kImplementationHelp)
      ->check(one_of({"composed", "auto", "fused"}))
      ->capture_default_str();
  bind("--device", &TrainOptions::device, "cpu or cuda")->capture_default_str();
  add_graph_option(app, arguments);
  bind("--threads", &TrainOptions::threads, "CPU threads, 0 for all")->check(integer_in(0, kMostThreads));
  bind("--eval-every", &TrainOptions::eval_every, "Steps between validations, 0 for none before the end")
      ->check(integer_from(0));
  bind("--checkpoint-every", &TrainOptions::checkpoint_every, "Steps between checkpoints, 0 for none before the end")
      ->check(integer_from(0));
  bind("--check-gradients", &TrainOptions::check_gradients,
       "Every N steps hold the gradients against central differences in f64; a miss ends the run")
      ->check(integer_from(0));
}

}  // namespace

void add_train(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("train", "Train a KDA language model on text or on a synthetic task");
  auto arguments = std::make_shared<TrainArguments>();
  add_data_options(app, *arguments);
  add_run_options(app, *arguments);
  app.add_flag("--demo", arguments->demo, "A guided run of a few minutes that shows what this program does");
  app.add_flag("--quick", arguments->quick, "With --demo: about 30 seconds")->needs("--demo");
  app.footer(
      "Writes DIR/config.json, train.json, model.safetensors, checkpoint.safetensors, metrics.jsonl, metrics.csv, "
      "loss.png.\n\n"
      "Example:\n  deltatape train --text docs README.md --out run --steps 500\n"
      "  deltatape train --out run --resume --steps 1000");
  app.callback([&action, arguments] { action = [arguments] { return run_train(*arguments); }; });
}

}  // namespace deltatape::tools

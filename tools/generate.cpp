// deltatape generate: continues a prompt with a model that was trained on bytes.
#include "nn/generate.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tools/checkpoint_model.h"
#include "tools/command.h"
#include "tools/table.h"

namespace deltatape::tools {
namespace {

struct GenerateArguments {
  std::string model;
  std::string prompt;
  int64_t max_tokens = 200;
  double temperature = 0.8;
  int64_t top_k = 0;
  double top_p = 1.0;
  uint64_t seed = 0;
  int64_t threads = 0;
  std::string device = "cpu";
  std::string json;
};

int run_generate(const GenerateArguments& arguments) {
  check(!arguments.prompt.empty(), "--prompt", "the text is empty, expected at least one byte");
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  const Device device = Device::parse("--device", arguments.device);
  const auto model = load_model(arguments.model);
  check(model->config().vocab_size >= 256, "--model", "{} has a vocabulary of {} tokens, expected 256 or more (bytes)",
        arguments.model, model->config().vocab_size);
  if (!arguments.json.empty()) {
    check_writable("--json", arguments.json);
  }
  model->to(device);

  std::vector<int64_t> prompt;
  for (const char c : arguments.prompt) {
    prompt.push_back(static_cast<unsigned char>(c));
  }
  nn::GenerateOptions options;
  options.max_new_tokens = arguments.max_tokens;
  options.sampling = {arguments.temperature, arguments.top_k, arguments.top_p};
  options.on_token = [](int64_t token) {
    std::fputc(static_cast<int>(token & 0xff), stdout);
    std::fflush(stdout);
    return true;
  };
  Generator generator(arguments.seed);
  fmt::print("{}", arguments.prompt);
  const std::vector<int64_t> tokens = nn::generate(*model, prompt, options, generator);
  fmt::print("\n");
  if (!arguments.json.empty()) {
    write_json(arguments.json, {{"prompt_tokens", prompt.size()}, {"tokens", tokens}});
  }
  return kFine;
}

}  // namespace

void add_generate(CLI::App& program, Action& action) {
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  CLI::App& app = *program.add_subcommand("generate", "Continue a prompt with a trained model");
  auto arguments = std::make_shared<GenerateArguments>();
  app.add_option("--model", arguments->model, "Folder with config.json and model.safetensors")
      ->required()
      ->type_name("DIR");
  app.add_option("--prompt", arguments->prompt, "The text to continue")->required()->type_name("TEXT");
  app.add_option("--max-tokens", arguments->max_tokens, "Bytes to add")->check(integer_from(0))->capture_default_str();
  app.add_option("--temperature", arguments->temperature, "0: always the most likely byte")
      ->check(number_in(0, kNoLimit))
      ->capture_default_str();
  app.add_option("--top-k", arguments->top_k, "Only the k most likely bytes, 0 for all")
      ->check(integer_from(0))
      ->capture_default_str();
  app.add_option("--top-p", arguments->top_p, "Only the most likely bytes that together reach this probability")
      ->check(share())
      ->capture_default_str();
  app.add_option("--seed", arguments->seed, "Of the draws")->check(integer_from(0))->capture_default_str();
  app.add_option("--device", arguments->device, "cpu or cuda")->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.add_option("--json", arguments->json, "Write the tokens as JSON")->type_name("FILE");
  app.footer("Example:\n  deltatape generate --model run --prompt 'The licence ' --max-tokens 300 --temperature 0.7");
  app.callback([&action, arguments] { action = [arguments] { return run_generate(*arguments); }; });
}

}  // namespace deltatape::tools

#include "tools/metrics.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tools/gnuplot.h"

namespace deltatape::tools {
namespace {

using nlohmann::ordered_json;

std::string to_line(const StepMetrics& metrics) {
  ordered_json line = {{"step", metrics.step},
                       {"loss", metrics.loss},
                       {"lr", metrics.lr},
                       {"grad_norm", metrics.grad_norm},
                       {"tokens_per_s", metrics.tokens_per_s}};
  if (metrics.val_loss) {
    line["val_loss"] = *metrics.val_loss;
  }
  if (metrics.val_accuracy) {
    line["val_accuracy"] = *metrics.val_accuracy;
  }
  return line.dump() + "\n";
}

StepMetrics from_line(const std::string& text) {
  const ordered_json line = ordered_json::parse(text);
  StepMetrics metrics;
  metrics.step = line.at("step").get<int64_t>();
  // A loss that is not finite is null in JSON.
  const auto number = [&](const char* key) {
    return line.at(key).is_null() ? std::nan("") : line.at(key).get<double>();
  };
  metrics.loss = number("loss");
  metrics.lr = number("lr");
  metrics.grad_norm = number("grad_norm");
  metrics.tokens_per_s = number("tokens_per_s");
  if (line.contains("val_loss")) {
    metrics.val_loss = number("val_loss");
  }
  if (line.contains("val_accuracy")) {
    metrics.val_accuracy = number("val_accuracy");
  }
  return metrics;
}

}  // namespace

std::vector<StepMetrics> read_metrics(const std::filesystem::path& folder, int64_t count) {
  const auto path = folder / "metrics.jsonl";
  std::vector<StepMetrics> steps;
  if (count == 0 || !std::filesystem::exists(path)) {
    return steps;
  }
  const std::string text = io::read_file("metrics", path);
  size_t start = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
    try {
      const StepMetrics metrics = from_line(text.substr(start, end - start));
      if (metrics.step <= count) {
        steps.push_back(metrics);
      }
    } catch (const nlohmann::json::exception& error) {
      fail("metrics", "{} has a line that is no record of a step: {}", path.string(), error.what());
    }
    start = end + 1;
  }
  return steps;
}

MetricsLog::MetricsLog(std::filesystem::path folder, std::vector<StepMetrics> steps)
    : folder_(std::move(folder)), steps_(std::move(steps)) {
  const auto path = folder_ / "metrics.jsonl";
  std::string kept;
  for (const StepMetrics& metrics : steps_) {
    kept += to_line(metrics);
  }
  io::write_file("metrics", path, kept);
  file_.reset(std::fopen(path.c_str(), "ab"));
  check(file_ != nullptr, "metrics", "{} cannot be written: {}", path.string(), std::strerror(errno));
}

void MetricsLog::add(const StepMetrics& metrics) {
  steps_.push_back(metrics);
  const std::string line = to_line(metrics);
  const bool written =
      std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size() && std::fflush(file_.get()) == 0;
  check(written, "metrics", "{} cannot be written: {}", (folder_ / "metrics.jsonl").string(), std::strerror(errno));
}

void MetricsLog::write_csv() const {
  std::string text = "step,loss,lr,grad_norm,tokens_per_s,val_loss,val_accuracy\n";
  const auto optional_number = [](std::optional<double> value) { return value ? fmt::format("{}", *value) : ""; };
  for (const StepMetrics& metrics : steps_) {
    text += fmt::format("{},{},{},{},{},{},{}\n", metrics.step, metrics.loss, metrics.lr, metrics.grad_norm,
                        metrics.tokens_per_s, optional_number(metrics.val_loss), optional_number(metrics.val_accuracy));
  }
  io::write_file("metrics", folder_ / "metrics.csv", text);
}

std::string MetricsLog::draw(std::optional<double> reference) const {
  std::string training;
  std::string validation;
  for (const StepMetrics& metrics : steps_) {
    if (std::isfinite(metrics.loss)) {
      training += fmt::format("{} {}\n", metrics.step, metrics.loss);
    }
    if (metrics.val_loss && std::isfinite(*metrics.val_loss)) {
      validation += fmt::format("{} {}\n", metrics.step, *metrics.val_loss);
    }
  }
  if (training.empty()) {
    return "no step has a finite loss";
  }
  std::string script = fmt::format("$training << END\n{}END\n", training);
  std::string plot = "plot $training with lines lc rgb '#9ecae1' title 'training'";
  if (!validation.empty()) {
    script += fmt::format("$validation << END\n{}END\n", validation);
    plot += ", $validation with linespoints lw 2 pt 7 ps 0.6 lc rgb '#08519c' title 'validation'";
  }
  if (reference) {
    plot += fmt::format(", {} with lines dt 2 lc rgb '#636363' title 'byte frequencies alone'", *reference);
  }
  script += "set xlabel 'step'\nset ylabel 'loss (nats per token)'\nset yrange [0:*]\nset grid\nset key top right\n";
  return draw_png(folder_ / "loss.png", script + plot);
}

}  // namespace deltatape::tools

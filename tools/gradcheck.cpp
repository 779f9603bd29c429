// deltatape gradcheck: random KDA cases, every implementation against the tape and against central differences.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "core/error.h"
#include "harness/kda/kda.h"
#include "io/file.h"
#include "tools/command.h"
#include "tools/kda_check.h"
#include "tools/kda_run.h"
#include "tools/progress.h"
#include "tools/table.h"

namespace deltatape::tools {
namespace {

struct GradcheckArguments {
  std::string shape;
  std::string gate;
  bool varlen = false;
  std::string dtype = "f64";
  std::string device = "cpu";
  int64_t seeds = 20;
  int64_t first_seed = 0;
  std::string impl;
  int64_t threads = 0;
  std::string report;
  std::string json;
};

std::array<int64_t, 6> parse_shape(const std::string& text) {
  const auto parts = split_at_commas(text);
  std::array<int64_t, 6> shape{};
  bool ok = parts.size() == shape.size();
  for (size_t i = 0; ok && i < shape.size(); ++i) {
    std::string part = parts[i];
    ok = integer_from(1)(part).empty();
    shape[i] = ok ? std::stoll(part) : 0;
  }
  check(ok, "--shape", "'{}' is not B,T,H,HV,K,V (six integers of 1 or more)", text);
  check(shape[3] % shape[2] == 0, "--shape", "HV is {}, expected a multiple of H = {}", shape[3], shape[2]);
  return shape;
}

// The harness' space, as far as the options leave it: small shapes, f64, what central differences can resolve.
harness::Space parse_space(const GradcheckArguments& arguments) {
  harness::Space space = harness::kda_space();
  space.restrict("dtype=f64,T=1..40,B=1..2,H=1..2,group=1..2,K=1..9,V=1..9,norms=unit,loss=o|both");
  if (arguments.varlen) {
    space.restrict("packing=cu_seqlens");
  }
  if (!arguments.gate.empty()) {
    space.restrict("gate=" + arguments.gate);
  }
  if (!arguments.shape.empty()) {
    const auto [B, T, H, HV, K, V] = parse_shape(arguments.shape);
    check(!arguments.varlen || B == 1, "--shape", "B is {}, expected 1 with --varlen", B);
    space.restrict(fmt::format("B={},T={},H={},group={},K={},V={}", B, T, H, HV / H, K, V));
    if (!arguments.varlen) {
      space.restrict("packing=rows|segment_ids");  // cu_seqlens would need B = 1
    }
  }
  return space;
}

std::vector<std::string> parse_implementations(const std::string& text) {
  if (text.empty()) {
    return kda_implementations();
  }
  auto chosen = split_at_commas(text);
  for (const std::string& impl : chosen) {
    kda_implementation(impl);  // throws when there is none of this name
  }
  return chosen;
}

// A row per implementation, opponent and tensor: how many comparisons, how many failed, the worst.
Table summarize(const std::vector<CheckRow>& rows) {
  struct Summary {
    int64_t count = 0;
    int64_t failed = 0;
    double worst = 0.0;  // of error / limit
  };
  std::vector<std::string> order;
  std::map<std::string, std::pair<const CheckRow*, Summary>> summaries;
  for (const CheckRow& row : rows) {
    const std::string key = row.impl + "|" + row.against + "|" + row.tensor;
    if (summaries.count(key) == 0) {
      order.push_back(key);
      summaries[key].first = &row;
    }
    Summary& summary = summaries[key].second;
    ++summary.count;
    summary.failed += row.ok ? 0 : 1;
    const double share = row.limit > 0 ? row.error / row.limit : 0.0;
    summary.worst = share > summary.worst || !(share == share) ? share : summary.worst;
  }
  // Not every case has every tensor, so the order of first appearance would scatter an implementation's rows.
  std::stable_sort(order.begin(), order.end(), [](const std::string& a, const std::string& b) {
    return a.substr(0, a.rfind('|')) < b.substr(0, b.rfind('|'));
  });
  Table table({"impl", "against", "tensor", "comparisons", "failed", "worst_share_of_limit"});
  for (const std::string& key : order) {
    const auto& [row, summary] = summaries[key];
    table.add_row({row->impl, row->against, row->tensor, summary.count, summary.failed, Cell(summary.worst, 1)});
  }
  return table;
}

Table all_rows(const std::vector<CheckRow>& rows) {
  Table table({"seed", "case", "impl", "against", "tensor", "error", "limit", "verdict", "note"});
  for (const CheckRow& row : rows) {
    table.add_row({static_cast<int64_t>(row.seed), row.description, row.impl, row.against, row.tensor, Cell(row.error),
                   Cell(row.limit), row.ok ? "ok" : "FAILED", row.note});
  }
  return table;
}

std::string html_table(const Table& table) {
  const auto escaped = [](const std::string& text) {
    std::string result;
    for (const char c : text) {
      result += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
    }
    return result;
  };
  std::string html = "<table><tr>";
  for (const std::string& column : table.columns()) {
    html += "<th>" + escaped(column) + "</th>";
  }
  html += "</tr>\n";
  for (const auto& row : table.rows()) {
    const bool failed = std::any_of(row.begin(), row.end(), [](const Cell& cell) { return cell.text == "FAILED"; });
    html += failed ? "<tr class=\"failed\">" : "<tr>";
    for (const Cell& cell : row) {
      html += "<td>" + escaped(cell.text) + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

void write_report(const std::string& path, const std::vector<CheckRow>& rows, const std::string& verdict) {
  const std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Gradient check</title>\n"
      "<style>body{{font-family:sans-serif;margin:2em}}table{{border-collapse:collapse;margin:1em 0}}"
      "th,td{{border:1px solid #ccc;padding:2px 8px;text-align:left;font-variant-numeric:tabular-nums}}"
      "th{{background:#eee}}tr.failed{{background:#fcc}}</style></head><body>\n"
      "<h1>Gradient check of Kimi Delta Attention</h1>\n<p><b>{}</b></p>\n"
      "<p>differences: gradients against central differences in float64 along random directions. "
      "recurrent f64: outputs and gradients against the step-by-step recurrence on the tape.</p>\n"
      "<h2>Summary</h2>\n{}<h2>All comparisons</h2>\n{}</body></html>\n",
      verdict, html_table(summarize(rows)), html_table(all_rows(rows)));
  io::write_file("--report", path, html);
}

int run_gradcheck(const GradcheckArguments& arguments) {
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  const harness::Space space = parse_space(arguments);
  const auto implementations = parse_implementations(arguments.impl);
  const DType dtype = parse_dtype("--dtype", arguments.dtype);
  const Device device = Device::parse("--device", arguments.device);
  for (const auto& [option, path] : {std::pair{"--report", arguments.report}, std::pair{"--json", arguments.json}}) {
    if (!path.empty()) {
      check_writable(option, path);
    }
  }

  std::vector<CheckRow> rows;
  {
    Progress progress(0, arguments.seeds);
    for (int64_t i = 0; i < arguments.seeds; ++i) {
      const harness::Settings settings = space.draw(static_cast<uint64_t>(arguments.first_seed + i));
      const KdaCase kda_case = drawn_case(space.make(settings), space.text(settings));
      for (const std::string& impl : implementations) {
        const auto differences = check_against_differences(kda_case, impl);
        rows.insert(rows.end(), differences.begin(), differences.end());
        if (impl != "recurrent" || dtype != DType::f64) {
          const auto recurrence = check_against_recurrence(kda_case, impl, dtype, device);
          rows.insert(rows.end(), recurrence.begin(), recurrence.end());
        }
      }
      progress.update(i + 1, fmt::format("{} comparisons", rows.size()));
    }
  }
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const CheckRow& row) { return !row.ok; });
  const std::string verdict =
      fmt::format("{} comparisons passed, {} failed", static_cast<int64_t>(rows.size()) - failed, failed);
  summarize(rows).print(stdout);
  for (const CheckRow& row : rows) {
    if (!row.ok) {
      fmt::print("FAILED: seed {} ({}): {} of {} against {}: error {:.2e}, limit {:.2e}; {}\n", row.seed,
                 row.description, row.tensor, row.impl, row.against, row.error, row.limit, row.note);
    }
  }
  if (!arguments.report.empty()) {
    write_report(arguments.report, rows, verdict);
  }
  if (!arguments.json.empty()) {
    write_json(arguments.json, all_rows(rows).to_json());
  }
  fmt::print("{}\n", verdict);
  return failed == 0 ? kFine : kFailed;
}

}  // namespace

void add_gradcheck(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("gradcheck", "Check gradients of KDA on random cases");
  auto arguments = std::make_shared<GradcheckArguments>();
  app.add_option("--shape", arguments->shape, "Fix the shape (default: drawn per case)")->type_name("B,T,H,HV,K,V");
  app.add_option("--gate", arguments->gate, "Fix the gate: none, standard or lower-bound")
      ->check(one_of({"none", "standard", "lower-bound"}));
  app.add_flag("--varlen", arguments->varlen, "Packed sequences in every case");
  app.add_option("--dtype", arguments->dtype, "Of what is held against the recurrence: f64, f32, bf16 or f16")
      ->check(one_of({"f64", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--device", arguments->device, "cpu or cuda")->capture_default_str();
  app.add_option("--seeds", arguments->seeds, "Number of cases")->check(integer_from(1))->capture_default_str();
  app.add_option("--first-seed", arguments->first_seed, "Seed of the first case; a failed case says its own")
      ->check(integer_from(0))
      ->capture_default_str();
  app.add_option("--impl", arguments->impl,
                 "Comma-separated: recurrent, chunk, fused-recurrent, fused-chunk (default: all)")
      ->type_name("LIST");
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.add_option("--report", arguments->report, "Write a page with every comparison")->type_name("FILE.html");
  app.add_option("--json", arguments->json, "Write every comparison as JSON")->type_name("FILE");
  app.footer(
      "Central differences always run in f64; --dtype is that of the implementation held against the recurrence.\n\n"
      "Example:\n  deltatape gradcheck --seeds 50 --gate lower-bound --report report.html");
  app.callback([&action, arguments] { action = [arguments] { return run_gradcheck(*arguments); }; });
}

}  // namespace deltatape::tools

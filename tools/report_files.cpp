#include "tools/report_files.h"

#include <fmt/format.h>

#include "harness/report/writers.h"
#include "io/file.h"
#include "tools/command.h"
#include "tools/table.h"

namespace deltatape::tools {

void add_report_options(CLI::App& app, ReportFiles& files) {
  app.add_option("--json", files.json, "Write everything as JSON")->type_name("FILE");
  app.add_option("--html", files.html, "Write a page with plots")->type_name("FILE");
  app.add_option("--junit", files.junit, "Write JUnit XML")->type_name("FILE");
}

void check_writable(const ReportFiles& files) {
  for (const auto& [option, path] :
       {std::pair{"--json", &files.json}, std::pair{"--html", &files.html}, std::pair{"--junit", &files.junit}}) {
    if (!path->empty()) {
      check_writable(option, *path);
    }
  }
}

int publish(const harness::Report& report, const ReportFiles& files) {
  if (!files.json.empty()) {
    io::write_file("--json", files.json, harness::to_json(report));
  }
  if (!files.html.empty()) {
    io::write_file("--html", files.html, harness::to_html(report));
  }
  if (!files.junit.empty()) {
    io::write_file("--junit", files.junit, harness::to_junit(report));
  }
  fmt::print("{}", harness::to_text(report));
  return report.passed() ? kFine : kFailed;
}

}  // namespace deltatape::tools

// Report and its writers, on reports that no check has made.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "harness/report/markup.h"
#include "harness/report/rows.h"
#include "harness/report/text_table.h"
#include "harness/report/writers.h"
#include "tests/harness/report/synthetic_report.h"

using namespace deltatape;
using harness::CaseReport;
using harness::Judgement;
using harness::Report;
using harness::Verdict;
using Status = CaseReport::Status;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

CaseReport a_case(const std::string& text, Status status, std::vector<Judgement> judgements = {}) {
  CaseReport c;
  c.text = text;
  c.settings.set("T", int64_t{65});
  c.settings.set("gate", std::string("standard"));
  c.status = status;
  c.judgements = std::move(judgements);
  c.seconds = 0.25;
  return c;
}

Report named_report() {
  Report report;
  report.candidate = "mine";
  report.reference = "tape";
  report.seed = 3;
  report.seconds = 1.5;
  return report;
}

// Nothing but faults, with names and messages that mean something to HTML, XML or a terminal.
Report hostile_report() {
  Report report = named_report();
  report.candidate = "<script>alert(1)</script> & \"co\" 'x'";
  report.reference = "a]]>b";
  CaseReport c = a_case("seed=1,name=<b>", Status::failed);
  c.settings.set("<i>", std::string("</style><script>"));
  c.message = std::string("crashed: \x01\x1b[31m \xff\xc3( \xed\xa0\x80 \x00 end", 29);
  report.cases = {c};
  harness::Failure failure;
  failure.first = c;
  failure.smallest = c;
  failure.command = "check '</pre><script>'";
  failure.failing_cases = 1;
  report.failure = failure;
  return report;
}

// Every `<name` of the page has its `</name>`, in order.
bool is_balanced(const std::string& page) {
  const std::vector<std::string> empty_elements = {"meta", "link", "!DOCTYPE", "?xml"};
  std::vector<std::string> open;
  for (size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const size_t end = page.find('>', at);
    const bool closing = page[at + 1] == '/';
    const size_t begin = at + (closing ? 2 : 1);
    const std::string name = page.substr(begin, page.find_first_of(" >/\n", begin) - begin);
    if (closing) {
      if (open.empty() || open.back() != name) {
        MESSAGE("</" << name << "> at " << at);
        return false;
      }
      open.pop_back();
    } else if (page[end - 1] != '/' &&
               std::find(empty_elements.begin(), empty_elements.end(), name) == empty_elements.end()) {
      open.push_back(name);
    }
  }
  return open.empty();
}

// No coordinate of a drawing is `nan` or `inf`.
bool has_finite_coordinates(const std::string& page) {
  for (const std::string attribute :
       {" d=\"", " x=\"", " y=\"", " cx=\"", " width=\"", " height=\"", " transform=\""}) {
    for (size_t at = page.find(attribute); at != std::string::npos; at = page.find(attribute, at + 1)) {
      const size_t begin = at + attribute.size();
      const std::string value = page.substr(begin, page.find('"', begin) - begin);
      if (contains(value, "nan") || contains(value, "inf")) {
        MESSAGE(attribute << value);
        return false;
      }
    }
  }
  return true;
}

// Reports of every kind that the writers must stand.
std::vector<Report> all_kinds() {
  Report odd = named_report();
  CaseReport c = a_case("seed=1", Status::failed,
                        {test::judgement("o", Verdict::wrong, kInfinity), test::judgement("dq", Verdict::wrong, kNaN),
                         test::judgement("dk", Verdict::fine, 0.0)});
  c.judgements[0].measure.by_row = {kNaN, kInfinity, 0.0};
  c.judgements[1].measure.by_time = {1.0};
  c.judgements[2].fine_limit = 0.0;
  c.tensor = "o";
  c.map = harness::ErrorMap{"o", 2, 2, {0.0, kNaN, kInfinity, 1e-300}};
  odd.cases = {c, c, a_case("", Status::unsupported)};
  odd.cases[1].map = harness::ErrorMap{"o", 3, 2, {0.0}};  // too few errors
  odd.cases[1].settings = {};
  return {Report(),
          named_report(),
          odd,
          hostile_report(),
          test::synthetic_report(40, true),
          test::synthetic_report(40, false)};
}

}  // namespace

TEST_SUITE("harness") {
  TEST_CASE("Report: passed, counts and the summary") {
    Report report = named_report();
    CHECK_FALSE(report.passed());
    CHECK(report.summary() == "failed: 0 cases passed, 0 failed, 0 not supported, so nothing was judged");
    report.cases = {a_case("a", Status::unsupported)};
    CHECK_FALSE(report.passed());
    CHECK(report.summary() == "failed: 0 cases passed, 0 failed, 1 not supported, so nothing was judged");
    report.cases.push_back(a_case("b", Status::passed));
    CHECK(report.passed());
    CHECK(report.count(Status::passed) == 1);
    CHECK(report.summary() == "passed: 1 case passed, 0 failed, 1 not supported");
    report.witnesses = {{"chunk form", "b", "o", 1e-12, 1e-9, true}, {"chunk form", "b", "dq", 1.0, 1e-9, false}};
    CHECK_FALSE(report.passed());
    CHECK(report.summary() ==
          "failed: 1 case passed, 0 failed, 1 not supported, 1 of 2 checks of the reference by its witnesses failed");
    report.witnesses.clear();
    report.cases.push_back(a_case("c", Status::failed));
    CHECK_FALSE(report.passed());
    CHECK(report.summary() == "failed: 1 case passed, 1 failed, 1 not supported");
  }

  TEST_CASE("Verdict: words") {
    CHECK(to_string(Verdict::fine) == "fine");
    CHECK(to_string(Verdict::less_accurate) == "less accurate");
    CHECK(to_string(Verdict::wrong) == "WRONG");
  }

  TEST_CASE("tensor_rows: the worst comparison by verdict, then by how far beyond its limit") {
    Report report = named_report();
    Judgement large = test::judgement("o", Verdict::fine, 1e-2);
    large.fine_limit = 1.0;
    report.cases = {a_case("a", Status::passed, {large, test::judgement("dq", Verdict::less_accurate, 5e-6)}),
                    a_case("b", Status::passed,
                           {test::judgement("o", Verdict::fine, 5e-7), test::judgement("dq", Verdict::fine, 1.0)}),
                    a_case("c", Status::failed, {test::judgement("dq", Verdict::wrong, 1e-3)})};
    const auto rows = harness::tensor_rows(report);
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].tensor == "o");
    CHECK(rows[0].comparisons == 2);
    CHECK(rows[0].worst_case->text == "b");
    CHECK(rows[1].comparisons == 3);
    CHECK(rows[1].wrong == 1);
    CHECK(rows[1].less_accurate == 1);
    CHECK(rows[1].worst_case->text == "c");
    // Fine beyond its limit: what the judge took for noise is not what the row is about.
    report.cases.push_back(a_case("noise", Status::passed, {test::judgement("o", Verdict::fine, 1.0)}));
    CHECK(harness::tensor_rows(report)[0].worst_case->text == "b");
    // What has no number is worse than any number; a lost tensor stays the worst.
    Judgement missing = test::judgement("dq", Verdict::wrong, 0.0);
    missing.problem = "missing";
    report.cases.push_back(a_case("d", Status::failed, {missing}));
    report.cases.push_back(a_case("e", Status::failed, {test::judgement("dq", Verdict::wrong, 1e9)}));
    CHECK(harness::tensor_rows(report)[1].worst_case->text == "d");
  }

  TEST_CASE("text_table: columns, numbers at the right, long last columns broken") {
    CHECK(harness::text_table({{{"ab"}, {"n", true}, {"x"}}, {{"c"}, {"12", true}, {"y"}}}) ==
          "ab   n  x\nc   12  y\n");
    CHECK(harness::text_table({{{"a"}, {"one, two, three"}}}, 12) == "a  one, two,\n   three\n");
    CHECK(harness::text_table({{{"ä"}, {"x"}}, {{"bb"}, {"y"}}}) == "ä   x\nbb  y\n");
    CHECK(harness::text_table({}).empty());
  }

  TEST_CASE("to_text: tables, the first failure, the summary at the end") {
    Report report = named_report();
    CaseReport c = a_case("seed=5,T=130", Status::failed, {test::judgement("dg", Verdict::wrong, 0.25)});
    c.tensor = "dg";
    c.stage = "dAkk";
    report.cases = {c};
    report.witnesses = {{"chunk form", "seed=5", "dk", 1e-12, 1e-9, true}};
    harness::Failure failure;
    failure.first = c;
    failure.smallest = c;
    failure.smallest.text = "seed=5,T=65";
    failure.tried = 12;
    failure.command = "deltatape check --case 'seed=5,T=65'";
    failure.failing_cases = 1;
    failure.seconds = 0.3;
    report.failure = failure;
    const std::string place = "batch 0, time 65 (chunk 1, row 1), head 2, channel 17";
    CHECK(harness::to_text(report) ==
          "mine against tape, from seed 3, 1.5 s\n"
          "\n"
          "tensor  cases  wrong  less accurate  worst error  fine below  where\n"
          "dg          1      1              0     2.50e-01    1.00e-06  " +
              place +
              "\n"
              "\n"
              "witness of the reference  checks  failed  worst error     limit  where\n"
              "chunk form                     1       0     1.00e-12  1.00e-09  dk\n"
              "\n"
              "first failure, after 300 ms (1 case failed)\n"
              "  case      seed=5,T=130\n"
              "  smallest  seed=5,T=65  (12 simpler cases tried)\n"
              "  tensor    dg\n"
              "  verdict   WRONG\n"
              "  stage     dAkk is the first to differ\n"
              "  where     " +
              place +
              ": 1.5, expected 1.25\n"
              "  error     2.50e-01 (3 ulp); fine below 1.00e-06, wrong above 1.00e-04; composed path 1.00e-07\n"
              "  repeat    deltatape check --case 'seed=5,T=65'\n"
              "\n"
              "failed: 0 cases passed, 1 failed, 0 not supported\n");
  }

  TEST_CASE("to_text: every kind of report ends with its summary, and tables keep to 120 columns") {
    for (const Report& report : all_kinds()) {
      const std::string text = harness::to_text(report);
      const std::string end = "\n" + report.summary() + "\n";
      CHECK(text.size() > end.size());
      CHECK(text.substr(text.size() - end.size()) == end);
      CHECK_FALSE(contains(text, "\n\n\n"));
    }
    Report report = named_report();
    Judgement far = test::judgement("dA_log_long", Verdict::fine, 1e-7);
    far.measure.worst = "batch 0, time 1065 (sequence 12, time 333 of it, chunk 10, row 13), head 12, channel 117";
    report.cases = {a_case("a", Status::passed, {far})};
    const std::string text = harness::to_text(report);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      CHECK(end - begin <= 120);
      begin = end + 1;
    }
    CHECK(contains(text, "head 12, channel 117"));
  }

  TEST_CASE("to_json: the keys, null for what is not finite") {
    Report report = named_report();
    CaseReport failed =
        a_case("seed=5", Status::failed,
               {test::judgement("o", Verdict::fine, 1e-7), test::judgement("dg", Verdict::wrong, kInfinity)});
    failed.judgements[1].measure.ulp = INT64_MAX;
    failed.tensor = "dg";
    CaseReport fault = a_case("seed=6", Status::failed);
    fault.message = "the plugin hung";
    CaseReport unsupported = a_case("seed=7", Status::unsupported);
    report.cases = {failed, fault, unsupported};
    report.witnesses = {{"chunk form", "seed=5", "dk", 1e-12, 1e-9, true}};
    harness::Failure failure;
    failure.first = fault;
    failure.smallest = fault;
    report.failure = failure;
    const auto json = nlohmann::json::parse(harness::to_json(report));
    CHECK(json["candidate"] == "mine");
    CHECK(json["seed"] == 3);
    CHECK(json["budget_s"] == 0.0);
    CHECK(json["verdict"] == "failed");
    CHECK(json["summary"] == report.summary());
    CHECK(json["cases"] == 3);
    CHECK(json["failed"] == 2);
    CHECK(json["unsupported"] == 1);
    REQUIRE(json["tensors"].size() == 2);
    CHECK(json["tensors"][0]["worst_error"] == 1e-7);
    CHECK(json["tensors"][1]["tensor"] == "dg");
    CHECK(json["tensors"][1]["worst_error"].is_null());
    CHECK(json["tensors"][1]["wrong"] == 1);
    CHECK(json["tensors"][1]["case"] == "seed=5");
    CHECK(json["witnesses"][0]["ok"] == true);
    CHECK(json["failure"]["verdict"] == "fault");
    CHECK(json["failure"]["tensor"].is_null());
    CHECK(json["failure"]["message"] == "the plugin hung");
    REQUIRE(json["rows"].size() == 4);
    CHECK(json["rows"][0]["error"] == 1e-7);
    CHECK(json["rows"][0]["status"] == "failed");
    CHECK(json["rows"][1]["error"].is_null());
    CHECK(json["rows"][1]["ulp"].is_null());
    CHECK(json["rows"][1]["verdict"] == "WRONG");
    CHECK(json["rows"][2]["tensor"].is_null());
    CHECK(json["rows"][2]["verdict"] == "fault");
    CHECK(json["rows"][3]["status"] == "unsupported");
    CHECK(json["rows"][3]["verdict"].is_null());
    CHECK(nlohmann::json::parse(harness::to_json(named_report()))["failure"].is_null());
    for (const Report& kind : all_kinds()) {
      CHECK(nlohmann::json::parse(harness::to_json(kind))["rows"].size() >= kind.cases.size());
    }
  }

  TEST_CASE("escaped: no byte of the text reaches the markup as it is, unless it may") {
    CHECK(harness::escaped("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
    CHECK(harness::escaped("ä€😀\n") == "ä€😀\n");
    const std::string bad = "\xef\xbf\xbd";
    CHECK(harness::escaped(std::string("\x00\x1b", 2)) == bad + bad);
    CHECK(harness::escaped("\xff") == bad);
    CHECK(harness::escaped("\xc3") == bad);
    CHECK(harness::escaped("\xc3(") == bad + "(");
    CHECK(harness::escaped("\xc0\xaf") == bad + bad);            // overlong
    CHECK(harness::escaped("\xe0\x80\x80") == bad + bad + bad);  // overlong
    CHECK(harness::escaped("\xed\xa0\x80") == bad + bad + bad);  // a surrogate
    CHECK(harness::escaped("\xf4\x90\x80\x80") == bad + bad + bad + bad);
    CHECK(harness::escaped("\xef\xbf\xbf") == bad);    // U+FFFF
    CHECK(harness::escaped("\xe2\x82") == bad + bad);  // cut off
  }

  TEST_CASE("to_junit: a test case per case, and one per witness") {
    Report report = named_report();
    CaseReport failed = a_case("seed=5,T=65", Status::failed, {test::judgement("dg", Verdict::wrong, 0.25)});
    failed.stage = "dAkk";
    CaseReport unsupported = a_case("seed=6", Status::unsupported);
    unsupported.message = "K is 100";
    report.cases = {failed, unsupported, a_case("seed=7", Status::passed)};
    report.witnesses = {{"chunk form", "seed=7", "dk", 1.0, 1e-9, false}};
    const std::string xml = harness::to_junit(report);
    CHECK(contains(xml, R"(<testsuites tests="4" failures="2" errors="0" time="1.500">)"));
    CHECK(contains(xml, R"(<testsuite name="mine" tests="3" failures="1" errors="0" skipped="1" time="1.500">)"));
    CHECK(contains(xml, R"(<testcase classname="mine" name="seed=7" time="0.250"/>)"));
    CHECK(contains(xml, R"(message="dg: WRONG, error 2.50e-01, fine below 1.00e-06")"));
    CHECK(contains(xml, "first stage that differs: dAkk"));
    CHECK(contains(xml, R"(<skipped message="K is 100"/>)"));
    CHECK(contains(xml, "1 of 1 checks failed; dk: error 1.00e+00, limit 1.00e-09"));
    for (const Report& kind : all_kinds()) {
      const std::string text = harness::to_junit(kind);
      CHECK(is_balanced(text));
      CHECK(count(text, "<testcase ") >= kind.cases.size());
      CHECK(text.find('\x1b') == std::string::npos);
    }
  }

  TEST_CASE("to_html: verdict, failure, plots and tables") {
    const Report report = test::synthetic_report(60, true);
    REQUIRE(report.failure.has_value());
    const std::string page = harness::to_html(report);
    CHECK(is_balanced(page));
    CHECK(page.rfind("<!DOCTYPE html>", 0) == 0);
    for (const char* part :
         {"<header class=\"banner failed\">", "<h2>First failure</h2>", "first stage to differ", "chunk 1",
          "fine limit", "dg by place", "time within the sequence", "position in the chunk", "dtype bf16",
          "<h2>Passed and failed over the option space", "All failing cases have <code>gate=standard</code>",
          "<b>dA_log</b>", "<b>central differences</b>", "<summary>All cases</summary>",
          "check --plugin ./libmine.so --case &#39;seed=9,T=65,gate=standard&#39;"}) {
      CHECK_MESSAGE(contains(page, part), "expected: " << std::string(part));
    }
    // Nothing from elsewhere, and nothing that runs.
    for (const char* part : {"http://", "https://", "<script", "<img", "url(", "@import", " on"}) {
      const bool found =
          part == std::string(" on") ? contains(page, " onload") || contains(page, " onclick") : contains(page, part);
      CHECK_MESSAGE(!found, "not expected: " << std::string(part));
    }
    CHECK_FALSE(contains(page, "nan"));
    CHECK(contains(harness::to_html(test::synthetic_report(60, false)), "<header class=\"banner passed\">"));
  }

  TEST_CASE("to_html: a tensor without times is shown by row, and red is for what is not fine") {
    Report report = named_report();
    CaseReport c = a_case("seed=1", Status::failed,
                          {test::judgement("dh0", Verdict::wrong, 0.5), test::judgement("o", Verdict::fine, 1e-7)});
    c.tensor = "dh0";
    c.map = harness::ErrorMap{"dh0", 2, 3, {0.5, 0.0, 0.1, 0.2, 0.0, 0.0}};
    c.judgements[1].measure.by_time = {1e-7, 2e-7};
    report.cases = {c};
    report.failure = harness::Failure{c, c, 0, "", 1, 0.1};
    const std::string page = harness::to_html(report);
    CHECK(contains(page, "row (all dimensions but the last)"));
    CHECK(contains(page, "Error of dh0 by row and channel, 2 of them and 3 channels"));
    CHECK(contains(page, "class=\"series s1\""));
    CHECK_FALSE(contains(page, "class=\"series s0\""));
  }

  TEST_CASE("to_html: names and messages cannot leave their place") {
    const std::string page = harness::to_html(hostile_report());
    CHECK(is_balanced(page));
    CHECK_FALSE(contains(page, "<script"));
    CHECK_FALSE(contains(page, "<b>\""));
    CHECK(count(page, "</style>") == 1);
    CHECK(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;co&quot; &#39;x&#39;"));
    CHECK(contains(page, "<span class=\"tag wrong\">fault</span>"));
    CHECK(page.find('\x1b') == std::string::npos);
    CHECK(page.find('\0') == std::string::npos);
    CHECK(page.find('\xff') == std::string::npos);
  }

  TEST_CASE("to_html: every kind of report gives a whole page") {
    for (const Report& report : all_kinds()) {
      const std::string page = harness::to_html(report);
      CHECK(is_balanced(page));
      CHECK(contains(page, "</html>"));
      CHECK(has_finite_coordinates(page));
    }
    // Settings without words: no groups, but an option space.
    Report plain = named_report();
    for (int64_t rows = 0; rows < 40; ++rows) {
      CaseReport c = a_case("x", Status::passed, {test::judgement("y", Verdict::fine, 1e-7)});
      c.settings = {};
      c.settings.set("rows", rows);
      c.settings.set("spread", 0.5 * static_cast<double>(rows % 3));
      plain.cases.push_back(c);
    }
    const std::string page = harness::to_html(plain);
    CHECK_FALSE(contains(page, "Error by regime"));
    CHECK(contains(page, "<span class=\"value\">0 – 4</span>"));
    CHECK(contains(page, "<span class=\"value\">0.5</span>"));
    // The first word where dtype, gate and decay are missing.
    for (CaseReport& c : plain.cases) {
      c.settings.set("kernel", std::string("fast"));
    }
    CHECK(contains(harness::to_html(plain), "<figcaption>kernel</figcaption>"));
  }

  TEST_CASE("to_html: two thousand cases fit into a page, the table of cases says what it leaves out [slow]") {
    const Report report = test::synthetic_report(2000, true);
    const std::string page = harness::to_html(report);
    CHECK(page.size() < 3'000'000);
    CHECK(contains(page, "1500 further cases are left out here; the JSON report has all."));
    CHECK(nlohmann::json::parse(harness::to_json(report))["cases"] == 2000);
  }
}

#include <nlohmann/json.hpp>

#include "harness/report/rows.h"
#include "harness/report/writers.h"

namespace deltatape::harness {
namespace {

using Json = nlohmann::ordered_json;  // writes null for numbers that are not finite

Json text_or_null(std::string_view text) { return text.empty() ? Json() : Json(std::string(text)); }

Json ulp_or_null(int64_t ulp) { return ulp == INT64_MAX ? Json() : Json(ulp); }

Json tensor_entry(const TensorRow& row) {
  const Judgement& worst = *row.worst;
  return {{"tensor", std::string(row.tensor)},
          {"comparisons", row.comparisons},
          {"wrong", row.wrong},
          {"less_accurate", row.less_accurate},
          {"worst_error", worst.measure.error},
          {"composed", worst.composed},
          {"fine_limit", worst.fine_limit},
          {"wrong_limit", worst.wrong_limit},
          {"worst", text_or_null(worst.problem.empty() ? worst.measure.worst : worst.problem)},
          {"case", row.worst_case->text}};
}

Json failure_entry(const Failure& failure) {
  const CaseReport& smallest = failure.smallest;
  const Judgement* judgement = main_judgement(smallest);
  return {{"case", failure.first.text},
          {"smallest", smallest.text},
          {"tensor", text_or_null(smallest.tensor)},
          {"stage", text_or_null(smallest.stage)},
          {"verdict", std::string(verdict_words(smallest))},
          {"problem", text_or_null(judgement == nullptr ? "" : judgement->problem)},
          {"message", text_or_null(smallest.message)},
          {"command", text_or_null(failure.command)},
          {"note", text_or_null(failure.note)},
          {"tried", failure.tried},
          {"failing_cases", failure.failing_cases},
          {"seconds", failure.seconds}};
}

// A row per judgement, one for a case that has none.
void add_rows(Json& rows, const CaseReport& c) {
  const std::string status(to_string(c.status));
  if (c.judgements.empty()) {
    rows.push_back({{"case", c.text},
                    {"status", status},
                    {"tensor", nullptr},
                    {"verdict", c.status == CaseReport::Status::failed ? Json("fault") : Json()},
                    {"error", nullptr},
                    {"rms_error", nullptr},
                    {"ulp", nullptr},
                    {"composed", nullptr},
                    {"fine_limit", nullptr},
                    {"wrong_limit", nullptr},
                    {"worst", nullptr},
                    {"problem", nullptr},
                    {"message", text_or_null(c.message)}});
  }
  for (const Judgement& judgement : c.judgements) {
    const Measure& measure = judgement.measure;
    rows.push_back({{"case", c.text},
                    {"status", status},
                    {"tensor", judgement.tensor},
                    {"verdict", std::string(to_string(judgement.verdict))},
                    {"error", measure.error},
                    {"rms_error", measure.rms_error},
                    {"ulp", ulp_or_null(measure.ulp)},
                    {"composed", judgement.composed},
                    {"fine_limit", judgement.fine_limit},
                    {"wrong_limit", judgement.wrong_limit},
                    {"noise", is_noise(judgement)},
                    {"worst", text_or_null(measure.worst)},
                    {"problem", text_or_null(judgement.problem)},
                    {"message", text_or_null(c.message)}});
  }
}

}  // namespace

std::string to_json(const Report& report) {
  Json json = {{"candidate", report.candidate},
               {"reference", report.reference},
               {"seed", report.seed},
               {"budget_s", report.budget},
               {"seconds", report.seconds},
               {"verdict", report.passed() ? "passed" : "failed"},
               {"summary", report.summary()},
               {"cases", report.cases.size()},
               {"failed", report.count(CaseReport::Status::failed)},
               {"unsupported", report.count(CaseReport::Status::unsupported)},
               {"tensors", Json::array()},
               {"witnesses", Json::array()},
               {"failure", report.failure ? failure_entry(*report.failure) : Json()},
               {"rows", Json::array()}};
  for (const TensorRow& row : tensor_rows(report)) {
    json["tensors"].push_back(tensor_entry(row));
  }
  for (const WitnessReport& witness : report.witnesses) {
    json["witnesses"].push_back({{"witness", witness.witness},
                                 {"case", witness.text},
                                 {"tensor", witness.tensor},
                                 {"error", witness.error},
                                 {"limit", witness.limit},
                                 {"ok", witness.ok}});
  }
  for (const CaseReport& c : report.cases) {
    add_rows(json["rows"], c);
  }
  // A candidate's messages may hold any bytes.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace deltatape::harness

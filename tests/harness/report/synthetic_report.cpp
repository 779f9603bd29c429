#include "tests/harness/report/synthetic_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "tests/support/random_tensors.h"

namespace deltatape::test {
namespace {

using namespace harness;

constexpr int64_t kChunk = 64;

class Maker {
 public:
  Maker(bool failing, uint64_t seed) : failing_(failing), source_(seed) {}

  CaseReport make(uint64_t seed) {
    CaseReport c;
    c.settings.set("seed", static_cast<int64_t>(seed));
    const std::string dtype = pick({"f64", "f32", "bf16", "f16"});
    const std::string gate = pick({"none", "standard", "lower_bound"});
    const std::string decay = pick({"moderate", "strong", "vanishing"});
    const int64_t times = uniform(source_) < 0.5 ? 1 + static_cast<int64_t>(60.0 * uniform(source_))
                                                 : 60 + static_cast<int64_t>(80.0 * uniform(source_));
    c.settings.set("dtype", dtype);
    c.settings.set("T", times);
    c.settings.set("H", 1 + static_cast<int64_t>(3.0 * uniform(source_)));
    c.settings.set("K", std::array<int64_t, 5>{8, 16, 32, 100, 128}[source_() % 5]);
    c.settings.set("gate", gate);
    c.settings.set("decay", decay);
    c.settings.set("h0", uniform(source_) < 0.4);
    c.settings.set("varlen", uniform(source_) < 0.3);
    c.settings.set("chunk_size", kChunk);
    c.settings.set("scale", uniform(source_) < 0.7 ? 0.0 : 1.0);
    c.text = c.settings.text();
    c.seconds = 0.01 + 0.3 * uniform(source_);
    if (uniform(source_) < 0.06) {
      c.status = CaseReport::Status::unsupported;
      c.message = "K is 100, expected a power of two";
      return c;
    }
    const bool wrong = failing_ && gate == "standard" && times > kChunk;
    for (const char* tensor : {"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dA_log", "dh0"}) {
      c.judgements.push_back(judge(tensor, dtype, decay, c.settings, wrong && std::string(tensor) == "dg"));
    }
    if (wrong) {
      c.status = CaseReport::Status::failed;
      c.tensor = "dg";
      c.stage = "dAkk";
      c.map = map(c, c.judgements[5]);
    }
    return c;
  }

 private:
  std::string pick(std::initializer_list<const char*> words) { return *(words.begin() + source_() % words.size()); }
  double noise(double spread) { return std::pow(10.0, spread * (uniform(source_) - 0.5)); }

  Judgement judge(const std::string& tensor, const std::string& dtype, const std::string& decay,
                  const Settings& settings, bool wrong) {
    const double unit = dtype == "f64" ? 1e-16 : dtype == "f32" ? 1e-7 : dtype == "bf16" ? 4e-3 : 5e-4;
    Judgement j;
    j.tensor = tensor;
    j.composed = unit * (decay == "strong" ? 30.0 : 3.0) * noise(1.5);
    j.fine_limit = 4.0 * j.composed;
    j.wrong_limit = 100.0 * j.composed;
    j.measure.error = j.composed * noise(1.0);
    if (!wrong && uniform(source_) < 0.01) {
      j.measure.error = 7.0 * j.composed;
      j.verdict = Verdict::less_accurate;
    }
    const int64_t times = settings.integer("T");
    const bool over_time = tensor != "ht" && tensor != "dA_log" && tensor != "dh0";
    if (over_time) {
      for (int64_t t = 0; t < times; ++t) {
        j.measure.by_time.push_back(j.measure.error * noise(1.6) * 0.15);
      }
      if (wrong) {
        j.verdict = Verdict::wrong;
        for (int64_t t = 0; t < times; ++t) {
          if (t % kChunk < 6 && t >= kChunk) {
            j.measure.by_time[static_cast<size_t>(t)] =
                std::max(0.4 * std::pow(0.3, static_cast<double>(t % kChunk)), 200.0 * j.composed);
          }
        }
      }
      j.measure.error = *std::max_element(j.measure.by_time.begin(), j.measure.by_time.end());
      j.measure.by_row.assign(static_cast<size_t>(std::min(times, kChunk)), 0.0);
      for (size_t t = 0; t < j.measure.by_time.size(); ++t) {
        double& row = j.measure.by_row[t % static_cast<size_t>(kChunk)];
        row = std::max(row, j.measure.by_time[t]);
      }
    }
    j.measure.rms_error = 0.3 * j.measure.error;
    j.measure.ulp = static_cast<int64_t>(j.measure.error / unit);
    j.measure.worst = wrong ? "batch 0, time 64 (chunk 1, row 0), head 0, channel 3"
                            : "batch 0, time 0 (chunk 0, row 0), head 0, channel 7";
    j.measure.actual = 0.12345678901;
    j.measure.expected = 0.1;
    return j;
  }

  ErrorMap map(const CaseReport& c, const Judgement& j) {
    ErrorMap map;
    map.tensor = j.tensor;
    map.times = c.settings.integer("T");
    map.channels = c.settings.integer("K");
    for (int64_t t = 0; t < map.times; ++t) {
      for (int64_t k = 0; k < map.channels; ++k) {
        const double base = j.measure.by_time[static_cast<size_t>(t)];
        map.errors.push_back(base * std::pow(10.0, -2.0 * uniform(source_)));
      }
    }
    return map;
  }

  bool failing_;
  std::mt19937_64 source_;
};

}  // namespace

harness::Judgement judgement(std::string tensor, Verdict verdict, double error) {
  Judgement j;
  j.tensor = std::move(tensor);
  j.verdict = verdict;
  j.composed = 1e-7;
  j.fine_limit = 1e-6;
  j.wrong_limit = 1e-4;
  j.measure.error = error;
  j.measure.rms_error = error / 2.0;
  j.measure.ulp = 3;
  j.measure.worst = "batch 0, time 65 (chunk 1, row 1), head 2, channel 17";
  j.measure.actual = 1.5;
  j.measure.expected = 1.25;
  return j;
}

harness::Report synthetic_report(int64_t cases, bool failing, uint64_t seed) {
  Maker maker(failing, seed);
  Report report;
  report.candidate = "libmine.so: chunk kernel 0.3";
  report.reference = "kda::recurrent on the tape";
  report.seed = 7;
  report.budget = 60.0;
  report.seconds = 58.2;
  for (int64_t i = 0; i < cases; ++i) {
    report.cases.push_back(maker.make(7 + static_cast<uint64_t>(i)));
    const CaseReport& c = report.cases.back();
    for (const char* witness : {"chunk form", "central differences"}) {
      report.witnesses.push_back({witness, c.text, "dk", 1e-12 * static_cast<double>(i + 1), 1e-9, true});
    }
  }
  for (const CaseReport& c : report.cases) {
    if (c.status != CaseReport::Status::failed) {
      continue;
    }
    if (!report.failure) {
      Failure failure;
      failure.first = c;
      failure.smallest = c;
      failure.smallest.text = "seed=9,T=65,gate=standard";
      failure.smallest.settings.set("T", int64_t{65});
      failure.tried = 23;
      failure.command = "deltatape check --plugin ./libmine.so --case 'seed=9,T=65,gate=standard'";
      failure.seconds = 1.3;
      report.failure = failure;
    }
    ++report.failure->failing_cases;
  }
  return report;
}

}  // namespace deltatape::test

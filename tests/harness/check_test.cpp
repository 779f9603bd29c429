#include "harness/check.h"

#include <doctest/doctest.h>

#include <cmath>

#include "harness/judge/witnesses.h"
#include "harness/kda/kda.h"
#include "harness/shrink.h"
#include "ops/kda/stages.h"
#include "ops/ops.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using harness::Answer;
using harness::Candidate;
using harness::Case;
using harness::CaseReport;
using harness::CheckOptions;
using harness::NamedTensors;
using harness::Reference;
using harness::Report;
using harness::Settings;
using harness::Space;

/// y = softmax(x) over [rows, columns], a case that has nothing to do with KDA.
Space softmax_space() {
  Space space;
  space.integer("rows", "of x", 1, 9)
      .integer("columns", "of x", 1, 40)
      .choice("logits", "normal, or far apart", {"normal", "far"})
      .make([](const Settings& settings) {
        Generator generator(static_cast<uint64_t>(settings.integer("seed")));
        const Shape shape{settings.integer("rows"), settings.integer("columns")};
        const double size = settings.word("logits") == "far" ? 300.0 : 1.0;
        const TensorOptions f64{DType::f64, Device::cpu()};
        Case c{.settings = settings, .dtype = DType::f32};
        c.inputs = {{"x", to(mul(randn(shape, generator, f64), size), DType::f32)}};
        c.upstream = {{"y", to(randn(shape, generator, f64), DType::f32)}};
        return c;
      });
  return space;
}

Reference softmax_reference() {
  return {.name = "softmax", .forward = [](const Settings&, const NamedTensors& inputs) {
            return NamedTensors{{"y", softmax(harness::find(inputs, "x"), 1)}};
          }};
}

CheckOptions few(int64_t cases) {
  CheckOptions options;
  options.budget = 0.0;
  options.cases = cases;
  return options;
}

/// KDA by the fused kernel with one result changed afterwards.
Candidate spoiled(const std::string& tensor, const std::function<Tensor(const Tensor&, const Settings&)>& change) {
  const Candidate good = harness::kda_candidate(kda::Implementation::fused_chunk);
  return {.name = "spoiled " + tensor, .run = [good, tensor, change](const Case& c) {
            Answer answer = good.run(c);
            for (auto& result : answer.results) {
              if (result.first == tensor && result.second.numel() > 0) {
                result.second = change(result.second, c.settings);
              }
            }
            return answer;
          }};
}

Space small_kda() {
  Space space = harness::kda_space();
  space.restrict("T=0..40,K=1..9,V=1..9,dtype=f32|f64");
  return space;
}

TEST_CASE("harness: a right function of the user's passes, in any space") {
  const Candidate candidate = harness::differentiable("exp over its sum", [](const Settings&, const NamedTensors& in) {
    const Tensor x = harness::find(in, "x");
    const Tensor e = exp(sub(x, max(x, 1, true).detach()));
    return NamedTensors{{"y", div(e, sum(e, {1}, true))}};
  });
  const Report report = harness::check_operator(softmax_reference(), candidate, softmax_space(), few(40));
  CHECK(report.passed());
  CHECK(report.count(CaseReport::Status::passed) == 40);
  CHECK(!report.witnesses.empty());
  for (const auto& witness : report.witnesses) {
    CHECK(witness.ok);
  }
}

TEST_CASE("harness: a wrong function is found, made small, and can be asked for again") {
  // Without the maximum taken away exp overflows: only where logits are far apart.
  const Candidate candidate = harness::differentiable("naive", [](const Settings&, const NamedTensors& in) {
    const Tensor e = exp(harness::find(in, "x"));
    return NamedTensors{{"y", div(e, sum(e, {1}, true))}};
  });
  const Space space = softmax_space();
  CheckOptions options = few(20);
  options.command = [](const std::string& text) { return "again " + text; };
  const Report report = harness::check_operator(softmax_reference(), candidate, space, options);
  CHECK(!report.passed());
  REQUIRE(report.failure.has_value());
  CHECK(report.failure->smallest.tensor == "y");
  CHECK(report.failure->smallest.settings.word("logits") == "far");
  CHECK(report.failure->smallest.settings.integer("rows") == 1);
  CHECK(report.failure->command == "again " + report.failure->smallest.text);
  CHECK(report.failure->failing_cases > 5);
  const CaseReport again =
      harness::check_case(softmax_reference(), candidate, space, space.parse(report.failure->smallest.text));
  CHECK(again.status == CaseReport::Status::failed);
  CHECK(again.tensor == "y");
}

TEST_CASE("harness: forward only, and single gradients, are judged for what they promise") {
  Candidate candidate{.name = "forward", .run = [](const Case& c) {
                        return Answer{.results = {{"y", softmax(harness::find(c.inputs, "x"), 1)}}};
                      }};
  const Report everything = harness::check_operator(softmax_reference(), candidate, softmax_space(), few(3));
  CHECK(!everything.passed());
  REQUIRE(everything.failure.has_value());
  CHECK(everything.failure->first.tensor == "dx");  // promised by default, and missing
  candidate.results = {"y"};
  CHECK(harness::check_operator(softmax_reference(), candidate, softmax_space(), few(3)).passed());
}

/// The rows and columns of one chunk of T tokens out of [1,T,1,64], and back.
Tensor matrix_of(const Tensor& x) { return slice(squeeze(squeeze(x, 2), 0), 1, {0, x.size(1)}); }
Tensor columns_of(const Tensor& matrix) {
  const int64_t T = matrix.size(0);
  const Tensor padded = cat({matrix, zeros({T, 64 - T}, matrix.options())}, 1);
  return reshape(padded, {1, T, 1, 64});
}

/// Cases of one chunk: q, k, g, beta, and gradients of both its matrices.
Space stage_space() {
  Space space;
  space.integer("T", "tokens", 1, 64, {16, 17, 63, 64}).make([](const Settings& settings) {
    const int64_t T = settings.integer("T");
    const Space all = harness::kda_space();
    const Case whole = all.make(all.parse(fmt::format("seed={},dtype=f64,K=5,V=3,T={}", settings.integer("seed"), T)));
    Case c{.settings = settings, .dtype = DType::f64};
    for (const char* name : {"q", "k", "g", "beta"}) {
      c.inputs.emplace_back(name, harness::find(whole.inputs, name));
    }
    Generator generator(7);
    const TensorOptions f64{DType::f64, Device::cpu()};
    c.upstream = {{"Aqk", columns_of(randn({T, T}, generator, f64))},
                  {"Akk", columns_of(randn({T, T}, generator, f64))}};
    return c;
  });
  return space;
}

TEST_CASE("harness: a backward stage alone, dAqk and dAkk to dq, dk, dg and dbeta") {
  const auto inputs_of = [](const NamedTensors& in) {
    return kda::stages::IntraInputs{.q = harness::find(in, "q"),
                                    .k = harness::find(in, "k"),
                                    .g = harness::find(in, "g"),
                                    .beta = harness::find(in, "beta")};
  };
  // The reference differentiates both matrices of a chunk, Akk = (I + M)^-1 among them; the candidate is the
  // hand-written adjoint, from the gradient of M.
  const Reference reference{.name = "stages::intra", .forward = [&](const Settings&, const NamedTensors& in) {
                              const kda::stages::Intra intra = kda::stages::intra(inputs_of(in));
                              return NamedTensors{{"Aqk", intra.Aqk}, {"Akk", intra.Akk}};
                            }};
  Candidate candidate{.name = "stages::backward_intra", .run = [&](const Case& c) {
                        const auto in = inputs_of(c.inputs);
                        const Tensor A = matrix_of(kda::stages::intra(in).Akk);
                        const Tensor dA = matrix_of(harness::find(c.upstream, "Akk"));
                        const Tensor At = transpose(A, 0, 1);
                        const Tensor dM = neg(tril(matmul(matmul(At, dA), At), -1));
                        const auto d = kda::stages::backward_intra({.q = in.q,
                                                                    .k = in.k,
                                                                    .g = in.g,
                                                                    .beta = in.beta,
                                                                    .dAqk = harness::find(c.upstream, "Aqk"),
                                                                    .dAkk = columns_of(dM)});
                        return Answer{.results = {{"dq", d.dq}, {"dk", d.dk}, {"dg", d.dg}, {"dbeta", d.dbeta}}};
                      }};
  candidate.results = {"dq", "dk", "dg", "dbeta"};
  const Report report = harness::check_operator(reference, candidate, stage_space(), few(10));
  CHECK(report.passed());
  const auto run = candidate.run;
  candidate.run = [run](const Case& c) {
    Answer answer = run(c);
    answer.results[3].second = mul(answer.results[3].second, 1.0 + 1e-9);
    return answer;
  };
  const Report spoilt = harness::check_operator(reference, candidate, stage_space(), few(10));
  REQUIRE(spoilt.failure.has_value());
  CHECK(spoilt.failure->smallest.tensor == "dbeta");
}

TEST_CASE("harness: our own kernels pass on cases of KDA [slow]") {
  for (const auto implementation :
       {kda::Implementation::chunk, kda::Implementation::fused_recurrent, kda::Implementation::fused_chunk}) {
    CAPTURE(kda::name_of(implementation));
    Space space = small_kda();
    space.restrict("dtype=f64|f32|bf16|f16");
    const Report report =
        harness::check_operator(harness::kda_reference(), harness::kda_candidate(implementation), space, few(40));
    CHECK(report.passed());
    CHECK(report.count(CaseReport::Status::passed) == 40);
  }
}

TEST_CASE("harness: one wrong element of one tensor is named, with its place") {
  const Candidate candidate = spoiled("dbeta", [](const Tensor& x, const Settings&) {
    auto values = x.to_vector<double>();
    values.back() += 1.0;
    return to(from_vector(values, x.shape()), x.dtype());
  });
  const Report report = harness::check_operator(harness::kda_reference(), candidate, small_kda(), few(20));
  REQUIRE(report.failure.has_value());
  const CaseReport& smallest = report.failure->smallest;
  CHECK(smallest.tensor == "dbeta");
  CHECK(smallest.settings.integer("T") == 1);
  CHECK(smallest.settings.integer("K") == 1);
  CHECK(smallest.settings.integer("H") == 1);
  REQUIRE(smallest.map.has_value());
  CHECK(smallest.map->tensor == "dbeta");
  bool found = false;
  for (const auto& judgement : smallest.judgements) {
    if (judgement.tensor == "dbeta") {
      found = true;
      CHECK(judgement.verdict == harness::Verdict::wrong);
      CHECK(judgement.measure.worst == "batch 0, time 0 (chunk 0, row 0), head 0");
      CHECK(judgement.measure.actual == doctest::Approx(judgement.measure.expected + 1.0));
    }
  }
  CHECK(found);
}

TEST_CASE("harness: a fault that needs an option keeps it while everything else shrinks") {
  const Candidate candidate = spoiled("dh0", [](const Tensor& x, const Settings& settings) {
    return settings.flag("v_first") && settings.integer("T") > 16 ? mul(x, 1.5) : x;
  });
  const Report report = harness::check_operator(harness::kda_reference(), candidate, small_kda(), few(60));
  REQUIRE(report.failure.has_value());
  const Settings& smallest = report.failure->smallest.settings;
  CHECK(smallest.flag("v_first"));
  CHECK(smallest.flag("h0"));
  CHECK(smallest.integer("T") == 17);
  CHECK(!smallest.flag("l2norm"));
  CHECK(smallest.word("gate") == "none");
  CHECK(report.failure->smallest.tensor == "dh0");
  CHECK(report.failure->tried > 5);
}

TEST_CASE("harness: results that change from run to run, exceptions and changed inputs fail") {
  int64_t runs = 0;
  const Candidate restless = spoiled("dq", [&](const Tensor& x, const Settings&) {
    auto values = x.to_vector<double>();
    values.front() *= 1.0 + (++runs % 2 == 0 ? 1e-15 : 0.0);
    return to(from_vector(values, x.shape()), x.dtype());
  });
  Space f64 = small_kda();
  f64.restrict("dtype=f64,T=3..5");
  const Report report = harness::check_operator(harness::kda_reference(), restless, f64, few(10));
  REQUIRE(report.failure.has_value());
  CHECK(report.failure->first.tensor == "dq");
  bool said = false;
  for (const auto& judgement : report.failure->first.judgements) {
    said = said || judgement.problem.starts_with("not repeatable: 1 of ");
  }
  CHECK(said);
  CheckOptions once = few(10);
  once.repeats = 1;
  CHECK(harness::check_operator(harness::kda_reference(), restless, f64, once).passed());

  const Candidate throwing{.name = "throws", .run = [](const Case&) -> Answer { throw std::runtime_error("no"); }};
  const Report thrown = harness::check_operator(harness::kda_reference(), throwing, small_kda(), few(2));
  REQUIRE(thrown.failure.has_value());
  CHECK(thrown.failure->smallest.message == "it threw: no");

  const Candidate odd{.name = "throws a number", .run = [](const Case&) -> Answer { throw 42; }};
  const Report numbers = harness::check_operator(harness::kda_reference(), odd, small_kda(), few(2));
  REQUIRE(numbers.failure.has_value());
  CHECK(numbers.failure->smallest.message == "it threw something that is no std::exception");

  const Candidate good = harness::kda_candidate(kda::Implementation::fused_chunk);
  const Candidate writing{.name = "writes", .run = [&](const Case& c) {
                            Tensor k = harness::find(c.inputs, "k");
                            Answer answer = good.run(c);
                            if (k.numel() > 0 && k.dtype() == DType::f32) {
                              k.mutable_data<float>()[0] += 1.0F;
                            }
                            return answer;
                          }};
  const Report written = harness::check_operator(harness::kda_reference(), writing, small_kda(), few(10));
  REQUIRE(written.failure.has_value());
  CHECK(written.failure->smallest.message == "it wrote to its input k");
}

TEST_CASE("harness: a case that asks for none of a candidate's results is not judged, and nobody passes by that") {
  Candidate candidate = harness::kda_candidate(kda::Implementation::fused_chunk);
  const auto run = candidate.run;
  candidate.results = {"dA_log"};
  candidate.run = [run](const Case& c) {
    Answer answer = run(c);
    std::erase_if(answer.results, [](const auto& result) { return result.first != "dA_log"; });
    return answer;
  };
  Space without = small_kda();
  without.restrict("gate=none");
  const Report nothing = harness::check_operator(harness::kda_reference(), candidate, without, few(5));
  CHECK(nothing.count(CaseReport::Status::unsupported) == 5);
  CHECK(!nothing.passed());
  Space with = small_kda();
  with.restrict("gate=standard,loss=o");
  CHECK(harness::check_operator(harness::kda_reference(), candidate, with, few(5)).passed());
}

TEST_CASE("harness: what fails only after other cases is said to, and is asked for again with them") {
  // A workspace that grows and is not cleared: wrong whenever an earlier case was longer.
  int64_t longest = 0;
  Candidate stale = spoiled("o", [&](const Tensor& x, const Settings& settings) {
    const bool dirty = settings.integer("T") < longest;
    longest = std::max(longest, settings.integer("T"));
    return dirty ? add(x, 1.0) : x;
  });
  stale.restart = [&] { longest = 0; };
  CheckOptions options = few(12);
  options.command = [](const std::string& text) { return "one " + text; };
  options.run_command = [](uint64_t seed, int64_t count) { return fmt::format("from {}, {} cases", seed, count); };
  const Report report = harness::check_operator(harness::kda_reference(), stale, small_kda(), options);
  REQUIRE(report.failure.has_value());
  CHECK(report.failure->note == "fails only after other cases: something is left over from them");
  CHECK(report.failure->smallest.text == report.failure->first.text);
  CHECK(report.failure->command.starts_with("from 0, "));
  // A bug of its own beside it is made small with a restart before every case.
  Candidate both = stale;
  both.run = [run = stale.run](const Case& c) {
    Answer answer = run(c);
    if (c.settings.integer("T") > 20) {
      answer.results[0].second = add(answer.results[0].second, 1.0);
    }
    return answer;
  };
  longest = 0;
  Space long_ones = small_kda();
  long_ones.restrict("T=21..40,K=1..3,V=1..3,B=1,H=1");
  const Report mixed = harness::check_operator(harness::kda_reference(), both, long_ones, options);
  REQUIRE(mixed.failure.has_value());
  CHECK(mixed.failure->note.empty());
  CHECK(mixed.failure->smallest.settings.integer("T") == 21);
  CHECK(mixed.failure->command == "one " + mixed.failure->smallest.text);
}

TEST_CASE("harness: a wrong output is named even where a gradient is further off") {
  const Candidate worse = spoiled("dq", [](const Tensor& x, const Settings&) { return mul(x, 1e6); });
  const Candidate candidate{.name = "both", .run = [&](const Case& c) {
                              Answer answer = worse.run(c);
                              answer.results[0].second = mul(answer.results[0].second, 1.001);
                              return answer;
                            }};
  Space space = small_kda();
  space.restrict("T=5..40,loss=o,dtype=f64,beta=one,h0=yes");
  const Report report = harness::check_operator(harness::kda_reference(), candidate, space, few(3));
  REQUIRE(report.failure.has_value());
  CHECK(report.failure->first.tensor == "o");
}

TEST_CASE("harness: reading beyond an input shows") {
  const Candidate candidate = spoiled("o", [](const Tensor& x, const Settings&) { return x; });
  const Candidate reading{.name = "reads behind v", .run = [&](const Case& c) {
                            Answer answer = candidate.run(c);
                            const Tensor v = harness::find(c.inputs, "v");
                            if (v.dtype() == DType::f32) {
                              const float behind = v.data<float>()[v.numel()];
                              answer.results[0].second = add(answer.results[0].second, 0.0 * behind);
                            }
                            return answer;
                          }};
  Space space = small_kda();
  space.restrict("T=1..5,dtype=f32");
  const Report report = harness::check_operator(harness::kda_reference(), reading, space, few(2));
  REQUIRE(report.failure.has_value());
  CHECK(report.failure->smallest.tensor == "o");
}

TEST_CASE("harness: intermediates point at the stage that is first wrong") {
  const Candidate good = harness::kda_candidate(kda::Implementation::fused_chunk);
  const Reference reference = harness::kda_reference();
  for (const std::string wrong : {"Akk", "v_new", "dAkk"}) {
    CAPTURE(wrong);
    const Candidate candidate{.name = "stages", .run = [&](const Case& c) {
                                Answer answer = good.run(c);
                                bool from_here = false;
                                for (auto& [name, tensor] : reference.intermediates(harness::widened(c))) {
                                  from_here = from_here || name == wrong;
                                  answer.results.emplace_back(name, from_here ? mul(tensor, 1.01) : tensor);
                                }
                                for (auto& result : answer.results) {
                                  if (result.first == "dk") {
                                    result.second = mul(result.second, 1.01);
                                  }
                                }
                                return answer;
                              }};
    Space space = small_kda();
    space.restrict("T=20..40,loss=both,ht=yes,packing=rows|cu_seqlens,dtype=f64");
    const Report report = harness::check_operator(reference, candidate, space, few(3));
    REQUIRE(report.failure.has_value());
    CHECK(report.failure->first.stage == wrong);
    CHECK(report.failure->first.tensor == "dk");
  }
}

TEST_CASE("harness: cases without anything to differentiate, or beyond a dtype, do not end a check") {
  const Candidate good = harness::kda_candidate(kda::Implementation::fused_chunk);
  const Space space = harness::kda_space();
  const auto status = [&](const std::string& text) {
    return harness::check_one(harness::kda_reference(), good, space, space.parse(text)).cases.at(0).status;
  };
  CHECK(status("seed=1,T=0") == CaseReport::Status::passed);
  CHECK(status("seed=1,T=0,gate=standard,h0=yes,ht=yes,loss=both") == CaseReport::Status::passed);
  CHECK(status("seed=1,T=4,K=4,scale=1e300") == CaseReport::Status::unsupported);
}

TEST_CASE("harness: another kind of failure does not take the place of the first") {
  const Candidate wrong = spoiled("dq", [](const Tensor& x, const Settings&) { return mul(x, 1.5); });
  const Candidate only{.name = "K = 5 alone", .run = [&](const Case& c) {
                         check(c.settings.integer("K") == 5, "kernel", "K is not 5");
                         return wrong.run(c);
                       }};
  Space space = small_kda();
  space.restrict("K=5");
  const Report restricted = harness::check_operator(harness::kda_reference(), only, space, few(3));
  REQUIRE(restricted.failure.has_value());
  CHECK(restricted.failure->smallest.tensor == "dq");
  CHECK(restricted.failure->smallest.settings.integer("K") == 5);
  const Report text =
      harness::check_one(harness::kda_reference(), only, small_kda(), small_kda().parse("seed=1,T=9,K=5,V=4"));
  REQUIRE(text.failure.has_value());
  CHECK(text.failure->smallest.tensor == "dq");
  CHECK(text.failure->smallest.settings.integer("K") == 5);
}

TEST_CASE("harness: right kernels of other forms are not called wrong [slow]") {
  // dg as the reverse sum of q dq - k dk1 + k dk2, as many chunk kernels have it: noise where terms cancel.
  const Candidate fused = harness::kda_candidate(kda::Implementation::fused_chunk);
  const Candidate noisy{.name = "sums that cancel", .run = [&](const Case& c) {
                          Answer answer = fused.run(c);
                          for (auto& [name, tensor] : answer.results) {
                            if (name == "dg" && tensor.dtype() == DType::f32 && tensor.numel() > 0) {
                              const Tensor q = harness::find(c.inputs, "q");
                              const double size =
                                  max(abs(harness::find(answer.results, "dq"))).item() * max(abs(q)).item();
                              tensor = add(tensor, 4.0 * 0x1p-24 * size);
                            }
                          }
                          return answer;
                        }};
  Space space = small_kda();
  space.restrict("dtype=f32,gate=none");
  CHECK(harness::check_operator(harness::kda_reference(), noisy, space, few(60)).passed());
  // And gradients that are off by a fifth are wrong, in 16 bits as well.
  for (const char* name : {"dq", "dbeta", "dh0"}) {
    const Candidate off = spoiled(name, [](const Tensor& x, const Settings&) { return mul(x, 0.8); });
    Space sixteen = small_kda();
    sixteen.restrict("dtype=bf16,T=10..40,h0=yes,loss=both,ht=yes,beta=one|mixed,norms=unit,decay=mild");
    const Report report = harness::check_operator(harness::kda_reference(), off, sixteen, few(8));
    CAPTURE(name);
    REQUIRE(report.failure.has_value());
    CHECK(report.failure->failing_cases >= 7);
    CHECK(report.failure->first.tensor == name);
  }
}

TEST_CASE("harness: a budget ends a check, and a check needs one") {
  CheckOptions options;
  options.budget = 0.3;
  std::vector<double> done;
  options.progress = [&](double share, const std::string&) { done.push_back(share); };
  const Candidate good = harness::kda_candidate(kda::Implementation::fused_chunk);
  const Report report = harness::check_operator(harness::kda_reference(), good, small_kda(), options);
  CHECK(report.cases.size() >= 1);
  CHECK(report.seconds >= 0.3);
  CHECK(done.size() == report.cases.size());
  CHECK(std::is_sorted(done.begin(), done.end()));
  CHECK_ERROR(harness::check_operator(harness::kda_reference(), good, small_kda(), few(0)),
              "check_operator: budget is 0 and cases is 0, expected one of them to be above 0");
}

TEST_CASE("harness: witnesses contradict a reference that is wrong") {
  const Space space = small_kda();
  const Settings settings = space.parse("seed=5,dtype=f64,T=9,K=4,V=3,h0=yes,ht=yes,loss=both");
  Reference reference = harness::kda_reference();
  const auto agree = [&] {
    const auto rows = harness::compare_witnesses(reference, space.make(settings), "");
    CHECK(rows.size() > 5);
    return std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.ok; });
  };
  CHECK(agree());
  const harness::Function right = reference.forward;
  // An output that is off: only another algorithm can tell.
  reference.forward = [right](const Settings& s, const NamedTensors& in) {
    NamedTensors out = right(s, in);
    out[0].second = mul(out[0].second, 1.0 + 1e-6);
    return out;
  };
  CHECK(!agree());
  // A gradient that is off: differences can tell, too.
  reference.other = {};
  CHECK(agree());
  reference.forward = [right](const Settings& s, const NamedTensors& in) {
    NamedTensors out = right(s, in);
    const Tensor constant = mul(out[0].second.detach(), 0.01);
    out[0].second = add(mul(out[0].second, 0.99), constant);
    return out;
  };
  CHECK(!agree());
}

}  // namespace
}  // namespace deltatape

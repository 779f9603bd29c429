#include "harness/judge/measure.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "harness/judge/ulp.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using harness::Layout;
using harness::Measure;
using harness::TokenPlace;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor list(const std::vector<double>& values, DType dtype = DType::f64) {
  return test::to_tensor(test::Array({static_cast<int64_t>(values.size())}, values), dtype);
}

Measure of(const std::vector<double>& x, const std::vector<double>& reference, DType dtype = DType::f64) {
  return harness::measure(list(x), list(reference), dtype, {{"channel"}, {}});
}

Tensor changed(const Tensor& x, const std::vector<int64_t>& index, double value) {
  test::Array array = test::to_array(x);
  array.at(Shape(index)) = value;
  return test::to_tensor(array, x.dtype());
}

// Batches of whole sequences, or one batch of sequences with these lengths, in chunks of `chunk`.
std::vector<TokenPlace> tokens_of(int64_t batches, const std::vector<int64_t>& lengths, int64_t chunk) {
  std::vector<TokenPlace> tokens;
  for (int64_t b = 0; b < batches; ++b) {
    for (size_t n = 0; n < lengths.size(); ++n) {
      for (int64_t t = 0; t < lengths[n]; ++t) {
        tokens.push_back({b + static_cast<int64_t>(n), t, t % chunk});
      }
    }
  }
  return tokens;
}

const std::vector<std::string> kDimensions = {"batch", "time", "head", "channel"};

}  // namespace

TEST_SUITE("harness") {
  TEST_CASE("measure: errors are relative to the largest element of the reference") {
    const Measure m = of({1.0, -4.0, 2.5}, {1.0, -4.0, 2.0});
    CHECK(m.error == 0.125);
    CHECK(m.rms_error == doctest::Approx(0.5 / std::sqrt(21.0)).epsilon(1e-14));
    CHECK(m.worst == "channel 2");
    CHECK(m.actual == 2.5);
    CHECK(m.expected == 2.0);
    CHECK(m.by_channel == std::vector<double>{0.0, 0.0, 0.125});
    CHECK(m.by_time.empty());
    CHECK(m.by_row.empty());
  }

  TEST_CASE("measure: equal tensors have no error, and the first element stands for them") {
    const Measure m = of({1.0, 2.0}, {1.0, 2.0});
    CHECK(m.error == 0.0);
    CHECK(m.rms_error == 0.0);
    CHECK(m.ulp == 0);
    CHECK(m.worst == "channel 0");
  }

  TEST_CASE("measure: what is not finite on either side is infinitely wrong, even where both sides agree") {
    for (const double bad : {kNaN, kInfinity, -kInfinity}) {
      CAPTURE(bad);
      for (const auto& m : {of({1.0, bad, 9.0}, {1.0, 2.0, 3.0}), of({1.0, 2.0, 9.0}, {1.0, bad, 3.0}),
                            of({1.0, bad, 9.0}, {1.0, bad, 3.0})}) {
        CHECK(m.error == kInfinity);
        CHECK(m.rms_error == kInfinity);
        CHECK(m.ulp == INT64_MAX);
        CHECK(m.worst == "channel 1");
        CHECK(m.by_channel == std::vector<double>{0.0, kInfinity, 2.0});
      }
    }
    const Measure m = of({kNaN}, {1.0});
    CHECK(std::isnan(m.actual));
    CHECK(m.expected == 1.0);
  }

  TEST_CASE("measure: a difference beyond the largest number is infinite, huge numbers otherwise are not") {
    CHECK(of({1.5e308}, {-1.5e308}).error == kInfinity);
    const Measure huge = of({1.5e308, 1e308}, {1e308, 1e308});
    CHECK(huge.error == doctest::Approx(0.5));
    CHECK(huge.rms_error == doctest::Approx(0.5 / std::sqrt(2.0)));
    const Measure tiny = of({1.5e-308, 1e-308}, {1e-308, 1e-308});
    CHECK(tiny.error == doctest::Approx(0.5));
    CHECK(tiny.rms_error == doctest::Approx(0.5 / std::sqrt(2.0)));
  }

  TEST_CASE("measure: against zeros only zeros and what is below the normal numbers are right") {
    CHECK(of({0.0, 0.0}, {0.0, 0.0}).error == 0.0);
    CHECK(of({0.0, -0.0}, {-0.0, 0.0}).ulp == 0);
    const Measure m = of({1e-30, -2e-30}, {0.0, 0.0});
    CHECK(m.error == kInfinity);
    CHECK(m.rms_error == kInfinity);
    CHECK(m.worst == "channel 1");
    CHECK(m.by_channel == std::vector<double>{kInfinity, kInfinity});
    CHECK(of({1e-39}, {0.0}, DType::f64).error == kInfinity);
    CHECK(of({1e-39}, {0.0}, DType::f32).error == 0.0);
    CHECK(of({1e-39}, {0.0}, DType::bf16).rms_error == 0.0);
    CHECK(of({2e-38}, {0.0}, DType::f32).error == kInfinity);
    CHECK(of({6e-5}, {0.0}, DType::f16).error == 0.0);
    CHECK(of({7e-5}, {0.0}, DType::f16).error == kInfinity);
    CHECK(of({1e-310}, {0.0}, DType::f64).error == 0.0);
  }

  TEST_CASE("measure: one element of rank 0, and no element at all") {
    const Tensor one = test::to_tensor(test::Array(3.0), DType::f64);
    const Tensor two = test::to_tensor(test::Array(2.0), DType::f64);
    const Measure m = harness::measure(one, two, DType::f64, {});
    CHECK(m.error == 0.5);
    CHECK(m.worst == "the only element");
    CHECK(m.by_channel.empty());
    for (const Shape& shape : {Shape{0}, Shape{2, 0, 4}, Shape{2, 3, 0}}) {
      const Measure none =
          harness::measure(empty(shape, DType::f32), empty(shape, DType::f64), DType::f32, {kDimensions, {}});
      CHECK(none.error == 0.0);
      CHECK(none.rms_error == 0.0);
      CHECK(none.ulp == 0);
      CHECK(none.worst.empty());
      CHECK(none.by_time.empty());
      CHECK(none.by_channel.empty());
      CHECK(harness::error_map("x", empty(shape, DType::f32), empty(shape, DType::f64), {}).errors.empty());
    }
  }

  TEST_CASE("measure: units in the last place are those of the dtype, of elements that count") {
    // 1 + 2^-7 is bf16's neighbour of 1; in f32 that is 2^16 numbers further.
    const std::vector<double> x = {1.0 + 0x1p-7, 1.0};
    CHECK(of(x, {1.0, 1.0}, DType::bf16).ulp == 1);
    CHECK(of(x, {1.0, 1.0}, DType::f16).ulp == 8);
    CHECK(of(x, {1.0, 1.0}, DType::f32).ulp == 65536);
    CHECK(of({1.0, 3e-4}, {1.0, 2e-4}, DType::bf16).ulp == 0);  // below 1e-3 of the largest
    CHECK(of({1.0, 2e-3}, {1.0, 1e-3}, DType::bf16).ulp == 128);
    CHECK(of({-1.0}, {1.0}, DType::bf16).ulp == 2 * 0x3f80);
  }

  TEST_CASE("ulp_distance: neighbours are one apart, across zero and powers of two as well") {
    using harness::ulp_distance;
    CHECK(ulp_distance(1.0, std::nextafter(1.0, 2.0), DType::f64) == 1);
    CHECK(ulp_distance(1.0, std::nextafter(1.0, 0.0), DType::f64) == 1);
    CHECK(ulp_distance(0.0, -0.0, DType::f32) == 0);
    CHECK(ulp_distance(0x1p-149, -0x1p-149, DType::f32) == 2);
    CHECK(ulp_distance(65504.0, 65472.0, DType::f16) == 1);
    CHECK(ulp_distance(1.0, 1.0 + 0x1p-12, DType::f16) == 0);  // both round to 1
    CHECK(ulp_distance(1.7e308, -1.7e308, DType::f64) == INT64_MAX);
  }

  TEST_CASE("measure: the worst element in words, with its chunk") {
    const Tensor reference = test::random_tensor({2, 130, 3, 20}, 1);
    const Layout layout{kDimensions, tokens_of(2, {130}, 64)};
    CHECK(harness::measure(changed(reference, {1, 65, 2, 17}, 9.0), reference, DType::f64, layout).worst ==
          "batch 1, time 65 (chunk 1, row 1), head 2, channel 17");
    CHECK(harness::measure(changed(reference, {0, 0, 0, 0}, 9.0), reference, DType::f64, layout).worst ==
          "batch 0, time 0 (chunk 0, row 0), head 0, channel 0");
    CHECK(harness::measure(changed(reference, {0, 129, 0, 1}, kNaN), reference, DType::f64, layout).worst ==
          "batch 0, time 129 (chunk 2, row 1), head 0, channel 1");
    CHECK(harness::measure(changed(reference, {0, 129, 0, 1}, 9.0), reference, DType::f64, {{"batch", "time"}, {}})
              .worst == "batch 0, time 129, dimension 2: 0, dimension 3: 1");
  }

  TEST_CASE("measure: the worst element in words, among several sequences") {
    const Tensor reference = test::random_tensor({1, 70, 1, 2}, 2);
    const Layout layout{kDimensions, tokens_of(1, {1, 0, 40, 29}, 16)};
    CHECK(harness::measure(changed(reference, {0, 4, 0, 1}, 9.0), reference, DType::f64, layout).worst ==
          "batch 0, time 4 (sequence 2, time 3 of it, chunk 0, row 3), head 0, channel 1");
    CHECK(harness::measure(changed(reference, {0, 38, 0, 1}, 9.0), reference, DType::f64, layout).worst ==
          "batch 0, time 38 (sequence 2, time 37 of it, chunk 2, row 5), head 0, channel 1");
    CHECK(harness::measure(changed(reference, {0, 69, 0, 0}, 9.0), reference, DType::f64, layout).worst ==
          "batch 0, time 69 (sequence 3, time 28 of it, chunk 1, row 12), head 0, channel 0");
  }

  TEST_CASE("measure: tokens belong to tensors over batch and time only") {
    const Layout layout{{"head", "channel"}, tokens_of(1, {6}, 4)};
    const Tensor reference = test::random_tensor({1, 6}, 3);
    const Measure m = harness::measure(changed(reference, {0, 5}, 9.0), reference, DType::f64, layout);
    CHECK(m.worst == "head 0, channel 5");
    CHECK(m.by_time.empty());
    CHECK(m.by_channel.size() == 6);
    // Another number of tokens than the tensor has.
    const Layout other{kDimensions, tokens_of(1, {5}, 4)};
    const Tensor x = test::random_tensor({1, 6, 1, 1}, 3);
    CHECK(harness::measure(changed(x, {0, 5, 0, 0}, 9.0), x, DType::f64, other).worst ==
          "batch 0, time 5, head 0, channel 0");
  }

  TEST_CASE("measure: errors by time, row and channel") {
    const Tensor reference = test::to_tensor(test::filled({1, 9, 2, 3}, -2.0), DType::f64);
    Tensor x = changed(reference, {0, 2, 1, 0}, -3.0);  // sequence 0, time 2
    x = changed(x, {0, 6, 0, 2}, -2.5);                 // sequence 1, time 2
    x = changed(x, {0, 8, 0, 2}, -1.0);                 // sequence 1, time 4, row 0
    const Measure m = harness::measure(x, reference, DType::f64, {kDimensions, tokens_of(1, {4, 5}, 4)});
    CHECK(m.by_time == std::vector<double>{0.0, 0.0, 0.5, 0.0, 0.5});
    CHECK(m.by_row == std::vector<double>{0.5, 0.0, 0.5, 0.0});
    CHECK(m.by_channel == std::vector<double>{0.5, 0.0, 0.5});
    // Without tokens: the dimension that is called time.
    const Measure plain = harness::measure(x, reference, DType::f64, {kDimensions, {}});
    CHECK(plain.by_time == std::vector<double>{0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.25, 0.0, 0.5});
    CHECK(plain.by_row.empty());
  }

  TEST_CASE("measure: [batch, time] has its times along the last dimension") {
    const Tensor reference = test::to_tensor(test::filled({2, 5}, 1.0), DType::f64);
    const Layout layout{{"batch", "time"}, tokens_of(2, {5}, 4)};
    const Measure m = harness::measure(changed(reference, {1, 4}, 2.0), reference, DType::f64, layout);
    CHECK(m.by_time == std::vector<double>{0.0, 0.0, 0.0, 0.0, 1.0});
    CHECK(m.by_row == std::vector<double>{1.0, 0.0, 0.0, 0.0});
    CHECK(m.worst == "batch 1, time 4 (chunk 1, row 0)");
    const auto map = harness::error_map("x", changed(reference, {1, 4}, 2.0), reference, layout);
    CHECK(map.times == 5);
    CHECK(map.channels == 1);
    CHECK(map.errors == std::vector<double>{0.0, 0.0, 0.0, 0.0, 1.0});
  }

  TEST_CASE("measure: any dtype and layout on either side") {
    const Tensor reference = test::random_tensor({1, 4, 2, 3}, 5);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Tensor x = test::to_tensor(test::to_array(reference), dtype);
      const Measure m = harness::measure(x, reference, dtype, {kDimensions, {}});
      CHECK(m.error > 0.0);
      CHECK(m.error <= (dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8));
      CHECK(m.ulp == 0);  // rounded as the reference is
    }
    const Tensor transposed = reference.as_view({1, 2, 4, 3}, {24, 3, 6, 1}, 0);
    const Measure same = harness::measure(transposed, transposed, DType::f64, {});
    CHECK(same.error == 0.0);
  }

  TEST_CASE("measure: shapes must be the same") {
    CHECK_ERROR(harness::measure(list({1.0, 2.0}), list({1.0}), DType::f64, {}),
                "measure: x has shape [2], expected [1] as the reference has");
    CHECK_ERROR(harness::error_map("x", list({1.0, 2.0}), list({1.0}), {}),
                "error_map: x has shape [2], expected [1] as the reference has");
  }

  TEST_CASE("error_map: the largest error per time within its sequence and channel") {
    const Tensor reference = test::to_tensor(test::filled({1, 9, 2, 3}, -2.0), DType::f64);
    Tensor x = changed(reference, {0, 2, 1, 0}, -3.0);
    x = changed(x, {0, 6, 0, 0}, -2.5);
    x = changed(x, {0, 8, 0, 2}, kNaN);
    const auto map = harness::error_map("dq", x, reference, {kDimensions, tokens_of(1, {4, 5}, 4)});
    CHECK(map.tensor == "dq");
    CHECK(map.times == 5);
    CHECK(map.channels == 3);
    std::vector<double> expected(15, 0.0);
    expected[2 * 3] = 0.5;
    expected[4 * 3 + 2] = kInfinity;
    CHECK(map.errors == expected);
  }

  TEST_CASE("error_map: other leading dimensions are one") {
    const Tensor reference = test::to_tensor(test::filled({2, 3, 4}, 1.0), DType::f64);
    const auto map =
        harness::error_map("h", changed(reference, {1, 2, 3}, 2.0), reference, {{"sequence", "head", "channel"}, {}});
    CHECK(map.times == 6);
    CHECK(map.channels == 4);
    CHECK(map.errors.back() == 1.0);
    CHECK(map.errors.size() == 24);
    const auto line = harness::error_map("A_log", list({1.0, 3.0}), list({1.0, 2.0}), {{"head"}, {}});
    CHECK(line.times == 1);
    CHECK(line.errors == std::vector<double>{0.0, 0.5});
  }

  TEST_CASE("measure: a tensor of 100 000 elements takes milliseconds") {
    const Tensor reference = test::random_tensor({1, 200, 4, 125}, 6);
    const Tensor x = test::to_tensor(test::to_array(reference), DType::bf16);
    const Layout layout{kDimensions, tokens_of(1, {200}, 64)};
    const auto start = std::chrono::steady_clock::now();
    CHECK(harness::measure(x, reference, DType::bf16, layout).error < 0x1p-8);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    MESSAGE("measure: " << seconds.count() * 1e3 << " ms");
    CHECK(seconds.count() < 1.0);  // sanitizers and busy machines
  }
}

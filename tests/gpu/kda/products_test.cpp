// The products of v2's scans: wgmma, with its descriptors, against mma.sync on the same tile. On the twin both follow
// our reading of the manual; on a GPU this says whether it is the GPU's.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/cuda/kda/v2/kernels.h"
#include "backends/cuda/kda/v2/product_check.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "tests/gpu/device.h"
#include "tests/support/compare.h"

namespace deltatape::test {
namespace {

namespace v2 = cuda::kda::v2;

/// Numbers with few bits, different all over: their products and sums are exact in any order.
Tensor small_numbers(int rows, int cols, int factor) {
  std::vector<float> x;
  x.reserve(static_cast<size_t>(rows) * static_cast<size_t>(cols));
  for (int i = 0; i < rows * cols; ++i) {
    x.push_back(static_cast<float>((factor * i + i / cols * 29) % 61 - 30) / 8);
  }
  return to(from_vector(x, {rows, cols}), DType::bf16);
}

/// What one product should be: of 16 of the depth from `first` on, or of more.
std::vector<float> exact_product(const v2::CheckedProduct& product, const std::vector<float>& a,
                                 const std::vector<float>& b, int first, int last) {
  std::vector<float> sums;
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < product.columns(); ++j) {
      float sum = 0;
      for (int k = first; k < last; ++k) {
        const int of_b = product.transposed ? j * product.cols + k : k * product.cols + j;
        sum += a.data()[i * product.depth() + k] * b.data()[of_b];
      }
      sums.push_back(sum);
    }
  }
  return sums;
}

/// How many of `expected` the results from `at` on are not, and where the first of those is.
std::string differences(const std::vector<float>& results, size_t at, const std::vector<float>& expected, int columns) {
  size_t wrong = 0;
  size_t first = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (results[at + i] != expected[i]) {
      first = wrong == 0 ? i : first;
      ++wrong;
    }
  }
  if (wrong == 0) {
    return "";
  }
  const size_t width = static_cast<size_t>(columns);
  return fmt::format("{} of {}, the first at row {} column {}: {}, expected {}", wrong, expected.size(), first / width,
                     first % width, results[at + first], expected[first]);
}

TEST_CASE("kda v2: every product of the scans through wgmma is that of mma.sync [gpu]") {
  if (!have_device()) {
    return;
  }
  if (const std::string reason = v2::why_no_wgmma(Device::cuda()); !reason.empty()) {
    MESSAGE("skipped: " << reason);
    return;
  }
  for (const v2::CheckedProduct& product : v2::kCheckedProducts) {
    CAPTURE(product.transposed);
    CAPTURE(product.cols);
    const int depth = product.depth();
    const Tensor a = small_numbers(64, depth, 7);
    const Tensor b = small_numbers(64, product.cols, 11);
    const v2::CheckedResults results = v2::check_product(product, to(a, Device::cuda()), to(b, Device::cuda()));
    const std::vector<float> left = to(a, DType::f32).to_vector<float>();
    const std::vector<float> right = to(b, DType::f32).to_vector<float>();
    const std::vector<float> by_wgmma = to(results.by_wgmma, Device::cpu()).to_vector<float>();
    const std::vector<float> at_once = to(results.at_once, Device::cpu()).to_vector<float>();
    const std::vector<float> by_mma = to(results.by_mma, Device::cpu()).to_vector<float>();
    size_t at = 0;
    for (int place = 0; place < v2::kCheckedPlaces; ++place) {
      CAPTURE(place);
      for (int step = 0; step <= depth / 16; ++step) {  // the last: all of them
        CAPTURE(step);
        const bool all = step == depth / 16;
        const std::vector<float> expected =
            exact_product(product, left, right, all ? 0 : 16 * step, all ? depth : 16 * step + 16);
        CHECK(differences(by_mma, at, expected, product.columns()) == "");
        CHECK(differences(by_wgmma, at, expected, product.columns()) == "");
        CHECK(differences(at_once, at, expected, product.columns()) == "");
        at += expected.size();
      }
    }
    CHECK(at == by_wgmma.size());
  }
}

}  // namespace
}  // namespace deltatape::test

// The products of v2's scans: wgmma, with its descriptors, against mma.sync on the same tile. On the twin both follow
// our reading of the manual; on a GPU this says whether it is the GPU's.
#include <doctest/doctest.h>

#include <vector>

#include "backends/cuda/kda/v2/product_check.h"
#include "backends/cuda/runtime/device.h"
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

TEST_CASE("kda v2: every product of the scans through wgmma is that of mma.sync [gpu]") {
  if (!have_device()) {
    return;
  }
  if (cuda::device_properties(Device::cuda()).major != 9) {
    MESSAGE("skipped: wgmma is of compute capability 9.x");
    return;
  }
  for (const v2::CheckedProduct& product : v2::kCheckedProducts) {
    CAPTURE(product.transposed);
    CAPTURE(product.cols);
    const Tensor a = small_numbers(64, product.depth(), 7);
    const Tensor b = small_numbers(64, product.cols, 11);
    const v2::CheckedResults results = v2::check_product(product, to(a, Device::cuda()), to(b, Device::cuda()));
    const Tensor by_wgmma = to(results.by_wgmma, Device::cpu());
    const Tensor by_mma = to(results.by_mma, Device::cpu());
    const std::vector<float> left = to(a, DType::f32).to_vector<float>();
    const std::vector<float> right = to(b, DType::f32).to_vector<float>();
    const std::vector<float> wgmma = by_wgmma.to_vector<float>();
    const std::vector<float> mma = by_mma.to_vector<float>();
    const int depth = product.depth();
    const int columns = product.columns();
    size_t at = 0;
    int wrong_wgmma = 0;
    int wrong_mma = 0;
    for (int place = 0; place < v2::kCheckedPlaces; ++place) {
      for (int step = 0; step <= depth / 16; ++step) {
        const bool all = step == depth / 16;
        for (int i = 0; i < 64; ++i) {
          for (int j = 0; j < columns; ++j) {
            float sum = 0;
            for (int k = all ? 0 : 16 * step; k < (all ? depth : 16 * step + 16); ++k) {
              const int of_right = product.transposed ? j * product.cols + k : k * product.cols + j;
              sum += left.data()[i * depth + k] * right.data()[of_right];
            }
            wrong_wgmma += wgmma[at] == sum ? 0 : 1;
            wrong_mma += mma[at] == sum ? 0 : 1;
            ++at;
          }
        }
      }
    }
    CHECK(at == wgmma.size());
    CHECK(wrong_mma == 0);
    CHECK(wrong_wgmma == 0);
  }
}

}  // namespace
}  // namespace deltatape::test

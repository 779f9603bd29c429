#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/tile/mma.h"
#include "backends/cuda/kda/tile/wgmma.h"
#include "backends/cuda/kda/v2/kernels.h"
#include "backends/cuda/kda/v2/product_check.h"

namespace deltatape::cuda::kda::v2 {

struct ProductArguments {
  const BFloat16* a = nullptr;
  const BFloat16* b = nullptr;
  float* by_wgmma = nullptr;
  float* at_once = nullptr;
  float* by_mma = nullptr;
};

/// Block (x, y): step x (all of them where x is their number) with the tile at place y.
template <bool transposed, int cols>
struct ProductCheck {
  using Params = ProductArguments;
  static constexpr CheckedProduct kProduct{transposed, cols};
  static constexpr int kRows = 64;
  static constexpr int kColumns = kProduct.columns();
  static constexpr int kSteps = kProduct.depth() / 16;
  static constexpr int kWarps = tile::kWarpsOfGroup;
  static constexpr int kBlocksPerSm = 1;
  using Tile = tile::STile<BFloat16, kRows, cols, tile::Panels<kRows>>;
  static constexpr int kSharedBytes = (kCheckedPlaces - 1) * tile::kPanelAlignment + Tile::kBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    if constexpr (tile::kHasWarpgroups) {
      const auto b = block.template shared<Tile>(block.y * tile::kPanelAlignment);
      const tile::GTile<const BFloat16> source(p.b, cols, kRows, cols);
      block.fill(b, [&](int row, int col) { return source(row, col); });
      tile::fence_stores();
      block.sync();
      const int first = block.x == kSteps ? 0 : block.x;
      const int last = block.x == kSteps ? kSteps : block.x + 1;
      const int64_t place = (int64_t{block.y} * (kSteps + 1) + block.x) * kRows * kColumns;
      by_mma(block, p, b, first, last, place);
      by_wgmma(block, p, b, first, last, place);
      at_once(block, p, b, place);
    } else {
      tile::no_warpgroups();
    }
  }

 private:
  DT_DEVICE static tile::FragA left(const tile::Block& block, const Params& p, int step) {
    const tile::GTile<const BFloat16> a(p.a, kProduct.depth(), kRows, kProduct.depth());
    return tile::make_a([&](int row, int k) { return a(16 * block.warp() + row, 16 * step + k); });
  }
  DT_DEVICE static tile::GTile<float> results(float* to, int64_t place) {
    return tile::GTile<float>(to + place, kColumns, kRows, kColumns);
  }

  DT_DEVICE static void by_mma(const tile::Block& block, const Params& p, const Tile& b, int first, int last,
                               int64_t place) {
    tile::Acc sums[kColumns / 16];
    tile::unroll<kColumns / 16>([&](auto t) { sums[t] = tile::zeros(); });
    for (int step = first; step < last; ++step) {
      const tile::FragA a = left(block, p, step);
      tile::unroll<kColumns / 16>([&](auto t) {
        tile::mma(sums[t], a,
                  transposed ? tile::load_b_trans(b, 16 * t, 16 * step) : tile::load_b(b, 16 * step, 16 * t));
      });
    }
    tile::unroll<kColumns / 16>(
        [&](auto t) { tile::store(results(p.by_mma, place), 16 * block.warp(), 16 * t, sums[t]); });
  }

  DT_DEVICE static void by_wgmma(const tile::Block& block, const Params& p, const Tile& b, int first, int last,
                                 int64_t place) {
    tile::WgAcc<kColumns> sums;
    tile::unroll<kColumns / 16>([&](auto t) { sums[t] = tile::zeros(); });
    for (int step = first; step < last; ++step) {
      tile::FragA a = left(block, p, step);
      tile::wg_fence(a, sums);
      begin<false>(sums, a, b, step);
      tile::wg_commit();
      tile::wg_wait<0>(sums);
    }
    tile::unroll<kColumns / 16>(
        [&](auto t) { tile::store(results(p.by_wgmma, place), 16 * block.warp(), 16 * t, sums[t]); });
  }

  DT_DEVICE static void at_once(const tile::Block& block, const Params& p, const Tile& b, int64_t place) {
    tile::WgAcc<kColumns> sums;
    tile::unroll<kColumns / 16>([&](auto t) { sums[t] = tile::make_acc([](int, int) { return 3.0F; }); });
    if (block.x == kSteps) {
      tile::FragA a[kSteps];
      tile::unroll<kSteps>([&](auto s) { a[s] = left(block, p, s); });
      tile::wg_fence(a, sums);
      tile::unroll<kSteps>([&](auto s) {
        begin<s == 0>(sums, a[s], b, s);
        tile::wg_commit();
      });
      tile::wg_wait<0>(sums);
    } else {
      tile::FragA a = left(block, p, block.x);
      tile::wg_fence(a, sums);
      begin<true>(sums, a, b, block.x);
      tile::wg_commit();
      tile::wg_wait<0>(sums);
    }
    tile::unroll<kColumns / 16>(
        [&](auto t) { tile::store(results(p.at_once, place), 16 * block.warp(), 16 * t, sums[t]); });
  }

  template <bool from_zero>
  DT_DEVICE static void begin(tile::WgAcc<kColumns>& sums, tile::FragA& a, const Tile& b, int step) {
    if constexpr (transposed) {
      tile::wg_mma_trans<from_zero>(sums, a, b, 16 * step);
    } else {
      tile::wg_mma<from_zero>(sums, a, b, 16 * step);
    }
  }
};

namespace {

template <bool transposed, int cols>
void launch(const Stream& stream, const ProductArguments& p) {
  using Kernel = ProductCheck<transposed, cols>;
  tile::launch_warps<Kernel>(stream, Grid{Kernel::kSteps + 1, kCheckedPlaces}, p);
}

}  // namespace

CheckedResults check_product(const CheckedProduct& product, const Tensor& a, const Tensor& b) {
  const Shape shape{kCheckedPlaces, product.depth() / 16 + 1, 64, product.columns()};
  const TensorOptions options{DType::f32, a.device()};
  const std::string reason = why_no_wgmma(a.device());
  check(reason.empty(), "kda::v2::check_product", "{}", reason);
  const CheckedResults results{empty(shape, options), empty(shape, options), empty(shape, options)};
  const ProductArguments p{.a = static_cast<const BFloat16*>(a.raw()),
                           .b = static_cast<const BFloat16*>(b.raw()),
                           .by_wgmma = static_cast<float*>(results.by_wgmma.mutable_raw()),
                           .at_once = static_cast<float*>(results.at_once.mutable_raw()),
                           .by_mma = static_cast<float*>(results.by_mma.mutable_raw())};
  const Stream stream = current_stream(a.device());
  if (product.cols == 128) {
    product.transposed ? launch<true, 128>(stream, p) : launch<false, 128>(stream, p);
  } else {
    check(product.cols == 64, "kda::v2::check_product", "cols is {}, expected 64 or 128", product.cols);
    product.transposed ? launch<true, 64>(stream, p) : launch<false, 64>(stream, p);
  }
  return results;
}

}  // namespace deltatape::cuda::kda::v2

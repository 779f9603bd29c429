// The tables of docs/performance.md on KDA: every figure is a share of the matrix-product rate, or a ratio to another
// case, measured in turns in one run. `bench_kda` prints all tables, `bench_kda NAME` one. `bench_kda guard` compares
// with half of what the documentation says, and fails below it.
#include <fmt/core.h>
#include <omp.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/grad_mode.h"
#include "benchmarks/limits.h"
#include "core/generator.h"
#include "ops/kda/decode.h"
#include "ops/ops.h"
#include "tools/kda_bench.h"

namespace {

using namespace deltatape;
using tools::KdaBenchSetting;
using tools::KdaSizes;

/// One row of a table, and the best of its turns.
struct Row {
  std::string name;
  KdaSizes sizes;
  KdaBenchSetting setting = {};
  kda::Implementation implementation = kda::Implementation::fused_chunk;
  int threads = omp_get_max_threads();

  double forward_ms = std::numeric_limits<double>::max();
  double backward_ms = std::numeric_limits<double>::max();
  double product_gflops = 0.0;

  [[nodiscard]] double share(bool forward) const {
    return tools::useful_kda_flops(sizes, forward, !forward) / (forward ? forward_ms : backward_ms) / 1e6 /
           product_gflops;
  }
};

/// The setting that the shares are about: gate with a lower bound, L2 norm and sigmoid of beta in the operator.
KdaBenchSetting with_everything() {
  KdaBenchSetting setting;
  setting.options.gate = kda::Gate::lower_bound;
  setting.options.use_qk_l2norm = true;
  setting.options.use_beta_sigmoid = true;
  return setting;
}

Row row_of(std::string name, const KdaSizes& sizes, const KdaBenchSetting& setting = with_everything()) {
  Row row{.name = std::move(name), .sizes = sizes, .setting = setting};
  return row;
}

double best(const std::vector<double>& ms) { return *std::min_element(ms.begin(), ms.end()); }

/// All rows in turns, so that a slow moment of the machine meets all of them.
void measure(std::vector<Row>& rows, int turns, int64_t repeat) {
  const int all_threads = omp_get_max_threads();
  for (int turn = 0; turn < turns; ++turn) {
    for (Row& row : rows) {
      omp_set_num_threads(row.threads);
      row.product_gflops = std::max(row.product_gflops, tools::product_gflops(row.setting.dtype, row.setting.device));
      const tools::KdaBenchCase c = tools::make_kda_bench_case(row.sizes, row.setting);
      row.forward_ms = std::min(row.forward_ms, best(tools::measure_kda(c, row.implementation, false, repeat).forward));
      row.backward_ms =
          std::min(row.backward_ms, best(tools::measure_kda(c, row.implementation, true, repeat).backward));
      omp_set_num_threads(all_threads);
    }
  }
  // The best product of the whole run: what one row's turns missed, another's may have seen.
  for (Row& row : rows) {
    for (const Row& other : rows) {
      if (other.threads == row.threads && (other.setting.dtype == DType::f64) == (row.setting.dtype == DType::f64)) {
        row.product_gflops = std::max(row.product_gflops, other.product_gflops);
      }
    }
  }
}

std::string percent(double share) { return fmt::format("{:.0f} %", 100.0 * share); }

// ---- tables -------------------------------------------------------------------------------------------------------

void settings_table() {
  const KdaSizes sizes{1, 4096, 8, 8, 128, 128};
  std::vector<Row> rows;
  const auto add = [&](const char* name, auto change) {
    KdaBenchSetting setting = with_everything();
    change(setting);
    rows.push_back(row_of(name, sizes, setting));
  };
  add("lower-bound gate", [](KdaBenchSetting&) {});
  add("with save_intermediates", [](KdaBenchSetting& s) { s.options.save_intermediates = true; });
  add("with safe_gate", [](KdaBenchSetting& s) { s.options.safe_gate = true; });
  add("with both", [](KdaBenchSetting& s) { s.options.safe_gate = s.options.save_intermediates = true; });
  add("standard gate", [](KdaBenchSetting& s) { s.options.gate = kda::Gate::standard; });
  add("log decays given, no norm", [](KdaBenchSetting& s) { s.options = {}; });
  add("eight packed sequences", [](KdaBenchSetting& s) { s.varlen = true; });
  add("tensors in bf16", [](KdaBenchSetting& s) { s.dtype = DType::bf16; });
  add("tensors in f16", [](KdaBenchSetting& s) { s.dtype = DType::f16; });
  add("f64", [](KdaBenchSetting& s) { s.dtype = DType::f64; });
  rows.push_back(row_of("fused_recurrent", sizes));
  rows.back().implementation = kda::Implementation::fused_recurrent;
  measure(rows, 3, 3);
  fmt::print("| B=1, T=4096, H=8, K=V=128 | forward | share | backward | share | time, of f32: forward, backward |\n");
  fmt::print("|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    fmt::print("| {} | {:.1f} ms | {} | {:.1f} ms | {} | {:.2f}, {:.2f} |\n", row.name, row.forward_ms,
               percent(row.share(true)), row.backward_ms, percent(row.share(false)),
               row.forward_ms / rows[0].forward_ms, row.backward_ms / rows[0].backward_ms);
  }
}

void sizes_table() {
  const std::vector<int64_t> heads{1, 2, 3, 32};
  fmt::print("| K = V | B*H = 1: forward, backward | 2 | 3 | 32 |\n|---|---|---|---|---|\n");
  for (const int64_t size : {32, 64, 96, 100, 128, 256}) {
    std::vector<Row> rows;
    for (const int64_t count : heads) {
      // About the same work everywhere, in whole chunks.
      const int64_t tokens = std::clamp<int64_t>((int64_t{1} << 25) / (size * size * count), 256, 8192) / 64 * 64;
      rows.push_back(row_of("", {1, tokens, count, count, size, size}));
    }
    measure(rows, 3, 3);
    fmt::print("| {} |", size);
    for (const Row& row : rows) {
      fmt::print(" {}, {} |", percent(row.share(true)), percent(row.share(false)));
    }
    fmt::print("\n");
  }
}

void length_table() {
  std::vector<Row> rows;
  for (const int64_t tokens : {1024, 4096, 16384, 65536}) {
    rows.push_back(row_of(std::to_string(tokens), {1, tokens, 4, 4, 128, 128}));
  }
  measure(rows, 3, 2);
  fmt::print(
      "| T (B=1, H=4, K=V=128) | forward, us per token | to T = 1024 | backward, us per token | to T = 1024 |\n");
  fmt::print("|---|---|---|---|---|\n");
  const auto per_token = [](const Row& row, double ms) { return 1e3 * ms / static_cast<double>(row.sizes.T); };
  for (const Row& row : rows) {
    const double forward = per_token(row, row.forward_ms);
    const double backward = per_token(row, row.backward_ms);
    fmt::print("| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} |\n", row.name, forward,
               forward / per_token(rows[0], rows[0].forward_ms), backward,
               backward / per_token(rows[0], rows[0].backward_ms));
  }
}

void threads_table() {
  const KdaSizes sizes{1, 4096, 8, 8, 128, 128};
  const KdaSizes one_head{1, 4096, 1, 1, 128, 128};
  std::vector<Row> rows{row_of("H = 8", sizes), row_of("H = 8", sizes), row_of("H = 1", one_head),
                        row_of("H = 1", one_head)};
  rows[0].threads = rows[2].threads = 1;
  measure(rows, 4, 3);
  fmt::print("| {} threads over one | product | forward | of the product's gain | backward | of the product's gain |\n",
             rows[1].threads);
  fmt::print("|---|---|---|---|---|---|\n");
  for (size_t i = 0; i < rows.size(); i += 2) {
    const double product = rows[i + 1].product_gflops / rows[i].product_gflops;
    const double forward = rows[i].forward_ms / rows[i + 1].forward_ms;
    const double backward = rows[i].backward_ms / rows[i + 1].backward_ms;
    fmt::print("| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} |\n", rows[i].name, product, forward,
               forward / product, backward, backward / product);
  }
}

/// One token for each of many sequences; the limit is a copy of the states at the machine's copy bandwidth.
void decode_table() {
  const NoGradGuard guard;
  fmt::print(
      "| decode, K=V=128 | time | state bytes, read and written | rate | share of a copy |\n|---|---|---|---|---|\n");
  for (const int64_t sequences : {64, 256, 512}) {
    constexpr int64_t kHeads = 4;
    const tools::KdaBenchCase c =
        tools::make_kda_bench_case({sequences, 1, kHeads, kHeads, 128, 128}, with_everything());
    Generator generator(2);
    Tensor pool = mul(randn({sequences, kHeads, 128, 128}, generator), 0.1);
    const kda::DecodeSlots slots{.slots = arange(sequences)};
    const int64_t bytes = pool.numel() * 4;
    double seconds = std::numeric_limits<double>::max();
    double bandwidth = 0.0;
    for (int turn = 0; turn < 4; ++turn) {
      seconds = std::min(
          seconds, bench::best_seconds([&] { static_cast<void>(kda::decode(c.inputs, pool, slots, c.options)); }, 0.2));
      bandwidth = std::max(bandwidth, bench::copy_bandwidth(bytes, 6));
    }
    const double rate = 2.0 * static_cast<double>(bytes) / seconds;
    fmt::print("| {} sequences, {} heads | {:.3f} ms | {:.0f} MiB | {:.1f} GB/s | {} |\n", sequences, kHeads,
               1e3 * seconds, 2.0 * static_cast<double>(bytes) / (1 << 20), rate / 1e9, percent(rate / bandwidth));
  }
}

/// The engine's product beside the library that others take for products.
void blas_line() {
  const double seconds = bench::sgemm_seconds(1024, 0.5);
  const double engine = tools::product_gflops(DType::f32, Device::cpu());
  fmt::print("Product of 1024 x 1024 in f32: engine {:.0f} Gflop/s, OpenBLAS called directly {:.0f} Gflop/s.\n", engine,
             2.0 * 1024 * 1024 * 1024 / seconds / 1e9);
}

/// Half of what docs/performance.md says for this shape.
int guard() {
  constexpr double kForward = 0.5 * 0.70;
  constexpr double kBackward = 0.5 * 0.45;
  for (int attempt = 1; attempt <= 3; ++attempt) {  // the machine may be busy with something else
    std::vector<Row> rows{row_of("", {1, 1024, 4, 4, 128, 128})};
    measure(rows, 2, 3);
    const double forward = rows[0].share(true);
    const double backward = rows[0].share(false);
    fmt::print("forward {} of the product rate (at least {}), backward {} (at least {})\n", percent(forward),
               percent(kForward), percent(backward), percent(kBackward));
    if (forward >= kForward && backward >= kBackward) {
      return 0;
    }
  }
  return 1;
}

struct NamedTable {
  std::string_view name;
  void (*print)();
};
constexpr NamedTable kTables[] = {{"settings", settings_table},
                                  {"sizes", sizes_table},
                                  {"length", length_table},
                                  {"threads", threads_table},
                                  {"decode", decode_table}};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "";
  if (wanted == "guard") {
    return guard();
  }
  bool found = false;
  for (const NamedTable& table : kTables) {
    if (wanted.empty() || wanted == table.name) {
      if (!found) {
        blas_line();
      }
      fmt::print("\n");
      table.print();
      found = true;
    }
  }
  if (!found) {
    fmt::print(stderr, "bench_kda: table is '{}', expected settings, sizes, length, threads, decode or guard\n",
               wanted);
    return 2;
  }
  return 0;
}

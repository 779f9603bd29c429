// deltatape bench kda: how fast the implementations of the operator are, beside the matrix-product rate of the same
// run.
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <memory>

#include "core/error.h"
#include "ops/kda/inputs.h"
#include "tools/command.h"
#include "tools/kda_bench.h"
#include "tools/kda_run.h"
#include "tools/table.h"

namespace deltatape::tools {
namespace {

struct BenchArguments {
  std::string shape = "1,1024,4,4,128,128";
  std::string impl = "fused-chunk";
  std::string pass = "all";
  std::string device = "cpu";
  std::string dtype = "f32";
  std::string gate = "lower-bound";
  bool l2norm = false;
  bool beta_sigmoid = false;
  bool safe_gate = false;
  bool save_intermediates = false;
  bool varlen = false;
  int64_t chunk_size = 64;
  int64_t threads = 0;
  int64_t repeat = 5;
  std::string json;
};

KdaSizes parse_shape(const std::string& text) {
  std::vector<int64_t> sizes;
  for (const std::string& part : split_at_commas(text)) {
    int64_t size = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), size);
    check(result.ec == std::errc() && result.ptr == part.data() + part.size() && size > 0, "--shape",
          "'{}' in '{}' is not an integer of 1 or more", part, text);
    sizes.push_back(size);
  }
  check(sizes.size() == 6, "--shape", "'{}' has {} sizes, expected 6: B,T,H,HV,K,V", text, sizes.size());
  check(sizes[3] % sizes[2] == 0, "--shape", "HV is {}, expected a multiple of H = {}", sizes[3], sizes[2]);
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]};
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.size() % 2 == 1 ? x[x.size() / 2] : 0.5 * (x[x.size() / 2 - 1] + x[x.size() / 2]);
}

int run_bench(const BenchArguments& arguments) {
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  const KdaSizes s = parse_shape(arguments.shape);
  const DType dtype = parse_dtype("--dtype", arguments.dtype);
  const Device device = Device::parse("--device", arguments.device);
  check(!arguments.varlen || s.B == 1, "--shape", "B is {}, expected 1 with --varlen", s.B);
  std::vector<kda::Implementation> implementations;
  for (const std::string& name : split_at_commas(arguments.impl)) {
    implementations.push_back(kda_implementation(name));
  }
  if (!arguments.json.empty()) {
    check_writable("--json", arguments.json);
  }

  KdaBenchSetting setting{.dtype = dtype, .device = device, .options = {}, .varlen = arguments.varlen};
  setting.options.gate = arguments.gate == "none"       ? kda::Gate::none
                         : arguments.gate == "standard" ? kda::Gate::standard
                                                        : kda::Gate::lower_bound;
  setting.options.use_qk_l2norm = arguments.l2norm;
  setting.options.use_beta_sigmoid = arguments.beta_sigmoid;
  setting.options.safe_gate = arguments.safe_gate;
  setting.options.save_intermediates = arguments.save_intermediates;
  setting.options.chunk_size = arguments.chunk_size;
  const KdaBenchCase c = make_kda_bench_case(s, setting);
  kda::check_options("--gate", c.options);
  const double product = product_gflops(dtype, device);
  Table table({"impl", "pass", "shape", "dtype", "device", "threads", "ms_min", "ms_median", "gflops", "gemm_gflops",
               "share_of_gemm", "tokens_per_s", "peak_bytes"});
  for (const kda::Implementation implementation : implementations) {
    const auto add_row = [&](const char* pass, const std::vector<double>& ms, bool forward, bool backward,
                             int64_t peak_bytes) {
      const double best = *std::min_element(ms.begin(), ms.end());
      const double gflops = useful_kda_flops(s, forward, backward) / best / 1e6;
      table.add_row({std::string(kda::name_of(implementation)), pass, arguments.shape, arguments.dtype,
                     arguments.device, int64_t{omp_get_max_threads()}, Cell(best, 3), Cell(median(ms), 3),
                     Cell(gflops, 2), Cell(product, 2), Cell(gflops / product, 3),
                     Cell(static_cast<double>(s.B * s.T) / best * 1e3, 3), peak_bytes});
    };
    const bool all = arguments.pass == "all";
    if (all || arguments.pass == "fwd") {
      const KdaBenchTimes times = measure_kda(c, implementation, false, arguments.repeat);
      add_row("fwd", times.forward, true, false, times.peak_bytes);
    }
    if (arguments.pass == "fwd") {
      continue;
    }
    const KdaBenchTimes times = measure_kda(c, implementation, true, arguments.repeat);
    if (all || arguments.pass == "bwd") {
      add_row("bwd", times.backward, false, true, times.peak_bytes);
    }
    if (all || arguments.pass == "fwd+bwd") {
      std::vector<double> both(times.forward);
      std::transform(both.begin(), both.end(), times.backward.begin(), both.begin(), std::plus<>());
      add_row("fwd+bwd", both, true, true, times.peak_bytes);
    }
  }
  table.print(stdout);
  if (!arguments.json.empty()) {
    write_json(arguments.json, table.to_json());
  }
  return kFine;
}

}  // namespace

void add_bench(CLI::App& program, Action& action) {
  CLI::App& bench = *program.add_subcommand("bench", "Measure how fast something is");
  bench.require_subcommand(1);
  bench.footer("Example:\n  deltatape bench kda --shape 1,4096,8,8,128,128 --l2norm --beta-sigmoid");
  CLI::App& app = *bench.add_subcommand("kda", "The KDA operator, forward and backward");
  auto arguments = std::make_shared<BenchArguments>();
  app.add_option("--shape", arguments->shape, "Sizes")->type_name("B,T,H,HV,K,V")->capture_default_str();
  app.add_option("--impl", arguments->impl, "Comma-separated: recurrent, chunk, fused-recurrent, fused-chunk")
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--pass", arguments->pass, "fwd, bwd, fwd+bwd or all")
      ->check(one_of({"fwd", "bwd", "fwd+bwd", "all"}))
      ->capture_default_str();
  app.add_option("--device", arguments->device, "cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments->dtype, "f64, f32, bf16 or f16")
      ->check(one_of({"f64", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--gate", arguments->gate, "none, standard or lower-bound (-5)")
      ->check(one_of({"none", "standard", "lower-bound"}))
      ->capture_default_str();
  app.add_flag("--l2norm", arguments->l2norm, "The norm of q and k in the operator");
  app.add_flag("--beta-sigmoid", arguments->beta_sigmoid, "The sigmoid of beta in the operator");
  app.add_flag("--safe-gate", arguments->safe_gate, "Allow the centred form; not with the standard gate");
  app.add_flag("--save-intermediates", arguments->save_intermediates, "Keep states for backward");
  app.add_flag("--varlen", arguments->varlen, "Eight packed sequences of unlike lengths; B = 1");
  app.add_option("--chunk-size", arguments->chunk_size, "16, 32 or 64")
      ->check(CLI::IsMember({16, 32, 64}))
      ->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.add_option("--repeat", arguments->repeat, "Runs that are timed, after one that is not")
      ->check(integer_from(1))
      ->capture_default_str();
  app.add_option("--json", arguments->json, "Write the rows as JSON")->type_name("FILE");
  app.footer(
      "gflops count the direct chunk form with tiles of 16 tokens, without recomputation, whatever runs; gemm_gflops "
      "is "
      "the engine's product of 1024 x 1024 matrices in the same run.\n\n"
      "Example:\n  deltatape bench kda --shape 1,4096,8,8,128,128 --impl chunk,fused-chunk --l2norm --beta-sigmoid");
  app.callback([&action, arguments] { action = [arguments] { return run_bench(*arguments); }; });
}

}  // namespace deltatape::tools

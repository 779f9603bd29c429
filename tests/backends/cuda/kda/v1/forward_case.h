// A call of prep and of the scan on the host twin: inputs in memory that is watched, and what they stand for in double.
#pragma once

#include <string>
#include <vector>

#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/kernels.h"
#include "core/device.h"
#include "tests/backends/cuda/kda/v1/forward_reference.h"
#include "tests/backends/cuda/kda/v1/gate_sets.h"

namespace deltatape::test::kda_v1 {

struct ForwardOptions {
  GateSet set = GateSet::mixed;
  std::vector<int> lengths = {64};  // of the sequences
  int H = 1;
  int HV = 1;
  int K = 64;
  int V = 64;
  int C = 64;
  bool centred = false;
  cuda::kda::Gate gate = cuda::kda::Gate::none;  // with another one `set` chooses the keys only
  double lower_bound = -5.0;
  bool A_log = true;    // with a gate
  bool dt_bias = true;  // likewise
  bool l2norm = false;
  bool beta_sigmoid = false;
  double beta_factor = 1.0;
  bool g_f32 = false;
  bool beta_f32 = false;
  bool states = true;  // an initial state, and a gradient of the final one
  bool v_first = false;
  int warps = 2;
  int stages = 2;
  uint64_t seed = 5;
  cuda::kda::v1::ForwardKernels kernels = {};
  decltype(cuda::kda::v1::BackwardKernels::both_scans) both_scans = cuda::kda::v1::launch_both_scans;
};

/// Images of tiles, as records hold them.
double image_element(const BFloat16* image, int cols, int row, int col);

class ForwardCase {
 public:
  explicit ForwardCase(const ForwardOptions& options);

  /// Prep on all chunks and heads; results in `records` and `A`.
  void run_prep(bool solve = true);
  /// The scan after prep; results in `o`, `ht` and `h`.
  void run_scan();
  /// The scan of the backward; results in `h_bf16` and `v_new`.
  void run_scan_for_backward();
  /// The same and the reverse scan, in one grid; results in `dS`, `dv2` and, with states, `dh0` too.
  void run_both_scans();

  /// How chunks are compared: the largest error of each result against the reference, in its own measure.
  struct PrepErrors {
    double w = 0, Aqk = 0, A = 0;      // relative root mean square
    double kg = 0, qg = 0;             // largest, relative to each element
    double decay = 0;                  // likewise
    double beta = 0;                   // largest
    bool zeros_behind_the_end = true;  // and above the diagonals
  };
  [[nodiscard]] PrepErrors prep_errors() const;
  struct ScanErrors {
    double o = 0, ht = 0, h = 0, v_new = 0, dS = 0, dv2 = 0, dh0 = 0;  // relative root mean square over everything
  };
  [[nodiscard]] ScanErrors scan_errors() const;

  [[nodiscard]] int rows() const { return rows_; }
  [[nodiscard]] int chunks() const { return static_cast<int>(chunk_table_.size()); }
  [[nodiscard]] int sequences() const { return static_cast<int>(options_.lengths.size()); }
  /// Sequence n, value head hv, in double.
  [[nodiscard]] const HeadInputs<double>& head(int n, int hv) const {
    return heads_[static_cast<size_t>(n) * static_cast<size_t>(options_.HV) + static_cast<size_t>(hv)];
  }

  cuda::tile::host::Memory memory;
  cuda::kda::v1::PrepArguments prep;
  cuda::kda::v1::ScanArguments scan;
  std::vector<unsigned char> records;
  std::vector<BFloat16> A;
  std::vector<BFloat16> o;
  std::vector<BFloat16> h_bf16;
  std::vector<BFloat16> v_new;
  std::vector<BFloat16> dS;
  std::vector<BFloat16> dv2;
  std::vector<float> ht;
  std::vector<float> h;
  std::vector<float> dh0;

 private:
  void draw();
  void make_buffers();

  ForwardOptions options_;
  int rows_ = 0;
  std::vector<HeadInputs<double>> heads_;
  std::vector<int> first_rows_;
  std::vector<cuda::kda::ChunkEntry> chunk_table_;
  std::vector<cuda::kda::SequenceEntry> sequence_table_;
  // Tensors as kernels see them, rounded to what they are stored in.
  std::vector<float> q_, k_, v_, d_o_, g_, beta_, A_log_, dt_bias_, h0_, dht_;
  unsigned char* records_out_ = nullptr;
  BFloat16* A_out_ = nullptr;
};

}  // namespace deltatape::test::kda_v1

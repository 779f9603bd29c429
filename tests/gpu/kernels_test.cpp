// Kernels of the CUDA backend against the CPU's in f64, on the same rounded inputs; run twice, they give the same bits.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/convert.h"
#include "tests/gpu/device.h"
#include "tests/gpu/kernel_cases.h"
#include "tests/gpu/moved.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace deltatape::test {
namespace {

/// Floating-point tensors in f64, others as they are.
Tensors widened(const Tensors& tensors) {
  Tensors wide;
  for (const Tensor& x : tensors) {
    wide.push_back(is_floating(x.dtype()) ? to(x, DType::f64) : x);
  }
  return wide;
}

void check_case(const KernelCase& kernel) {
  const Device device = Device::cuda();
  for (const DType dtype : kernel.dtypes) {
    const Tensors inputs = kernel.inputs(dtype);
    const Tensors expected = kernel.call(backend_of(Device::cpu()), widened(inputs));
    const Tensors there = moved(inputs, device);
    const Tensors first = moved(kernel.call(backend_of(device), there), Device::cpu());
    const Tensors again = moved(kernel.call(backend_of(device), there), Device::cpu());
    REQUIRE(first.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const std::string name = kernel.name + " " + std::string(to_string(dtype)) + ", result " + std::to_string(i);
      // What is computed in f32 is no more exact than that, whatever its dtype.
      const DType precision =
          dtype != DType::f64 && first[i].dtype() == DType::f64 && kernel.units < 64 ? DType::f32 : first[i].dtype();
      const double units = is_floating(precision) ? kernel.units : 0.0;
      check_close({name}, first[i], to_array(expected[i]), first[i].dtype(), rounding(precision, units));
      const size_t bytes = static_cast<size_t>(first[i].numel()) * size_of(first[i].dtype());
      CHECK_MESSAGE((bytes == 0 || std::memcmp(first[i].raw(), again[i].raw(), bytes) == 0), name << " run twice");
    }
  }
}

void check_cases(const std::vector<KernelCase>& cases) {
  if (!have_device()) {
    return;
  }
  for (const KernelCase& kernel : cases) {
    check_case(kernel);
  }
}

TEST_CASE("cuda kernels: reductions and scans [gpu]") { check_cases(reduction_cases()); }
TEST_CASE("cuda kernels: rows, convolution and gate [gpu]") { check_cases(row_cases()); }
TEST_CASE("cuda kernels: indexing, topk and triangles [gpu]") { check_cases(indexing_cases()); }
TEST_CASE("cuda kernels: norms of gradients and AdamW [gpu]") { check_cases(training_cases()); }

TEST_CASE("cuda kernels: an index out of range is named with its place, and nothing is written [gpu]") {
  if (!have_device()) {
    return;
  }
  const Device device = Device::cuda();
  const Backend& backend = backend_of(device);
  std::vector<int64_t> values(70'000, 1);
  values[65'432] = 4;
  values[66'000] = -1;
  const Tensor index = to(from_vector(values), device);
  const Tensor x = to(random_tensor({4}, 1), device);
  const Tensor many = to(random_tensor({70'000}, 2), device);
  const std::string expected = "index is 4 at position 65432, expected 0 to 3";
  CHECK_ERROR(backend.gather(x, 0, index, many), "gather: " + expected);
  CHECK_ERROR(backend.index_select(x, 0, index, many), "index_select: " + expected);
  CHECK_ERROR(backend.scatter_add(many, 0, index, x), "scatter_add: " + expected);
  CHECK_ERROR(backend.index_add(many, 0, index, x), "index_add: " + expected);
  check_close({"x"}, to(x, Device::cpu()), random_tensor({4}, 1), exactly());
  check_close({"many"}, to(many, Device::cpu()), random_tensor({70'000}, 2), exactly());
  const Tensor none = to(random_tensor({0}, 1), device);
  CHECK_ERROR(backend.gather(none, 0, index, many),
              "gather: index is 1 at position 0, but there are no entries along dim");
}

TEST_CASE("cuda kernels: NaN and infinities in reductions, softmax and topk [gpu]") {
  if (!have_device()) {
    return;
  }
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::vector<double>> rows = {
      {1, nan, 3, nan},       {nan, kInf, 1, 2},      {-kInf, -kInf, -kInf, -kInf},
      {kInf, 1, kInf, -kInf}, {-0.0, 0.0, -0.0, 0.0}, {-kInf, 5, -kInf, 5}};
  std::vector<double> values;
  for (const auto& row : rows) {
    for (int64_t repeat = 0; repeat < 50; ++repeat) {
      values.insert(values.end(), row.begin(), row.end());
    }
  }
  const Array array({6, 200}, values);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    CAPTURE(std::string(to_string(dtype)));
    const Tensor host = to_tensor(array, dtype);
    const auto run = [&](Device device) {
      const Tensor x = to(host, device);
      const Backend& backend = backend_of(device);
      Tensors out;
      for (const ReduceKind kind : {ReduceKind::max, ReduceKind::min, ReduceKind::sum}) {
        out.push_back(like(x, {6, 1}));
        backend.reduce(kind, x, out.back());
        out.push_back(like(x, {1, 200}));
        backend.reduce(kind, x, out.back());
      }
      for (const bool flag : {false, true}) {
        out.push_back(like(x, {6, 1}, DType::i64));
        backend.arg_reduce(flag, x, 1, out.back());
        out.push_back(like(x, {6, 200}));
        backend.softmax(x, flag, out.back());
      }
      out.push_back(like(x, {6, 60}));
      out.push_back(like(x, {6, 60}, DType::i64));
      backend.topk(x, 60, out[out.size() - 2], out.back());
      const Tensor target = to(from_vector<int64_t>({0, 1, 2, 3, 0, 1}), device);
      for (int i = 0; i < 3; ++i) {
        out.push_back(like(x, {6}, computed(x)));
      }
      backend.cross_entropy(x, target, out[out.size() - 3], out[out.size() - 2], out.back());
      return moved(out, Device::cpu());
    };
    const Tensors expected = run(Device::cpu());
    const Tensors got = run(Device::cuda());
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      const std::vector<double> a = expected[i].to_vector<double>();
      const std::vector<double> b = got[i].to_vector<double>();
      for (size_t k = 0; k < a.size(); ++k) {
        const bool same = (std::isnan(a[k]) && std::isnan(b[k])) || a[k] == b[k] ||
                          std::fabs(a[k] - b[k]) <= 4e-3 * std::fabs(a[k]);  // finite ones: roughly, for all dtypes
        CHECK_MESSAGE(same, a[k] << " and " << b[k] << " at " << k);
      }
    }
  }
}

}  // namespace
}  // namespace deltatape::test

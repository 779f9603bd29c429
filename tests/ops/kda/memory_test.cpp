// What the fused forms take in memory, at one large shape.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "autograd/backward.h"
#include "ops/creation.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

constexpr int64_t kHeads = 4;
constexpr int64_t kSize = 128;   // K and V
constexpr int64_t kThreads = 2;  // of the process that is measured, so many heads are in flight
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr const char* kOrder = "DELTATAPE_MEMORY_TEST";  // "implementation T save" for the process that is measured

/// A line of /proc/self/status in bytes; -1 where there is none.
int64_t status(const std::string& field) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(field + ":", 0) == 0) {
      return std::stoll(line.substr(field.size() + 1)) * 1024;
    }
  }
  return -1;
}

/// Sets the peak of the resident memory back to what is resident now. False where the system cannot.
bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good() && status("VmHWM") > 0;
}

/// One forward and backward call, inputs included.
void call(const test::Implementation& implementation, int64_t T, bool save_intermediates) {
  const TensorOptions f32{DType::f32, Device::cpu()};
  kda::Inputs in;
  in.q = full({1, T, kHeads, kSize}, 0.1, f32);
  in.k = full({1, T, kHeads, kSize}, 0.05, f32);
  in.v = full({1, T, kHeads, kSize}, 0.3, f32);
  in.g = full({1, T, kHeads, kSize}, -0.05, f32);
  in.beta = full({1, T, kHeads}, 0.5, f32);
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) {
    x->set_requires_grad();
  }
  kda::Options options;
  options.save_intermediates = save_intermediates;
  const kda::Output out = implementation.function(in, options);
  CHECK(out.kernel == implementation.name);
  const Tensor d_o = full({1, T, kHeads, kSize}, 1.0, f32);
  const std::vector<Tensor> gradients =
      grad(std::vector<Tensor>{out.o}, std::vector<Tensor>{in.q, in.k, in.v, in.g, in.beta}, std::vector<Tensor>{d_o});
  CHECK(gradients.size() == 5);
}

constexpr const char* kMeasurement = "kda: memory of one call in a process of its own";

TEST_CASE("kda: memory of one call in a process of its own") {
  const char* order = std::getenv(kOrder);
  if (order == nullptr) {
    return;  // another test starts it
  }
  size_t implementation = 0;
  int64_t T = 0;
  int save = 0;
  REQUIRE(std::sscanf(order, "%zu %ld %d", &implementation, &T, &save) == 3);
  const int64_t before = status("VmRSS");
  REQUIRE(reset_peak());
  call(test::implementations()[implementation], T, save != 0);
  std::printf("added %ld\n", status("VmHWM") - before);
}

/// The resident memory that one call adds to a fresh process, in MiB; freed blocks of earlier calls, which are kept for
/// reuse, would hide what it takes.
int64_t added_by(size_t implementation, int64_t T, bool save_intermediates) {
  const std::string command =
      fmt::format("{}='{} {} {}' OMP_NUM_THREADS={} /proc/{}/exe --test-case='{}'", kOrder, implementation, T,
                  save_intermediates ? 1 : 0, kThreads, getpid(), kMeasurement);
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  int64_t added = -1;
  char line[256];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    std::sscanf(line, "added %ld", &added);
  }
  CHECK(pclose(pipe) == 0);
  REQUIRE(added > 0);
  return added / kMiB;
}

/// Inputs, output, upstream gradient and gradients; a state every 64 tokens for the heads that are kept or in flight;
/// rows of the heads in flight; for each of the ten large tensors the rest of a huge page that it uses in part; and 16
/// MiB for what does not grow: tiles, states, the library itself.
int64_t bound_in_mib(int64_t T, bool save_intermediates) {
  const int64_t tensors = (4 + 1 + 1 + 4) * T * kHeads * kSize + 2 * T * kHeads;
  const int64_t states = T / 64 * kSize * kSize * (kThreads + (save_intermediates ? kHeads : 0));
  const int64_t working = 2 * T * kSize * kThreads;
  constexpr int64_t kHugePageInMib = 2;
  return 4 * (tensors + states + working) / kMiB + 10 * kHugePageInMib + 16;
}

TEST_CASE("kda: memory of the fused forms at B 1, T 8192, H 4, K = V = 128 is linear in T [slow]") {
  if (kSanitized) {
    MESSAGE("a sanitizer's own memory would be counted, nothing measured");
    return;
  }
  if (!reset_peak()) {
    MESSAGE("the system does not tell the peak of the resident memory, nothing measured");
    return;
  }
  const std::vector<test::Implementation> all = test::implementations();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].fused) {
      continue;
    }
    CAPTURE(all[i].name);
    for (const bool save_intermediates : {false, true}) {
      CAPTURE(save_intermediates);
      const int64_t once = added_by(i, 4096, save_intermediates);
      const int64_t twice = added_by(i, 8192, save_intermediates);
      MESSAGE("MiB at T 4096 and 8192: " << once << ", " << twice);
      CHECK(twice <= bound_in_mib(8192, save_intermediates));
      CHECK(twice >= 4 * 10 * 8192 * kHeads * kSize / kMiB);  // the tensors alone: so it was measured
      CHECK(twice <= 2 * once + 8);                           // doubles, does not quadruple
    }
  }
}

}  // namespace
}  // namespace deltatape

#include "harness/poison.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/views.h"

namespace deltatape::harness {
namespace {

constexpr int64_t kMargin = 192;  // elements; keeps the alignment of 64 bytes

Tensor among_poison(const Tensor& x) {
  const double poison = is_floating(x.dtype()) ? std::nan("") : std::numeric_limits<int32_t>::min();
  const Tensor margin = full({kMargin}, poison, x.options());
  return reshape(slice(cat({margin, flatten(contiguous(x)), margin}, 0), 0, {kMargin, kMargin + x.numel()}), x.shape());
}

NamedTensors among_poison(const NamedTensors& tensors) {
  NamedTensors result;
  result.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    result.emplace_back(name, among_poison(tensor));
  }
  return result;
}

std::string changed_tensor(const NamedTensors& before, const NamedTensors& after) {
  for (size_t i = 0; i < before.size(); ++i) {
    const Tensor& a = before[i].second;
    const Tensor& b = after[i].second;
    if (std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel()) * size_of(a.dtype())) != 0) {
      return before[i].first;
    }
  }
  return {};
}

}  // namespace

Case among_poison(const Case& c) {
  return {
      .settings = c.settings, .dtype = c.dtype, .inputs = among_poison(c.inputs), .upstream = among_poison(c.upstream)};
}

std::string changed_tensor(const Case& before, const Case& after) {
  const std::string input = changed_tensor(before.inputs, after.inputs);
  return input.empty() ? changed_tensor(before.upstream, after.upstream) : input;
}

}  // namespace deltatape::harness

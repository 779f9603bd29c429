#include <algorithm>
#include <cmath>
#include <vector>

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "nn/optimizer.h"
#include "ops/convert.h"
#include "ops/inplace.h"

namespace deltatape::nn {

namespace {

/// Gradients, those of each device together, and the same in dense memory: itself where it is dense.
struct Group {
  std::vector<Tensor> gradients;
  std::vector<Tensor> dense;
};
std::vector<Group> by_device(std::span<const Tensor> parameters) {
  std::vector<Group> groups;
  for (const Tensor& parameter : parameters) {
    Tensor g = parameter.grad();
    if (!g.defined()) {
      continue;
    }
    g = g.detach();
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const Group& other) { return other.gradients.front().device() == g.device(); });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), Group());
    }
    group->gradients.push_back(g);
    group->dense.push_back(contiguous(g));
  }
  return groups;
}

double norm_of(const std::vector<Group>& groups) {
  double squares = 0.0;
  for (const Group& group : groups) {
    const Tensor sum = empty({}, {DType::f64, group.gradients.front().device()});
    backend_of(sum).sum_of_squares(group.dense, sum);
    squares += sum.item();
  }
  return std::sqrt(squares);
}

}  // namespace

double grad_norm(std::span<const Tensor> parameters) {
  const NoGradGuard guard;
  return norm_of(by_device(parameters));
}

double clip_grad_norm(std::span<const Tensor> parameters, double max_norm) {
  check(max_norm > 0.0, "clip_grad_norm", "max_norm is {}, expected a number above 0", max_norm);
  const NoGradGuard guard;
  const std::vector<Group> groups = by_device(parameters);
  const double n = norm_of(groups);
  const double factor = max_norm / (n + 1e-6);
  if (!std::isfinite(n) || factor >= 1.0) {
    return n;
  }
  for (const Group& group : groups) {
    std::vector<Tensor> in_place;
    for (size_t i = 0; i < group.gradients.size(); ++i) {
      Tensor g = group.gradients[i];
      if (group.dense[i].storage() == g.storage()) {
        g.storage()->bump_version();
        in_place.push_back(g);
      } else {
        mul_(g, factor);
      }
    }
    backend_of(group.gradients.front()).scale(in_place, factor);
  }
  return n;
}

}  // namespace deltatape::nn

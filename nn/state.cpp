#include "nn/state.h"

#include "autograd/grad_mode.h"
#include "ops/convert.h"
#include "ops/inplace.h"

namespace deltatape::nn {
namespace {

/// Appends to a list that is shortened after the first few entries.
void append(std::string& list, int& count, const std::string& entry) {
  constexpr int kShown = 8;
  if (count < kShown) {
    list += (count == 0 ? "" : ", ") + entry;
  } else if (count == kShown) {
    list += ", ...";
  }
  ++count;
}

}  // namespace

void copy_state(const std::string& function, const StateDict& target, const StateDict& source, bool strict) {
  std::string missing;
  std::string unexpected;
  std::string misfits;
  int num_missing = 0;
  int num_unexpected = 0;
  int num_misfits = 0;
  for (const auto& [name, tensor] : target) {
    const auto found = source.find(name);
    if (found == source.end()) {
      append(missing, num_missing, name);
    } else if (!found->second.defined()) {
      append(misfits, num_misfits, fmt::format("{} is undefined, expected shape {}", name, tensor.shape()));
    } else if (!(found->second.shape() == tensor.shape())) {
      append(misfits, num_misfits,
             fmt::format("{} has shape {}, expected {}", name, found->second.shape(), tensor.shape()));
    }
  }
  for (const auto& entry : source) {
    if (target.find(entry.first) == target.end()) {
      append(unexpected, num_unexpected, entry.first);
    }
  }
  std::string message;
  const auto add = [&message](const std::string& part) { message += (message.empty() ? "" : "; ") + part; };
  if (strict && num_missing > 0) {
    add(fmt::format("{} missing: {}", num_missing, missing));
  }
  if (strict && num_unexpected > 0) {
    add(fmt::format("{} unexpected: {}", num_unexpected, unexpected));
  }
  if (num_misfits > 0) {
    add(misfits);
  }
  check(message.empty(), function, "{}", message);

  const NoGradGuard guard;
  for (const auto& [name, tensor] : target) {
    if (const auto found = source.find(name); found != source.end()) {
      Tensor destination = tensor;
      copy_(destination, to(found->second.detach(), destination.device()));
    }
  }
}

}  // namespace deltatape::nn

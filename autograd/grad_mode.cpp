#include "autograd/grad_mode.h"

#include <utility>

namespace deltatape {
namespace {
thread_local bool recording = true;
}  // namespace

bool grad_enabled() noexcept { return recording; }

GradModeGuard::GradModeGuard(bool enabled) noexcept : previous_(std::exchange(recording, enabled)) {}
GradModeGuard::~GradModeGuard() { recording = previous_; }

}  // namespace deltatape

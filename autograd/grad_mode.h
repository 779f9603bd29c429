// Whether ops are recorded: the library's one piece of thread-local state.
#pragma once

namespace deltatape {

/// True when ops of this thread record what backward needs. The default is true.
bool grad_enabled() noexcept;

/// Switches recording for the current thread and puts the old state back at the end of the scope.
class GradModeGuard {
 public:
  explicit GradModeGuard(bool enabled) noexcept;
  ~GradModeGuard();
  GradModeGuard(const GradModeGuard&) = delete;
  GradModeGuard& operator=(const GradModeGuard&) = delete;

 private:
  bool previous_;
};

/// `NoGradGuard guard;` records nothing in this scope.
class NoGradGuard : public GradModeGuard {
 public:
  NoGradGuard() noexcept : GradModeGuard(false) {}
};

/// `EnableGradGuard guard;` records again inside a NoGradGuard's scope.
class EnableGradGuard : public GradModeGuard {
 public:
  EnableGradGuard() noexcept : GradModeGuard(true) {}
};

}  // namespace deltatape

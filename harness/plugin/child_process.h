// The process that a plugin runs in, as its parent sees it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "harness/plugin/descriptor.h"

namespace deltatape::harness::plugin {

/// A child with a socket to talk over and a pipe for what it prints. It ends, with all its descendants, when this
/// object does.
class ChildProcess {
 public:
  using Clock = std::chrono::steady_clock;

  /// Starts `program plugin-worker LIBRARY`, with `memory` for its tensors. By exec, not by a bare fork: threads of
  /// OpenMP and the state of CUDA do not survive a fork. Throws Error when the program cannot be started.
  ChildProcess(const std::filesystem::path& program, const std::filesystem::path& library, const Descriptor& memory,
               int64_t threads);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// False when the child does not take the message.
  [[nodiscard]] bool send(const void* message, size_t size) const;

  enum class Heard : uint8_t {
    message,
    ended,   // the process is gone: `ending` says how
    silent,  // it lives, but the socket is closed, or what came is no message
    late,
  };
  /// Waits for a message of exactly this size. Meanwhile, and at the end of this object, what the child has printed is
  /// passed on to stderr: 1 MiB at most, so that no flood of it fills a log.
  Heard receive(void* message, size_t size, Clock::time_point deadline);

  /// Whether it still runs.
  [[nodiscard]] bool runs() const;
  /// How it ended: `crashed with SIGSEGV (segmentation fault)`, `ended with exit code 3`.
  [[nodiscard]] std::string ending() const;

 private:
  /// Waits for its end, for a socket that is closed may just mean that it is ending.
  Heard ended_or_silent(Clock::time_point deadline) const;
  /// Passes on what there is now.
  void pass_on_output();

  pid_t process_ = 0;
  Descriptor socket_;
  Descriptor output_;  // its stdout and stderr. Not the caller's: a process that is left would keep that one open
  size_t passed_on_ = 0;
};

}  // namespace deltatape::harness::plugin

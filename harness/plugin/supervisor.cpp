#include "harness/plugin/supervisor.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): <csignal> does not promise sigfillset and kill
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "harness/plugin/protocol.h"

namespace deltatape::harness::plugin {
namespace {

constexpr auto kClearingUp = std::chrono::seconds(3);  // for processes that cannot be killed

/// Field 4 of /proc/N/stat, behind the name, which is in parentheses and can hold anything.
pid_t parent_of(const std::filesystem::path& folder) {
  std::ifstream file(folder / "stat");
  std::string line;
  std::getline(file, line, '\0');
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) {
    return 0;
  }
  std::istringstream rest(line.substr(name_end + 1));
  std::string state;
  pid_t parent = 0;
  rest >> state >> parent;
  return parent;
}

/// /proc/self/task/N/children would be quicker, but not every kernel has it.
std::vector<pid_t> children() {
  std::vector<pid_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t process = 0;
    const auto [stop, wrong] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (wrong == std::errc() && stop == name.data() + name.size() && parent_of(entry->path()) == ::getpid()) {
      found.push_back(process);
    }
  }
  return found;
}

/// Children of a process that is killed become this one's, so the next round finds them.
void kill_descendants() {
  const auto until = std::chrono::steady_clock::now() + kClearingUp;
  while (std::chrono::steady_clock::now() < until) {
    pid_t reaped = 0;
    do {
      reaped = ::waitpid(-1, nullptr, WNOHANG);
    } while (reaped > 0);
    if (reaped < 0 && errno == ECHILD) {
      return;
    }
    for (const pid_t process : children()) {
      ::kill(process, SIGKILL);
    }
    ::poll(nullptr, 0, 1);
  }
}

/// How the worker ended, which is left unreaped, so that its number stays its own; nothing when the parent is gone
/// first. Reaps other children as they end.
std::optional<siginfo_t> wait_for_end(pid_t worker, int control, int signals) {
  std::array<pollfd, 2> events = {
      {{.fd = control, .events = 0, .revents = 0}, {.fd = signals, .events = POLLIN, .revents = 0}}};
  while ((events[0].revents & POLLHUP) == 0) {
    ::poll(events.data(), events.size(), -1);
    if ((events[1].revents & POLLIN) != 0) {
      signalfd_siginfo ignored{};
      [[maybe_unused]] const ssize_t size = ::read(signals, &ignored, sizeof ignored);
    }
    siginfo_t end{};
    while (::waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid != 0) {
      if (end.si_pid == worker) {
        return end;
      }
      ::waitpid(end.si_pid, nullptr, 0);
      end = {};
    }
  }
  return std::nullopt;
}

[[noreturn]] void end_like(const siginfo_t& end) {
  if (end.si_code != CLD_EXITED) {
    sigset_t all;
    sigfillset(&all);
    ::signal(end.si_status, SIG_DFL);
    ::kill(::getpid(), end.si_status);
    ::sigprocmask(SIG_UNBLOCK, &all, nullptr);
  }
  ::_exit(end.si_status);
}

}  // namespace

bool leave_supervisor(int control) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  sigset_t child_ended;
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  const int signals = ::signalfd(-1, &child_ended, SFD_CLOEXEC | SFD_NONBLOCK);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t worker = signals < 0 ? -1 : ::fork();
  if (worker == 0) {
    ::close(signals);
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // should the plugin kill the supervisor, which has one thread
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return true;
  }
  if (worker < 0) {
    return false;
  }
  ::setpgid(worker, worker);  // whoever comes first
  const std::optional<siginfo_t> end = wait_for_end(worker, control, signals);
  ::kill(-worker, SIGKILL);
  kill_descendants();
  if (end) {
    end_like(*end);
  }
  ::_exit(kLostParent);
}

}  // namespace deltatape::harness::plugin

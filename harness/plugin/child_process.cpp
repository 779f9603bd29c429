#include "harness/plugin/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): <csignal> does not promise sigfillset and kill
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "harness/plugin/protocol.h"

namespace deltatape::harness::plugin {
namespace {

using Clock = ChildProcess::Clock;

constexpr auto kSlice = std::chrono::milliseconds(20);     // between two looks at whether the child lives
constexpr auto kGoodbye = std::chrono::milliseconds(500);  // for a child whose socket is closed to end
constexpr auto kClearingUp = std::chrono::seconds(5);      // for one that is told to end, to end others
constexpr size_t kMostOutput = size_t{1} << 20;

/// What posix_spawn takes, released at the end.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&files_);
    posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  /// Standard input is empty, standard output goes where errors go, and nothing else is inherited but these two.
  void set_descriptors(int output, int socket, int memory) {
    posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files_, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files_, output, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&files_, socket, kControlDescriptor);
    posix_spawn_file_actions_adddup2(&files_, memory, kMemoryDescriptor);
    posix_spawn_file_actions_addclosefrom_np(&files_, kMemoryDescriptor + 1);
  }
  [[nodiscard]] const posix_spawn_file_actions_t* files() const { return &files_; }
  [[nodiscard]] const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t files_{};
  posix_spawnattr_t attributes_{};
};

/// A copy with a number that dup2 onto the child's numbers cannot hit.
Descriptor raised(const Descriptor& descriptor) {
  constexpr int kLowest = 10;
  Descriptor copy(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, kLowest));
  check(copy.get() >= 0, "plugin", "no file descriptor left: {}", std::strerror(errno));
  return copy;
}

std::vector<std::string> child_environment(int64_t threads) {
  std::vector<std::string> variables;
  bool has_threads = false;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
    has_threads = has_threads || std::string_view(*variable).starts_with("OMP_NUM_THREADS=");
  }
  variables.push_back(std::string(kWorkerVariable) + "=1");
  if (!has_threads) {
    variables.push_back(fmt::format("OMP_NUM_THREADS={}", threads));
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  result.reserve(words.size() + 1);
  for (std::string& word : words) {
    result.push_back(word.data());
  }
  result.push_back(nullptr);
  return result;
}

/// The end of a process that is left unreaped, so that its number stays its own. False while it runs.
bool look_for_end(pid_t process, siginfo_t& end) {
  end = {};
  int result = 0;
  do {
    result = ::waitid(P_PID, static_cast<id_t>(process), &end, WEXITED | WNOHANG | WNOWAIT);
  } while (result != 0 && errno == EINTR);
  return result != 0 || end.si_pid == process;  // an error: somebody else has reaped it
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::clamp(left, std::chrono::milliseconds(0), kSlice).count()) + 1;
}

}  // namespace

ChildProcess::ChildProcess(const std::filesystem::path& program, const std::filesystem::path& library,
                           const Descriptor& memory, int64_t threads) {
  std::array<int, 2> ends{};
  const int paired = ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data());
  check(paired == 0, "plugin", "no socket: {}", std::strerror(errno));
  socket_ = Descriptor(ends[0]);
  const Descriptor other_end(ends[1]);
  const int piped = ::pipe2(ends.data(), O_CLOEXEC);
  check(piped == 0, "plugin", "no pipe: {}", std::strerror(errno));
  output_ = Descriptor(ends[0]);
  const Descriptor input(ends[1]);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  const Descriptor for_child = raised(other_end);
  const Descriptor memory_for_child = raised(memory);
  const Descriptor output_for_child = raised(input);
  SpawnSettings settings;
  settings.set_descriptors(output_for_child.get(), for_child.get(), memory_for_child.get());
  std::vector<std::string> words = {program.string(), "plugin-worker", library.string()};
  std::vector<std::string> variables = child_environment(threads);
  const int error = ::posix_spawn(&process_, program.c_str(), settings.files(), settings.attributes(),
                                  pointers(words).data(), pointers(variables).data());
  check(error == 0, "plugin", "{} cannot be started: {}", program.string(), std::strerror(error));
}

ChildProcess::~ChildProcess() {
  // Without the other end of its socket it ends all that the plugin has started, then itself.
  socket_ = Descriptor();
  if (ended_or_silent(Clock::now() + kClearingUp) == Heard::silent) {
    ::kill(-process_, SIGKILL);
  }
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pass_on_output();
}

bool ChildProcess::send(const void* message, size_t size) const { return send_message(socket_.get(), message, size); }

ChildProcess::Heard ChildProcess::receive(void* message, size_t size, Clock::time_point deadline) {
  while (true) {
    const bool gone = !runs();  // before the look into the socket: what it sent last still counts
    pass_on_output();
    switch (receive_message(socket_.get(), message, size, false)) {
      case Received::message:
        return Heard::message;
      case Received::closed:
        return ended_or_silent(std::min(deadline, Clock::now() + kGoodbye));
      case Received::nothing:
        break;
    }
    if (gone) {
      return Heard::ended;
    }
    if (Clock::now() >= deadline) {
      return Heard::late;
    }
    std::array<pollfd, 2> events = {
        {{.fd = socket_.get(), .events = POLLIN, .revents = 0}, {.fd = output_.get(), .events = POLLIN, .revents = 0}}};
    ::poll(events.data(), events.size(), milliseconds_until(deadline));
  }
}

ChildProcess::Heard ChildProcess::ended_or_silent(Clock::time_point deadline) const {
  while (runs() && Clock::now() < deadline) {
    ::poll(nullptr, 0, 1);
  }
  return runs() ? Heard::silent : Heard::ended;
}

void ChildProcess::pass_on_output() {
  std::array<char, size_t{1} << 16> bytes;  // all that a pipe holds, as a rule: not more than once, for more may follow
  const ssize_t size = output_.get() < 0 ? 0 : ::read(output_.get(), bytes.data(), bytes.size());
  if (size == 0) {
    output_ = Descriptor();  // closed at the other end, and no longer to be waited for
  }
  if (size <= 0 || passed_on_ >= kMostOutput) {
    return;
  }
  const size_t count = std::min(static_cast<size_t>(size), kMostOutput - passed_on_);
  passed_on_ += count;
  std::fwrite(bytes.data(), 1, count, stderr);
  if (passed_on_ == kMostOutput) {
    fmt::print(stderr, "\nplugin: the rest of what it prints is left out\n");
  }
  std::fflush(stderr);
}

bool ChildProcess::runs() const {
  siginfo_t end{};
  return !look_for_end(process_, end);
}

std::string ChildProcess::ending() const {
  siginfo_t end{};
  look_for_end(process_, end);
  if (end.si_code == CLD_EXITED) {
    return end.si_status == kLostParent ? "closed the file descriptors of the harness"
                                        : fmt::format("ended with exit code {}", end.si_status);
  }
  if (end.si_code != CLD_KILLED && end.si_code != CLD_DUMPED) {
    return "ended";
  }
  const char* name = ::sigabbrev_np(end.si_status);
  const char* words = ::sigdescr_np(end.si_status);
  if (name == nullptr || words == nullptr) {
    return fmt::format("crashed with signal {}", end.si_status);
  }
  std::string text = words;
  std::transform(text.begin(), text.begin() + 1, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return fmt::format("crashed with SIG{} ({})", name, text);
}

}  // namespace deltatape::harness::plugin

// The child: loads the plugin and serves calls.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): <csignal> does not promise kill
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>

#include "core/error.h"
#include "harness/plugin/device_memory.h"
#include "harness/plugin/loaded_plugin.h"
#include "harness/plugin/plugin.h"
#include "harness/plugin/protocol.h"
#include "harness/plugin/shared_memory.h"

namespace deltatape::harness {
namespace {

using namespace plugin;

/// Ends this process and all that it has started when the parent is gone, whatever the plugin is doing.
/// (PR_SET_PDEATHSIG would do so already when the parent's thread is gone, and for this process alone.)
void watch_parent() {
  pollfd parent{.fd = kControlDescriptor, .events = 0, .revents = 0};
  while (::poll(&parent, 1, -1) < 0 && errno == EINTR) {
  }
  if ((parent.revents & POLLHUP) != 0) {
    ::kill(0, SIGKILL);
  }
}

/// A crash ends this process at once and leaves no file behind.
void prepare_process() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    ::signal(signal, SIG_DFL);  // sanitizers have their own handlers
  }
  const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  for (const int descriptor : {kControlDescriptor, kMemoryDescriptor}) {
    ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);  // not for programs that the plugin starts
  }
}

template <class Message>
bool send(const Message& message) {
  return send_message(kControlDescriptor, &message, sizeof message);
}

/// Room for the plugin's message, and behind it more that must stay zero.
class MessageBuffer {
 public:
  char* fresh() {
    std::fill(bytes_.begin(), bytes_.end(), '\0');
    return bytes_.data();
  }
  [[nodiscard]] std::string text() const { return {bytes_.data(), ::strnlen(bytes_.data(), kMessageBytes)}; }
  [[nodiscard]] bool overrun() const {
    return std::any_of(bytes_.begin() + kMessageBytes, bytes_.end(), [](char c) { return c != '\0'; });
  }

 private:
  std::array<char, 2 * kMessageBytes + 4096> bytes_{};
};

class Worker {
 public:
  Worker(LoadedPlugin loaded, std::optional<DeviceMemory>& device) : plugin_(loaded), device_(device) {}

  /// Until the parent is gone. Returns the exit code.
  int serve() {
    Call call;
    while (receive_message(kControlDescriptor, &call, sizeof call, true) == Received::message) {
      Reply reply;
      reply.number = call.number;
      if (call.memory_bytes != memory_.bytes() && !memory_.map(kMemoryDescriptor, call.memory_bytes)) {
        return kLostParent;
      }
      try {
        run(call, reply);
      } catch (const std::exception& error) {
        break_off(reply, error.what());
      } catch (...) {
        break_off(reply, "threw an exception");
      }
      if (::getpid() != process_) {
        ::_exit(0);  // the plugin has forked, and this is not the process that was asked
      }
      std::fflush(nullptr);
      if (!send(reply)) {
        return kLostParent;
      }
    }
    return 0;
  }

 private:
  static void break_off(Reply& reply, const std::string& text) {
    reply.outcome = Outcome::broken;
    put_text(reply.text, text);
  }

  void run(const Call& message, Reply& reply) {
    char* base = memory_.data();
    if (device_) {
      base = device_->reserve(message.memory_bytes);
      device_->copy_from_host(memory_.data(), message.memory_bytes);
    }
    std::array<deltatape_tensor, kMostTensors> tensors{};
    deltatape_kda_call call = message.call;
    const size_t count = static_cast<size_t>(call.input_count) + static_cast<size_t>(call.result_count);
    for (size_t i = 0; i < count; ++i) {
      const Place& place = message.places[i];
      tensors[i] = {.name = place.name.data(),
                    .data = base + place.offset,
                    .dtype = place.dtype,
                    .rank = place.rank,
                    .shape = {}};
      std::copy(place.shape.begin(), place.shape.end(), tensors[i].shape);
    }
    call.inputs = tensors.data();
    call.results = tensors.data() + call.input_count;
    reply.status = plugin_.run(&call, message_.fresh(), kMessageBytes);
    if (device_) {
      device_->synchronize();
      device_->copy_to_host(memory_.data(), message.memory_bytes);
    }
    put_text(reply.text, message_.text());
    if (message_.overrun()) {
      break_off(reply, fmt::format("wrote behind its message, which has {} bytes", kMessageBytes));
    }
  }

  LoadedPlugin plugin_;
  std::optional<DeviceMemory>& device_;
  SharedMemory memory_;
  MessageBuffer message_;
  pid_t process_ = ::getpid();
};

}  // namespace

int plugin_worker(const std::vector<std::string>& arguments) {
  prepare_process();
  if (arguments.size() != 1 || !send(Started{})) {
    std::fputs("plugin-worker: this is what `deltatape check --plugin` starts, not a command\n", stderr);
    return 2;
  }
  std::thread(watch_parent).detach();
  Loaded report;
  const LoadedPlugin loaded = load_plugin(arguments[0], report);
  std::optional<DeviceMemory> device;
  if (report.load == Load::fine && loaded.on_device) {
    try {
      device.emplace();
    } catch (const Error& error) {
      report.load = Load::device_not_there;
      put_text(report.text, error.what());
    }
  }
  std::fflush(nullptr);
  if (!send(report)) {
    return kLostParent;
  }
  return report.load == Load::fine ? Worker(loaded, device).serve() : 0;
}

}  // namespace deltatape::harness

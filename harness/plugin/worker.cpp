// The child: loads the plugin and serves calls.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "core/error.h"
#include "harness/plugin/device_memory.h"
#include "harness/plugin/loaded_plugin.h"
#include "harness/plugin/plugin.h"
#include "harness/plugin/protocol.h"
#include "harness/plugin/shared_memory.h"
#include "harness/plugin/supervisor.h"

namespace deltatape::harness {
namespace {

using namespace plugin;

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

/// The descriptors that the child starts with, as they were then.
class KnownDescriptors {
 public:
  /// False when the plugin has closed one, or something else has its number now.
  [[nodiscard]] bool unchanged() const { return look() == before_; }

 private:
  using Identity = std::pair<dev_t, ino_t>;
  static std::array<Identity, 2> look() {
    std::array<Identity, 2> found{};
    for (size_t i = 0; i < found.size(); ++i) {
      struct stat about {};
      if (::fstat(i == 0 ? kControlDescriptor : kMemoryDescriptor, &about) == 0) {
        found[i] = {about.st_dev, about.st_ino};
      }
    }
    return found;
  }
  std::array<Identity, 2> before_ = look();
};

/// Room for the plugin's message between two zones that must stay as they are.
class MessageBuffer {
 public:
  char* fresh() {
    std::fill(bytes_.begin(), bytes_.end(), kUntouched);
    std::fill(bytes_.begin() + kZone, bytes_.begin() + kZone + kMessageBytes, '\0');
    return bytes_.data() + kZone;
  }
  [[nodiscard]] std::string text() const {
    return {bytes_.data() + kZone, ::strnlen(bytes_.data() + kZone, kMessageBytes)};
  }
  [[nodiscard]] bool underrun() const { return touched(bytes_.begin(), bytes_.begin() + kZone); }
  [[nodiscard]] bool overrun() const { return touched(bytes_.begin() + kZone + kMessageBytes, bytes_.end()); }

 private:
  static constexpr size_t kZone = 4096;
  static constexpr char kUntouched = '\x5a';
  using Bytes = std::array<char, kMessageBytes + 2 * kZone>;

  static bool touched(Bytes::const_iterator from, Bytes::const_iterator to) {
    return std::any_of(from, to, [](char c) { return c != kUntouched; });
  }
  Bytes bytes_{};
};

class Worker {
 public:
  Worker(LoadedPlugin loaded, std::optional<DeviceMemory>& device, const KnownDescriptors& descriptors)
      : plugin_(loaded), device_(device), descriptors_(descriptors) {}

  /// Until the parent is gone. Returns the exit code.
  int serve() {
    Call call;
    while (receive_message(kControlDescriptor, &call, sizeof call, true) == Received::message) {
      Reply reply;
      reply.number = call.number;
      try {
        prepare_memory(call);
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
      if (!descriptors_.unchanged() || !send(reply)) {
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

  void prepare_memory(const Call& call) {
    check(call.memory_bytes == memory_.bytes() || memory_.map(kMemoryDescriptor, call.memory_bytes), "plugin",
          "{} bytes of shared memory cannot be mapped in its process: {}", call.memory_bytes, std::strerror(errno));
    check(memory_.fence_behind(call.used_bytes), "plugin", "the memory of the tensors is not mapped any more");
  }

  void run(const Call& message, Reply& reply) {
    char* base = memory_.data();
    if (device_) {
      base = device_->reserve(message.memory_bytes);
      device_->copy_from_host(memory_.data(), message.used_bytes);
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
      device_->copy_to_host(memory_.data(), message.used_bytes);
    }
    put_text(reply.text, message_.text());
    if (message_.overrun()) {
      break_off(reply, fmt::format("wrote behind its message, which has {} bytes", kMessageBytes));
    } else if (message_.underrun()) {
      break_off(reply, "wrote before its message");
    }
  }

  LoadedPlugin plugin_;
  std::optional<DeviceMemory>& device_;
  const KnownDescriptors& descriptors_;
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
  if (!leave_supervisor(kControlDescriptor)) {
    std::fprintf(stderr, "plugin-worker: no process for the plugin: %s\n", std::strerror(errno));
    return 2;
  }
  const KnownDescriptors descriptors;
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
  if (!descriptors.unchanged() || !send(report)) {
    return kLostParent;
  }
  return report.load == Load::fine ? Worker(loaded, device, descriptors).serve() : 0;
}

}  // namespace deltatape::harness

// The parent: starts the child, gives it calls, judges how it took them.
#include "harness/plugin/plugin.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "harness/plugin/child_process.h"
#include "harness/plugin/guarded_layout.h"
#include "harness/plugin/kda_call.h"
#include "harness/plugin/protocol.h"
#include "harness/plugin/shared_memory.h"

namespace deltatape::harness {
namespace {

using namespace plugin;
using Clock = ChildProcess::Clock;
using Heard = ChildProcess::Heard;

constexpr size_t kFirstBytes = size_t{1} << 20;
constexpr auto kProgramStart = std::chrono::seconds(30);  // for the program, before the plugin's own time runs

/// A child with its memory.
struct Session {
  Session(const std::filesystem::path& program, const std::filesystem::path& library, int64_t threads, size_t bytes)
      : file(SharedMemory::create(bytes)), child(program, library, file, threads) {
    check(memory.map(file.get(), bytes), "plugin", "{} bytes of shared memory cannot be mapped", bytes);
  }
  void make_room(size_t bytes) {
    if (bytes > memory.bytes()) {
      const size_t larger = std::max(bytes, 2 * memory.bytes());
      SharedMemory::grow(file, larger);
      check(memory.map(file.get(), larger), "plugin", "{} bytes of shared memory cannot be mapped", larger);
    }
  }

  Descriptor file;
  SharedMemory memory;
  ChildProcess child;
};

/// One shared library and the child that runs it.
class PluginKernel {
 public:
  PluginKernel(const std::filesystem::path& library, const PluginOptions& options)
      : shown_(library.string()), library_(std::filesystem::absolute(library)), options_(options) {
    check(std::filesystem::exists(library_), "plugin", "{} not found", shown_);
    check(options.timeout > 0.0, "plugin", "timeout is {} s, expected a number above 0", options.timeout);
    check(options.threads > 0, "plugin", "threads is {}, expected at least 1", options.threads);
    check(std::getenv(kWorkerVariable) == nullptr, "plugin",
          "{} was started as a worker and would start another one, expected a program that calls plugin_worker",
          program().string());
    start();
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<std::string>& results() const { return results_; }

  /// As after loading: the next call starts a child, and with the same garbage as the first one had.
  void restart() {
    session_.reset();
    bytes_ = kFirstBytes;
    calls_ = 0;
  }

  Answer run(const Case& c) {
    const KdaCall call = kda_call(c, results_, options_.threads);
    if (session_ && !session_->child.runs()) {
      return fault(session_->child.ending() + " after its answer to the case before");
    }
    if (!session_) {
      try {
        start();
      } catch (const Error& error) {
        return fault(fmt::format("could not be started anew: {}", error.what()));
      }
    }
    return run_in_session(call);
  }

 private:
  [[nodiscard]] std::filesystem::path program() const {
    return options_.worker.empty() ? std::filesystem::path("/proc/self/exe") : options_.worker;
  }
  [[nodiscard]] Clock::time_point deadline() const {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.timeout));
  }

  /// Throws Error unless the plugin is loaded and fits.
  void start() {
    session_.emplace(program(), library_, options_.threads, bytes_);
    try {
      take_over(load());
    } catch (...) {
      session_.reset();
      throw;
    }
  }

  Loaded load() {
    ChildProcess& child = session_->child;
    Started started;
    started.magic = 0;
    const Heard first = child.receive(&started, sizeof started, Clock::now() + kProgramStart);
    check(first == Heard::message && started.magic == kMagic, "plugin",
          "{} is no worker of this version (it {}), expected a program that calls plugin_worker", program().string(),
          first == Heard::ended ? child.ending() : "does not say so");
    Loaded loaded;
    loaded.magic = 0;
    switch (child.receive(&loaded, sizeof loaded, deadline())) {
      case Heard::message:
        break;
      case Heard::ended:
        fail("plugin", "{} {} while loading", shown_, child.ending());
      case Heard::silent:
        fail("plugin", "{} closed the file descriptors of the harness while loading", shown_);
      case Heard::late:
        fail("plugin", "{} did not finish loading within {:g} s", shown_, options_.timeout);
    }
    check(loaded.magic == kMagic, "plugin", "{} wrote to the file descriptors of the harness while loading", shown_);
    return loaded;
  }

  void take_over(const Loaded& loaded) {
    const std::string text = printable(loaded.text);
    switch (loaded.load) {
      case Load::fine:
        break;
      case Load::not_loadable:
        fail("plugin", "{} cannot be loaded: {}", shown_, text);
      case Load::missing_function:
        fail("plugin", "{} has no function {}", shown_, text);
      case Load::other_version:
        fail("plugin", "{} has interface version {}, expected {}", shown_, loaded.version,
             DELTATAPE_PLUGIN_ABI_VERSION);
      case Load::no_results:
        fail("plugin", "{} lists no results, expected some such as o,ht,dq", shown_);
      case Load::long_results:
        fail("plugin",
             "{} lists results in more than {} characters, expected names of deltatape_plugin.h such as o,ht,dq",
             shown_, kMessageBytes - 1);
      case Load::unknown_device:
        fail("plugin", "{} is for the device '{}', expected cpu or cuda", shown_, text);
      case Load::device_not_there:
        fail("plugin", "{} needs a CUDA device: {}", shown_, text);
    }
    on_device_ = loaded.on_device != 0;
    results_ = parse_results(printable(loaded.results.data(), loaded.results.size(), kMessageBytes));
    name_ = printable(loaded.name);
    if (name_.empty()) {
      name_ = library_.filename().string();
    }
  }

  [[nodiscard]] std::vector<std::string> parse_results(const std::string& list) const {
    std::vector<std::string> names;
    for (size_t start = 0; start <= list.size();) {
      const size_t end = std::min(list.find(',', start), list.size());
      std::string name = list.substr(start, end - start);
      name.erase(0, name.find_first_not_of(' '));
      name.erase(name.find_last_not_of(' ') + 1);
      check(is_result(name), "plugin", "{} lists the result '{}', expected names of deltatape_plugin.h such as o,ht,dq",
            shown_, name);
      check(std::find(names.begin(), names.end(), name) == names.end(), "plugin", "{} lists the result '{}' twice",
            shown_, name);
      names.push_back(std::move(name));
      start = end + 1;
    }
    return names;
  }

  Answer run_in_session(const KdaCall& call) {
    GuardedLayout layout(calls_ % 2 == 0 ? Garbage::nan : Garbage::number);
    Call message;
    message.number = ++calls_;
    message.call = call.call;
    std::vector<const char*> originals;
    size_t count = 0;
    for (const auto& [name, tensor] : call.inputs) {
      put_place(message.places[count++], layout, Role::input, {name, tensor.dtype(), tensor.shape()});
      originals.push_back(static_cast<const char*>(tensor.raw()));
    }
    for (const Wanted& wanted : call.results) {
      put_place(message.places[count++], layout, Role::result, wanted);
    }
    session_->make_room(SharedMemory::whole_pages(layout.bytes()));
    bytes_ = session_->memory.bytes();
    message.memory_bytes = bytes_;
    // Behind the last page of this call the worker's memory is fenced. A device has no fence: a guard zone to the end.
    layout.extend(on_device_ ? bytes_ : SharedMemory::whole_pages(layout.bytes()));
    message.used_bytes = layout.bytes();
    char* block = session_->memory.data();
    layout.fill(block);
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      const Tensor& tensor = call.inputs[i].second;
      std::memcpy(block + message.places[i].offset, originals[i],
                  static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype()));
    }
    Reply reply;
    if (std::optional<std::string> problem = exchange(message, reply)) {
      return fault(*problem);
    }
    return verdict(call, message, reply, layout, originals);
  }

  static void put_place(Place& place, GuardedLayout& layout, Role role, const Wanted& tensor) {
    put_text(place.name, tensor.name);
    place.dtype = code_of(tensor.dtype);
    place.rank = tensor.shape.rank();
    std::copy(tensor.shape.begin(), tensor.shape.end(), place.shape.begin());
    place.offset = layout.add(tensor.name, role, tensor.dtype, static_cast<size_t>(tensor.shape.numel()));
  }

  /// What went wrong, if there is no answer.
  std::optional<std::string> exchange(const Call& message, Reply& reply) {
    ChildProcess& child = session_->child;
    const Clock::time_point until = deadline();
    if (!child.send(&message, sizeof message)) {
      return child.runs() ? "closed the file descriptors of the harness" : child.ending();
    }
    do {
      switch (child.receive(&reply, sizeof reply, until)) {
        case Heard::message:
          break;
        case Heard::ended:
          return child.ending();
        case Heard::silent:
          return "closed the file descriptors of the harness, or wrote to them";
        case Heard::late:
          return fmt::format("did not return within {:g} s", options_.timeout);
      }
    } while (reply.magic == kMagic && reply.number < message.number);  // an answer of a fork, late
    if (reply.magic != kMagic || reply.number != message.number) {
      return "wrote to the file descriptors of the harness";
    }
    return std::nullopt;
  }

  Answer verdict(const KdaCall& call, const Call& message, const Reply& reply, const GuardedLayout& layout,
                 const std::vector<const char*>& originals) {
    const char* block = session_->memory.data();
    const std::string text = printable(reply.text);
    if (reply.outcome != Outcome::returned) {
      return fault(text);
    }
    // Copied before the guard zones are looked at, should a thread of the plugin go on writing.
    Answer answer;
    for (size_t i = 0; i < call.results.size(); ++i) {
      const Wanted& wanted = call.results[i];
      const Tensor result = empty(wanted.shape, wanted.dtype);
      std::memcpy(result.mutable_raw(), block + message.places[call.inputs.size() + i].offset,
                  static_cast<size_t>(result.numel()) * size_of(wanted.dtype));
      answer.results.emplace_back(wanted.name, result);
    }
    const std::string damage = layout.damage(block, originals);
    if (!damage.empty()) {
      return fault(damage);
    }
    switch (reply.status) {
      case DELTATAPE_OK:
        return answer;
      case DELTATAPE_UNSUPPORTED:
        return {.status = Answer::Status::unsupported, .message = text};
      case DELTATAPE_FAILED:
        return fault(text.empty() ? "failed and gave no reason" : "failed: " + text);
      default:
        return fault(
            fmt::format("returned the status {}, which is none{}", reply.status, text.empty() ? "" : ": " + text));
    }
  }

  /// After which nothing in the child can be relied on.
  Answer fault(const std::string& text) {
    session_.reset();
    return {.status = Answer::Status::fault, .message = text};
  }

  std::string shown_;
  std::filesystem::path library_;
  PluginOptions options_;
  std::string name_;
  std::vector<std::string> results_;
  bool on_device_ = false;
  std::optional<Session> session_;
  size_t bytes_ = kFirstBytes;  // of shared memory; what cases have needed so far
  uint64_t calls_ = 0;
};

}  // namespace

Candidate plugin_candidate(const std::filesystem::path& library, const PluginOptions& options) {
  const auto kernel = std::make_shared<PluginKernel>(library, options);
  return {
      .name = kernel->name(),
      .run = [kernel](const Case& c) { return kernel->run(c); },
      .results = kernel->results(),
      .restart = [kernel] { kernel->restart(); },
  };
}

}  // namespace deltatape::harness

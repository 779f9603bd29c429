// A plugin that does wrong what the environment variable MISBEHAVE names, on cases with T = 7; with all others, and
// without the variable, it writes zeros. The first part is what happens while loading.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): <csignal> does not promise kill
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "harness/plugin/deltatape_plugin.h"

namespace {

using namespace std::chrono_literals;

std::string_view wish() {
  const char* name = std::getenv("MISBEHAVE");
  return name != nullptr ? name : "";
}

void crash() {
  int* volatile nowhere = nullptr;
  *nowhere = 1;
}

[[noreturn]] void hang() {
  while (true) {
    std::this_thread::sleep_for(1s);
  }
}

__attribute__((constructor)) void on_load() {
  if (wish() == "crash_loading") {
    crash();
  } else if (wish() == "hang_loading") {
    hang();
  } else if (wish() == "exit_loading") {
    ::syscall(SYS_exit_group, 5);  // past sanitizers, which want to be heard before an exit
  } else if (wish() == "close_loading") {
    for (int i = 0; i < 64; ++i) {
      ::close(i);
    }
  }
}

struct Context {
  const deltatape_kda_call& call;
  char* message;
  int64_t message_size;

  [[nodiscard]] const deltatape_tensor& find(std::string_view name) const {
    for (int32_t i = 0; i < call.input_count + call.result_count; ++i) {
      const deltatape_tensor& x = i < call.input_count ? call.inputs[i] : call.results[i - call.input_count];
      if (x.name == name) {
        return x;
      }
    }
    throw std::runtime_error("no tensor " + std::string(name));
  }
  int32_t say(std::string_view text, int32_t status) const {
    text.copy(message, static_cast<size_t>(message_size));
    return status;
  }
};

size_t bytes_of(const deltatape_tensor& x) {
  size_t bytes = x.dtype == DELTATAPE_F64 || x.dtype == DELTATAPE_I64 ? 8 : x.dtype == DELTATAPE_F32 ? 4 : 2;
  for (int32_t i = 0; i < x.rank; ++i) {
    bytes *= static_cast<size_t>(x.shape[i]);
  }
  return bytes;
}

char* begin(const deltatape_tensor& x) { return static_cast<char*>(x.data); }
char* end(const deltatape_tensor& x) { return begin(x) + bytes_of(x); }

/// Whether memory that says so is the device's.
bool on_device(const deltatape_tensor& x) {
  void* library = ::dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
  const auto has = reinterpret_cast<bool (*)(const void*, size_t)>(::dlsym(library, "fake_cuda_has"));
  return has(x.data, bytes_of(x));
}

void write_zeros(const deltatape_kda_call& call) {
  for (int32_t i = 0; i < call.result_count; ++i) {
    std::memset(call.results[i].data, 0, bytes_of(call.results[i]));
  }
}

std::string describe(const deltatape_tensor* tensors, int32_t count) {
  std::string text;
  for (int32_t i = 0; i < count; ++i) {
    text += (i > 0 ? " " : "") + std::string(tensors[i].name) + ":" + std::to_string(tensors[i].dtype);
    for (int32_t d = 0; d < tensors[i].rank; ++d) {
      text += (d == 0 ? "[" : ",") + std::to_string(tensors[i].shape[d]);
    }
    text += "]";
    text += reinterpret_cast<uintptr_t>(tensors[i].data) % 64 == 0 ? "" : " misaligned";
  }
  return text;
}

int32_t describe_options(const Context& c) {
  const deltatape_kda_call& call = c.call;
  char text[400];
  std::snprintf(
      text, sizeof text,
      "size %d, %d %d %d %d %d %d, N %d, dtype %d, gate %d, scale %g, lower bound %g, flags %d%d%d%d%d, chunk "
      "%d, backward %d, threads %d, environment %s",
      static_cast<int>(call.size == sizeof call), static_cast<int>(call.B), static_cast<int>(call.T),
      static_cast<int>(call.H), static_cast<int>(call.HV), static_cast<int>(call.K), static_cast<int>(call.V),
      static_cast<int>(call.N), call.dtype, call.gate, call.scale, call.lower_bound, call.use_qk_l2norm,
      call.use_beta_sigmoid, call.allow_neg_eigval, call.safe_gate, call.state_v_first, call.chunk_size, call.backward,
      call.threads, std::getenv("DELTATAPE_PLUGIN_WORKER"));
  return c.say(text, DELTATAPE_FAILED);
}

int32_t corrupt_heap(const Context&) {
  // Far behind a block, then whatever the allocator makes of it.
  for (int i = 0; i < 64; ++i) {
    auto* volatile block = static_cast<char*>(std::malloc(24));
    std::memset(block, 0x41, size_t{1} << 22);
    std::free(block);
  }
  return DELTATAPE_OK;
}

int32_t leave_grandchild(bool as_daemon) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (as_daemon) {
      ::setsid();
    }
    hang();
  }
  while (as_daemon && ::getsid(child) != child) {
    std::this_thread::sleep_for(1ms);
  }
  std::FILE* file = std::fopen(std::getenv("MISBEHAVE_FILE"), "w");
  std::fprintf(file, "%d", static_cast<int>(child));
  std::fclose(file);
  return DELTATAPE_OK;
}

char* end_of_last_result(const Context& c) { return end(c.call.results[c.call.result_count - 1]); }

using Behaviour = int32_t (*)(const Context&);

const std::map<std::string_view, Behaviour>& behaviours() {
  static const std::map<std::string_view, Behaviour> all = {
      {"crash",
       [](const Context&) {
         crash();
         return 0;
       }},
      {"abort", [](const Context&) -> int32_t { std::abort(); }},
      {"exit", [](const Context&) -> int32_t { std::_Exit(3); }},
      {"hang", [](const Context&) -> int32_t { hang(); }},
      {"throw", [](const Context&) -> int32_t { throw std::runtime_error("threw\nthis"); }},
      {"slow",
       [](const Context& c) {
         std::this_thread::sleep_for(300ms);
         write_zeros(c.call);
         return 0;
       }},
      {"write_behind",
       [](const Context& c) {
         std::memset(end(c.find("dq")), 1, 4);
         return 0;
       }},
      {"write_before",
       [](const Context& c) {
         std::memset(begin(c.find("dv")) - 16, 1, 8);
         return 0;
       }},
      {"write_pages_behind",
       [](const Context& c) {
         std::memset(end_of_last_result(c) + 16384, 1, 4);
         return 0;
       }},
      {"write_far_behind",
       [](const Context& c) {
         std::memset(end_of_last_result(c) + 300000, 1, 4);
         return 0;
       }},
      {"write_very_far_behind",
       [](const Context& c) {
         std::memset(end_of_last_result(c) + (8 << 20), 1, 4);
         return 0;
       }},
      {"write_far_before",
       [](const Context& c) {
         std::memset(begin(c.call.inputs[0]) - (8 << 20), 1, 4);
         return 0;
       }},
      {"read_far_behind",
       [](const Context& c) {
         write_zeros(c.call);
         return *end_of_last_result(c) == end_of_last_result(c)[300000] ? 0 : 1;
       }},
      {"count_calls",  // into o
       [](const Context& c) {
         static int calls = 0;
         write_zeros(c.call);
         const auto count = static_cast<float>(++calls);
         for (auto* x = begin(c.find("o")); x < end(c.find("o")); x += 4) {
           std::memcpy(x, &count, 4);
         }
         return 0;
       }},
      {"add_behind",
       [](const Context& c) {
         reinterpret_cast<float*>(end(c.find("o")))[2] += 1.0F;
         return 0;
       }},
      {"write_input",
       [](const Context& c) {
         reinterpret_cast<float*>(begin(c.find("k")))[5] += 1.0F;
         return 0;
       }},
      {"write_everywhere",
       [](const Context& c) {
         for (const char* name : {"q", "k", "v", "o", "dq"}) {
           std::memset(begin(c.find(name)) - 4, 1, bytes_of(c.find(name)) + 8);
         }
         return 0;
       }},
      {"read_behind",
       [](const Context& c) {
         const float next = *reinterpret_cast<float*>(end(c.find("q")));
         for (auto* x = begin(c.find("o")); x < end(c.find("o")); x += 4) {
           std::memcpy(x, &next, 4);
         }
         return 0;
       }},
      {"silent", [](const Context&) { return 0; }},
      {"unsupported", [](const Context& c) { return c.say("no T of 7", DELTATAPE_UNSUPPORTED); }},
      {"failed", [](const Context& c) { return c.say("out of registers", DELTATAPE_FAILED); }},
      {"failed_silently", [](const Context&) -> int32_t { return DELTATAPE_FAILED; }},
      {"failed_wildly",
       [](const Context& c) {
         for (int64_t i = 0; i < c.message_size; ++i) {
           c.message[i] = static_cast<char>(i % 3 == 0 ? 'x' : i % 3 == 1 ? '\x1b' : '\xff');
         }
         return static_cast<int32_t>(DELTATAPE_FAILED);
       }},
      {"long_message",
       [](const Context& c) {
         std::memset(c.message, 'x', static_cast<size_t>(c.message_size) + 100);
         return static_cast<int32_t>(DELTATAPE_FAILED);
       }},
      {"message_before",
       [](const Context& c) {
         c.message[-1] = '\0';
         return c.say("what", DELTATAPE_FAILED);
       }},
      {"message_one_behind",
       [](const Context& c) {
         c.message[c.message_size] = '\0';
         return c.say("what", DELTATAPE_FAILED);
       }},
      {"status", [](const Context& c) { return c.say("what", 77); }},
      {"print",
       [](const Context& c) {
         std::printf("printed by a plugin\n");
         write_zeros(c.call);
         return 0;
       }},
      {"print_much",
       [](const Context& c) {
         const std::string line(999, 'x');
         for (int i = 0; i < 3000; ++i) {
           std::printf("%s\n", line.c_str());
         }
         write_zeros(c.call);
         return 0;
       }},
      {"corrupt_heap", corrupt_heap},
      {"close",
       [](const Context&) {
         for (int i = 0; i < 64; ++i) {
           ::close(i);
         }
         return 0;
       }},
      {"close_memory",
       [](const Context& c) {
         write_zeros(c.call);
         return static_cast<int32_t>(::close(4));
       }},
      {"replace_memory",
       [](const Context& c) {
         write_zeros(c.call);
         ::close(4);
         return static_cast<int32_t>(::open("/dev/null", O_RDONLY) < 0);
       }},
      {"close_and_hang",
       [](const Context&) -> int32_t {
         for (int i = 0; i < 64; ++i) {
           ::close(i);
         }
         hang();
       }},
      {"babble",
       [](const Context&) {
         const ssize_t sent = ::send(3, "hello", 5, 0);
         return static_cast<int32_t>(sent - 5);
       }},
      {"flood",
       [](const Context&) -> int32_t {
         char zeros[1000] = {};
         while (::send(3, zeros, sizeof zeros, MSG_NOSIGNAL) > 0) {
         }
         hang();
       }},
      {"shrink",  // memory that another process reads
       [](const Context& c) {
         const bool refused = ::ftruncate(4, 0) != 0 && errno == EPERM;
         write_zeros(c.call);
         return c.say(refused ? "refused" : "done", DELTATAPE_FAILED);
       }},
      {"punch",
       [](const Context& c) {
         write_zeros(c.call);
         return static_cast<int32_t>(
             ::fallocate(4, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(1) << 20));
       }},
      {"grandchild", [](const Context&) { return leave_grandchild(false); }},
      {"daemon", [](const Context&) { return leave_grandchild(true); }},
      {"daemon_and_crash",
       [](const Context&) {
         leave_grandchild(true);
         crash();
         return 0;
       }},
      {"daemon_and_hang",
       [](const Context&) -> int32_t {
         leave_grandchild(true);
         hang();
       }},
      {"kill_group", [](const Context&) -> int32_t { return ::kill(0, SIGTERM); }},
      {"kill_supervisor",
       [](const Context&) -> int32_t {
         ::kill(::getppid(), SIGKILL);
         hang();
       }},
      {"fork",  // and both go on
       [](const Context& c) {
         write_zeros(c.call);
         return ::fork() < 0 ? 1 : 0;
       }},
      {"crash_later",
       [](const Context& c) {
         write_zeros(c.call);
         std::thread([] {
           std::this_thread::sleep_for(100ms);
           crash();
         }).detach();
         return 0;
       }},
      {"inputs", [](const Context& c) { return c.say(describe(c.call.inputs, c.call.input_count), DELTATAPE_FAILED); }},
      {"results",
       [](const Context& c) { return c.say(describe(c.call.results, c.call.result_count), DELTATAPE_FAILED); }},
      {"options", describe_options},
      {"echo",
       [](const Context& c) {
         write_zeros(c.call);
         std::memcpy(begin(c.find("dk")), begin(c.find("k")), bytes_of(c.find("k")));
         std::memcpy(begin(c.find("o")), begin(c.find("do")), bytes_of(c.find("o")));
         return 0;
       }},
      {"on_device",
       [](const Context& c) {
         write_zeros(c.call);
         return on_device(c.find("q")) && on_device(c.find("dq")) ? 0 : c.say("host memory", DELTATAPE_FAILED);
       }},
  };
  return all;
}

const std::string kLongResults = "o," + std::string(508, ' ') + "dq";  // 512 characters

}  // namespace

extern "C" {

int32_t deltatape_plugin_abi_version() { return wish() == "version" ? 7 : DELTATAPE_PLUGIN_ABI_VERSION; }

const char* deltatape_plugin_results() {
  if (wish() == "no_results") {
    return nullptr;
  }
  return wish() == "unknown_result"  ? "o,foo"
         : wish() == "same_result"   ? "o,dq,o"
         : wish() == "empty_results" ? ""
         : wish() == "long_results"  ? kLongResults.c_str()
         : wish() == "many_results"  ? "o,ht,dq,dk,dv,dg,dbeta,dA_log,ddt_bias,dh0,g_cumsum,Aqk,Akk,w,u,qg,kg,v_new,h,"
                                       "dAqk,dAkk,dh"
                                     : "o, ht, dq, dk, dv, dg, dbeta, dA_log, ddt_bias, dh0";
}

const char* deltatape_plugin_device() {
  const char* device = std::getenv("MISBEHAVE_DEVICE");
  return device != nullptr ? device : "cpu";
}

const char* deltatape_plugin_name() { return "a bad\nkernel \x1b"; }

int32_t deltatape_plugin_run(const deltatape_kda_call* call, char* message, int64_t message_size) {
  const auto behaviour = behaviours().find(wish() == "many_results" ? "results" : wish());
  if (call->T != 7 || behaviour == behaviours().end()) {
    write_zeros(*call);
    return DELTATAPE_OK;
  }
  return behaviour->second({*call, message, message_size});
}

}  // extern "C"

// Shared libraries as candidates: what a good one gets and gives, and that no bad one takes the harness down.
#include "harness/plugin/plugin.h"

#include <doctest/doctest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): <csignal> does not promise kill
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "harness/kda/kda.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using namespace deltatape::harness;
using deltatape::test::count_entries;
using deltatape::test::program_path;

namespace {

const std::string kPlugins = DELTATAPE_TEST_PLUGINS;
const std::string kMisbehaving = kPlugins + "/misbehaving.so";

/// An environment variable as long as this object lives; children inherit it.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    const char* before = std::getenv(name);
    before_ = before != nullptr ? before : "";
    had_ = before != nullptr;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { had_ ? ::setenv(name_, before_.c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::string before_;
  bool had_ = false;
};

PluginOptions options(double timeout = 10.0) { return {.timeout = timeout, .threads = 2, .worker = program_path()}; }

Case make_case(const std::string& text) {
  const Space space = kda_space();
  return space.make(space.parse(text));
}

/// What the plugin answers to a case with T = 7.
Answer answer_to_7(const std::string& behaviour, const std::string& text = "K=3,V=2,loss=o", double timeout = 10.0) {
  const Variable variable("MISBEHAVE", behaviour);
  return plugin_candidate(kMisbehaving, options(timeout)).run(make_case("T=7," + text));
}

/// The error while loading.
std::string loading_error(const std::string& behaviour, double timeout = 10.0) {
  const Variable variable("MISBEHAVE", behaviour);
  std::string text = test::error_of([&] { plugin_candidate(kMisbehaving, options(timeout)); });
  const size_t path = text.find(kMisbehaving);
  return path == std::string::npos ? text : text.replace(path, kMisbehaving.size(), "LIB");
}

bool all_equal(const Tensor& x, double value) {
  const auto values = x.to_vector<double>();
  return std::all_of(values.begin(), values.end(),
                     [&](double element) { return std::isnan(value) ? std::isnan(element) : element == value; });
}

bool is_fault(const Answer& answer) { return answer.status == Answer::Status::fault; }

/// Whether this process has a child, dead or alive.
bool has_children() { return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

bool process_lives(pid_t process) {
  const std::string stat = test::read_bytes("/proc/" + std::to_string(process) + "/stat");
  const size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.substr(name_end + 2, 1) != "Z";
}

/// True without a program to run plugins in, as in a build without tools.
bool no_program() {
  if (program_path().empty()) {
    MESSAGE("DELTATAPE_PROGRAM is not set: not tested");
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("plugin_candidate: what is wrong with the library") {
  if (no_program()) {
    return;
  }
  CHECK_ERROR(plugin_candidate("libnowhere.so", options()), "plugin: libnowhere.so not found");
  const test::TemporaryFolder folder;
  const std::string text_file = folder / "libtext.so";
  test::write_bytes(text_file, "not a library, but long enough for a header of one, which has sixty-four bytes\n");
  CHECK(test::error_of([&] { plugin_candidate(text_file, options()); }) ==
        "plugin: " + text_file + " cannot be loaded: " + text_file + ": invalid ELF header");
  const std::string unresolved = kPlugins + "/unresolved.so";
  CHECK(test::error_of([&] { plugin_candidate(unresolved, options()); }) ==
        "plugin: " + unresolved + " cannot be loaded: " + unresolved +
            ": undefined symbol: deltatape_test_missing_symbol");
  CHECK(test::error_of([&] { plugin_candidate(kPlugins + "/no_plugin.so", options()); }) ==
        "plugin: " + kPlugins + "/no_plugin.so has no function deltatape_plugin_abi_version");
  CHECK(test::error_of([&] { plugin_candidate(kPlugins + "/no_run.so", options()); }) ==
        "plugin: " + kPlugins + "/no_run.so has no function deltatape_plugin_run");
  CHECK(loading_error("version") == "plugin: LIB has interface version 7, expected 1");
  CHECK(loading_error("no_results") == "plugin: LIB lists no results, expected some such as o,ht,dq");
  CHECK(loading_error("unknown_result") ==
        "plugin: LIB lists the result 'foo', expected names of deltatape_plugin.h such as o,ht,dq");
  CHECK(loading_error("empty_results") ==
        "plugin: LIB lists the result '', expected names of deltatape_plugin.h such as o,ht,dq");
  CHECK(loading_error("long_results") ==
        "plugin: LIB lists results in more than 511 characters, expected names of deltatape_plugin.h such as o,ht,dq");
  CHECK(loading_error("same_result") == "plugin: LIB lists the result 'o' twice");
  CHECK(loading_error("crash_loading") == "plugin: LIB crashed with SIGSEGV (segmentation fault) while loading");
  CHECK(loading_error("exit_loading") == "plugin: LIB ended with exit code 5 while loading");
  CHECK(loading_error("close_loading") == "plugin: LIB closed the file descriptors of the harness while loading");
  CHECK(loading_error("hang_loading", 0.5) == "plugin: LIB did not finish loading within 0.5 s");
  CHECK_FALSE(has_children());
}

TEST_CASE("plugin_candidate: options and programs that do not fit") {
  if (no_program()) {
    return;
  }
  CHECK(test::error_of([&] { plugin_candidate(kMisbehaving, options(0.0)); }) ==
        "plugin: timeout is 0 s, expected a number above 0");
  PluginOptions wrong = options();
  wrong.threads = 0;
  CHECK_ERROR(plugin_candidate(kMisbehaving, wrong), "plugin: threads is 0, expected at least 1");
  wrong = options();
  wrong.worker = "/bin/false";
  CHECK_ERROR(plugin_candidate(kMisbehaving, wrong),
              "plugin: /bin/false is no worker of this version (it ended with exit code 1), expected a program that "
              "calls plugin_worker");
  wrong.worker = "/nowhere/program";
  CHECK_ERROR(plugin_candidate(kMisbehaving, wrong),
              "plugin: /nowhere/program cannot be started: No such file or directory");
  const Variable inside("DELTATAPE_PLUGIN_WORKER", "1");
  CHECK_ERROR(plugin_candidate(kMisbehaving, {}),
              "plugin: /proc/self/exe was started as a worker and would start another one, expected a program that "
              "calls plugin_worker");
}

TEST_CASE("plugin_candidate: what a plugin gets") {
  if (no_program()) {
    return;
  }
  CHECK(answer_to_7("inputs").message ==
        "failed: q:1[1,7,1,3] k:1[1,7,1,3] v:1[1,7,1,2] g:1[1,7,1,3] beta:1[1,7,1] do:1[1,7,1,2]");
  CHECK(answer_to_7("results").message ==
        "failed: o:1[1,7,1,2] dq:1[1,7,1,3] dk:1[1,7,1,3] dv:1[1,7,1,2] dg:1[1,7,1,3] dbeta:1[1,7,1]");
  CHECK(answer_to_7("inputs",
                    "K=3,V=2,dtype=bf16,B=2,group=3,gate=standard,dt_bias=yes,h0=yes,ht=yes,v_first=yes,loss=both,"
                    "packing=segment_ids")
            .message ==
        "failed: q:2[2,7,1,3] k:2[2,7,1,3] v:2[2,7,3,2] g:2[2,7,3,3] beta:2[2,7,3] A_log:1[3] "
        "dt_bias:1[9] h0:1[2,3,2,3] segment_ids:4[2,7] do:2[2,7,3,2] dht:1[2,3,2,3]");
  CHECK(answer_to_7("results",
                    "K=3,V=2,dtype=f16,group=2,gate=standard,dt_bias=yes,h0=yes,ht=yes,packing=cu_seqlens,pieces=3,"
                    "loss=ht")
            .message ==
        "failed: o:3[1,7,2,2] ht:1[3,2,3,2] dq:3[1,7,1,3] dk:3[1,7,1,3] dv:3[1,7,2,2] dg:3[1,7,2,3] "
        "dbeta:3[1,7,2] dA_log:1[2] ddt_bias:1[6] dh0:1[3,2,3,2]");
  CHECK(answer_to_7("many_results", "K=3,V=2,B=2,h0=yes,v_first=yes,dtype=f64,loss=o").message ==
        "failed: o:0[2,7,1,2] dq:0[2,7,1,3] dk:0[2,7,1,3] dv:0[2,7,1,2] dg:0[2,7,1,3] dbeta:0[2,7,1] dh0:0[2,1,2,3] "
        "g_cumsum:0[2,7,1,3] Aqk:0[2,7,1,64] Akk:0[2,7,1,64] w:0[2,7,1,3] u:0[2,7,1,2] qg:0[2,7,1,3] kg:0[2,7,1,3] "
        "v_new:0[2,7,1,2] h:0[2,1,1,3,2] dAqk:0[2,7,1,64] dAkk:0[2,7,1,64] dh:0[2,1,1,3,2]");
  CHECK(answer_to_7("results", "K=3,V=2,loss=none").message == "failed: o:1[1,7,1,2]");
  CHECK(answer_to_7("options").message ==
        "failed: size 1, 1 7 1 1 3 2, N 1, dtype 1, gate 0, scale 0.57735, lower bound -5, flags 00000, chunk 64, "
        "backward 1, threads 2, environment 1");
  CHECK(answer_to_7("options",
                    "K=3,V=2,gate=lower-bound,lower_bound=-1,scale=0.25,l2norm=yes,beta_sigmoid=yes,neg_eigval=yes,"
                    "safe_gate=yes,v_first=yes,chunk_size=16,loss=none,packing=cu_seqlens,pieces=4")
            .message ==
        "failed: size 1, 1 7 1 1 3 2, N 4, dtype 1, gate 2, scale 0.25, lower bound -1, flags 11111, chunk 16, "
        "backward 0, threads 2, environment 1");
}

TEST_CASE("plugin_candidate: tensors arrive and come back, and the name is made fit to print") {
  if (no_program()) {
    return;
  }
  const Variable variable("MISBEHAVE", "echo");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  CHECK(candidate.name == "a bad kernel ?");
  CHECK(candidate.results ==
        std::vector<std::string>{"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"});
  for (const std::string text : {"T=7,K=3,V=2,loss=o", "T=7,K=200,V=150,B=3,H=2,group=3,loss=o", "T=7,loss=o"}) {
    for (const char* dtype : {"f64", "f32", "bf16", "f16"}) {
      const Case c = make_case(text + ",dtype=" + dtype);
      const Answer answer = candidate.run(c);
      CHECK(answer.status == Answer::Status::answered);
      CHECK(answer.message.empty());
      test::check_close(text, find(answer.results, "dk"), find(c.inputs, "k"), test::exactly());
      test::check_close(text, find(answer.results, "o"), find(c.upstream, "o"), test::exactly());
      CHECK(all_equal(find(answer.results, "dq"), 0.0));
    }
  }
}

TEST_CASE("plugin_candidate: no tokens, and sequences without any") {
  if (no_program()) {
    return;
  }
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  for (const char* text : {"T=0,h0=yes,ht=yes,loss=both", "T=0,loss=o", "T=0,packing=segment_ids,B=2,loss=o",
                           "T=0,packing=cu_seqlens,pieces=3,h0=yes,ht=yes,loss=ht"}) {
    CAPTURE(text);
    CHECK(candidate.run(make_case(text)).status == Answer::Status::answered);
  }
}

TEST_CASE("plugin_candidate: results start as NaN, then as numbers, and behind inputs there is NaN") {
  if (no_program()) {
    return;
  }
  const Case c = make_case("T=7,K=3,V=2,loss=o");
  {
    const Variable variable("MISBEHAVE", "silent");
    const Candidate candidate = plugin_candidate(kMisbehaving, options());
    CHECK(all_equal(find(candidate.run(c).results, "dq"), std::nan("")));
    CHECK(all_equal(find(candidate.run(c).results, "dq"), -339245.15625));
    CHECK(all_equal(find(candidate.run(make_case("T=7,loss=o,dtype=f16")).results, "dq"), std::nan("")));
    CHECK(all_equal(find(candidate.run(make_case("T=7,loss=o,dtype=f16")).results, "dq"), -26192.0));
  }
  const Variable variable("MISBEHAVE", "read_behind");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  CHECK(all_equal(find(candidate.run(c).results, "o"), std::nan("")));
  CHECK(all_equal(find(candidate.run(c).results, "o"), std::nan("")));
}

TEST_CASE("plugin_candidate: every fault has its sentence, and the next case is answered") {
  if (no_program()) {
    return;
  }
  const size_t descriptors = count_entries("/proc/self/fd");
  struct Expected {
    const char* behaviour;
    const char* message;  // ending in ..: how it begins
    double timeout = 10.0;
  };
  const std::string wild = "failed: " + [] {
    std::string text;
    for (int i = 0; i < 500; ++i) {
      text += i % 3 == 0 ? 'x' : '?';
    }
    return text;
  }();
  const std::vector<Expected> all = {
      {"crash", "crashed with SIGSEGV (segmentation fault)"},
      {"abort", "crashed with SIGABRT (aborted)"},
      {"exit", "ended with exit code 3"},
      {"hang", "did not return within 0.5 s", 0.5},
      {"throw", "threw this"},
      {"write_behind", "wrote 4 bytes behind dq, first at offset 0"},
      {"write_before", "wrote 8 bytes before dv, last at offset -12"},
      {"write_pages_behind", "crashed with SIGSEGV (segmentation fault)"},
      {"write_far_behind", "crashed with SIGSEGV (segmentation fault)"},
      {"write_very_far_behind", "crashed with SIGSEGV (segmentation fault)"},
      {"write_far_before", "crashed with SIGSEGV (segmentation fault)"},
      {"read_far_behind", "crashed with SIGSEGV (segmentation fault)"},
      {"write_input", "wrote to its input k: 1 of 21 elements, first element 5"},
      {"write_everywhere",
       "wrote 4 bytes before q, last at offset -4; wrote 4 bytes behind q, first at offset 0; wrote to its input q: 21 "
       "of 21 elements, first element 0; and 10 more"},
      {"failed", "failed: out of registers"},
      {"failed_silently", "failed and gave no reason"},
      {"failed_wildly", wild.c_str()},
      {"long_message", "wrote behind its message, which has 512 bytes"},
      {"message_before", "wrote before its message"},
      {"message_one_behind", "wrote behind its message, which has 512 bytes"},
      {"status", "returned the status 77, which is none: what"},
      {"corrupt_heap", ".."},
      {"close", "closed the file descriptors of the harness"},
      {"close_memory", "closed the file descriptors of the harness"},
      {"replace_memory", "closed the file descriptors of the harness"},
      {"kill_group", "crashed with SIGTERM (terminated)"},
      {"kill_supervisor", "crashed with SIGKILL (killed)"},
      {"close_and_hang", "..", 0.5},  // whether the socket hangs up is up to the system
      {"babble", "closed the file descriptors of the harness, or wrote to them"},
      {"flood", "closed the file descriptors of the harness, or wrote to them"},
      {"shrink", "failed: refused"},
      {"punch", "wrote .."},
  };
  for (const Expected& expected : all) {
    CAPTURE(expected.behaviour);
    const Variable variable("MISBEHAVE", expected.behaviour);
    const Candidate candidate = plugin_candidate(kMisbehaving, options(expected.timeout));
    const Answer answer = candidate.run(make_case("T=7,K=3,V=2,loss=o"));
    CHECK(is_fault(answer));
    CHECK(answer.results.empty());
    std::string message = expected.message;
    if (message.ends_with("..")) {
      message.resize(message.size() - 2);
      CHECK(answer.message.starts_with(message));
      CHECK_FALSE(answer.message.empty());
    } else {
      CHECK(answer.message == message);
    }
    const Answer next = candidate.run(make_case("T=3,K=3,V=2,loss=o"));
    CHECK(next.status == Answer::Status::answered);
    CHECK(next.message.empty());
    CHECK(all_equal(find(next.results, "dq"), 0.0));
  }
  CHECK_FALSE(has_children());
  CHECK(count_entries("/proc/self/fd") == descriptors);
}

TEST_CASE("plugin_candidate: what a plugin does not do is no fault, nor is taking its time") {
  if (no_program()) {
    return;
  }
  const Answer unsupported = answer_to_7("unsupported");
  CHECK(unsupported.status == Answer::Status::unsupported);
  CHECK(unsupported.message == "no T of 7");
  CHECK(answer_to_7("slow", "loss=o", 5.0).status == Answer::Status::answered);
  CHECK(answer_to_7("fork").status == Answer::Status::answered);
}

TEST_CASE("plugin_candidate: what adds to the NaN behind a result is found in the next call") {
  if (no_program()) {
    return;
  }
  const Variable variable("MISBEHAVE", "add_behind");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  const Case c = make_case("T=7,K=3,V=2,loss=o");
  CHECK(candidate.run(c).status == Answer::Status::answered);
  CHECK(candidate.run(c).message == "wrote 4 bytes behind o, first at offset 8");
}

TEST_CASE("plugin_candidate: a crash between two calls") {
  if (no_program()) {
    return;
  }
  const Variable variable("MISBEHAVE", "crash_later");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  CHECK(candidate.run(make_case("T=7,loss=o")).status == Answer::Status::answered);
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  CHECK(candidate.run(make_case("T=3,loss=o")).message ==
        "crashed with SIGSEGV (segmentation fault) after its answer to the case before");
  CHECK(candidate.run(make_case("T=3,loss=o")).status == Answer::Status::answered);
}

TEST_CASE("plugin_candidate: the child lives as long as the candidate, not as the thread that made it") {
  if (no_program()) {
    return;
  }
  Candidate candidate;
  std::thread([&] { candidate = plugin_candidate(kMisbehaving, options()); }).join();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(candidate.run(make_case("T=3,loss=o")).status == Answer::Status::answered);
  candidate = {};
  CHECK_FALSE(has_children());
}

TEST_CASE("plugin_candidate: what a plugin has started ends with it") {
  if (no_program()) {
    return;
  }
  for (const std::string behaviour : {"grandchild", "daemon", "daemon_and_crash", "daemon_and_hang"}) {
    CAPTURE(behaviour);
    const test::TemporaryFolder folder;
    const Variable variable("MISBEHAVE", behaviour);
    const Variable file("MISBEHAVE_FILE", folder / "process");
    const bool returns = behaviour == "grandchild" || behaviour == "daemon";
    const Candidate candidate = plugin_candidate(kMisbehaving, options(returns ? 10.0 : 0.5));
    CHECK(is_fault(candidate.run(make_case("T=7,loss=o"))) == !returns);
    const pid_t process = std::atoi(test::read_bytes(folder / "process").c_str());
    REQUIRE(process > 0);
    CHECK(process_lives(process) == returns);
    candidate.restart();
    CHECK_FALSE(process_lives(process));
  }
  CHECK_FALSE(has_children());
}

TEST_CASE("plugin_candidate: after restart the next call is as the first one was") {
  if (no_program()) {
    return;
  }
  const Case c = make_case("T=7,K=3,V=2,loss=o");
  {
    const Variable variable("MISBEHAVE", "count_calls");
    const Candidate candidate = plugin_candidate(kMisbehaving, options());
    candidate.restart();  // before any call
    CHECK(all_equal(find(candidate.run(c).results, "o"), 1.0));
    CHECK(all_equal(find(candidate.run(c).results, "o"), 2.0));
    candidate.restart();
    CHECK_FALSE(has_children());
    candidate.restart();
    CHECK(all_equal(find(candidate.run(c).results, "o"), 1.0));
    CHECK(all_equal(find(candidate.run(c).results, "o"), 2.0));
  }
  const Variable variable("MISBEHAVE", "silent");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  CHECK(all_equal(find(candidate.run(c).results, "dq"), std::nan("")));
  candidate.restart();
  CHECK(all_equal(find(candidate.run(c).results, "dq"), std::nan("")));
}

TEST_CASE("plugin_candidate: a small case after a large one has its fence where it ends") {
  if (no_program()) {
    return;
  }
  const Variable variable("MISBEHAVE", "write_far_behind");
  const Candidate candidate = plugin_candidate(kMisbehaving, options());
  const auto larger = [&](int tokens) {
    return candidate.run(make_case("T=" + std::to_string(tokens) + ",K=100,V=100,B=5,loss=o"));
  };
  CHECK(larger(100).status == Answer::Status::answered);
  CHECK(candidate.run(make_case("T=5,loss=o")).status == Answer::Status::answered);
  CHECK(larger(101).status == Answer::Status::answered);
  CHECK(candidate.run(make_case("T=7,loss=o")).message == "crashed with SIGSEGV (segmentation fault)");
}

TEST_CASE("deltatape plugin-worker: not a command; nothing of a plugin on stdout; children end with the program") {
  if (no_program()) {
    return;
  }
  const test::ProgramResult by_hand = test::run_program({"plugin-worker", kMisbehaving});
  CHECK(by_hand.exit_code == 2);
  CHECK(by_hand.err == "plugin-worker: this is what `deltatape check --plugin` starts, not a command\n");

  const std::vector<std::string> check = {"check", "--plugin", kMisbehaving, "--case", "T=7,loss=none", "--no-shrink"};
  {
    const Variable variable("MISBEHAVE", "print");
    const test::ProgramResult printed = test::run_program(check);
    CHECK_FALSE(test::contains(printed.out, "printed by a plugin"));
    CHECK(test::contains(printed.err, "printed by a plugin"));
  }
  {
    const Variable variable("MISBEHAVE", "print_much");
    const test::ProgramResult printed = test::run_program(check);
    CHECK(printed.out.size() < 100'000);
    CHECK(printed.err.size() > 1'000'000);
    CHECK(printed.err.size() < 2'200'000);  // two children: the case is run again in a fresh one
    CHECK(test::contains(printed.err, "\nplugin: the rest of what it prints is left out\n"));
  }
  const test::TemporaryFolder folder;
  const Variable variable("MISBEHAVE", "daemon_and_hang");
  const Variable file("MISBEHAVE_FILE", folder / "process");
  const pid_t program = test::start_program(check, folder.path());
  pid_t process = 0;
  for (int i = 0; i < 500 && process == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    process = std::atoi(test::read_bytes(folder / "process").c_str());
  }
  REQUIRE(process > 0);
  ::kill(program, SIGKILL);
  ::waitpid(program, nullptr, 0);
  for (int i = 0; i < 500 && process_lives(process); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  CHECK_FALSE(process_lives(process));
}

TEST_CASE("plugin_candidate: device pointers, by a stand-in for the CUDA run-time library") {
  if (no_program()) {
    return;
  }
  const Case c = make_case("T=7,K=3,V=2,loss=o");
  {
    const Variable device("MISBEHAVE_DEVICE", "tpu");
    CHECK(loading_error("") == "plugin: LIB is for the device 'tpu', expected cpu or cuda");
  }
  const Variable device("MISBEHAVE_DEVICE", "cuda");
  const Variable path("LD_LIBRARY_PATH", kPlugins + "/cuda");
  CHECK(answer_to_7("on_device").status == Answer::Status::answered);
  CHECK(answer_to_7("on_device", "K=200,V=200,B=4,h0=yes,loss=o").status == Answer::Status::answered);
  CHECK(answer_to_7("write_behind").message == "wrote 4 bytes behind dq, first at offset 0");
  CHECK(answer_to_7("write_input").message == "wrote to its input k: 1 of 21 elements, first element 5");
  CHECK(answer_to_7("write_pages_behind").message == "wrote 4 bytes behind dbeta, first at offset 16384");
  CHECK(answer_to_7("write_far_behind").message == "wrote 4 bytes behind dbeta, first at offset 300000");
  CHECK(answer_to_7("failed").message == "failed: out of registers");
  CHECK(all_equal(find(answer_to_7("read_behind").results, "o"), std::nan("")));
  {
    const Variable variable("MISBEHAVE", "echo");
    const Candidate candidate = plugin_candidate(kMisbehaving, options());
    for (const char* text : {"T=7,loss=o", "T=7,K=100,V=100,B=5,loss=o", "T=7,loss=o"}) {
      const Case larger = make_case(text);
      test::check_close(text, find(candidate.run(larger).results, "dk"), find(larger.inputs, "k"), test::exactly());
    }
  }
  {
    const Variable broken("FAKE_CUDA", "broken_kernel");
    CHECK(answer_to_7("echo").message == "cudaDeviceSynchronize: an illegal memory access was encountered");
  }
  const Variable none("FAKE_CUDA", "no_device");
  CHECK(loading_error("") == "plugin: LIB needs a CUDA device: cudaMalloc: no CUDA-capable device is detected");
}

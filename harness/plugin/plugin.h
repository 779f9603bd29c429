// A kernel from a shared library, run in a process of its own: deltatape_plugin.h is what it must export.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "harness/operator.h"

namespace deltatape::harness {

struct PluginOptions {
  double timeout = 10.0;  // seconds for one call (and for loading); then the process is killed
  int64_t threads = 2;
  /// The program that is run as `program plugin-worker ...`; it must call plugin_worker(). Empty: this one.
  std::filesystem::path worker = {};
};

/// Loads the library in a child process. Throws Error that names the file and says what is wrong: no such file, no
/// shared library, a missing function, another version of the interface, a device that is not there, a result that
/// nobody knows, a crash or a hang while loading.
///
/// A case is answered with a fault when the plugin crashes, exits, hangs, says that it failed, writes outside the
/// results, writes an input; the child is then started anew. The candidate owns the child; its `restart` ends it, so
/// that the next case meets a fresh one, as the first case did. What the plugin prints goes to stderr.
///
/// What the plugin starts ends with the child, daemons too. The plugin is not held captive: one that kills its parent
/// process as well can leave processes behind, one that catches SIGSEGV can write far behind its tensors unseen.
Candidate plugin_candidate(const std::filesystem::path& library, const PluginOptions& options = {});

/// What the child does: serves calls until its parent is gone. `arguments` are those behind `plugin-worker`. Returns
/// the exit code.
int plugin_worker(const std::vector<std::string>& arguments);

}  // namespace deltatape::harness

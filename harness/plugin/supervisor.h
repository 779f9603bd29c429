// The process between the parent and the worker: it runs nothing of the plugin's, and clears up after it.
#pragma once

namespace deltatape::harness::plugin {

/// Forks; to be called before this process has threads (OpenBLAS, which has some from the start, ends them for a fork).
/// Returns in the child, which goes on as the worker, in a process group of its own. The process that called stays
/// behind and does not return:
///
/// - Descendants of the worker whose own parent has ended become its children (as a subreaper), so a process that has
///   left the group, such as a daemon, is still found.
/// - When the worker ends, it kills them all and then ends in the way the worker did, by the same signal or exit code.
/// - When `control`, the socket to the parent, hangs up, it kills the worker, too.
///
/// False, in the caller, when there can be no child.
bool leave_supervisor(int control);

}  // namespace deltatape::harness::plugin

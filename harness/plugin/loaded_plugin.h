// The shared library, in the child.
#pragma once

#include <string>

#include "harness/plugin/deltatape_plugin.h"
#include "harness/plugin/protocol.h"

namespace deltatape::harness::plugin {

struct LoadedPlugin {
  decltype(&deltatape_plugin_run) run = nullptr;
  bool on_device = false;  // it wants device pointers
};

/// Loads the library and asks what it is. `report` gets what the parent wants to know; unless its `load` is fine there
/// is no plugin to use.
LoadedPlugin load_plugin(const std::string& path, Loaded& report);

}  // namespace deltatape::harness::plugin

// A plugin without deltatape_plugin_run.
#include "harness/plugin/deltatape_plugin.h"

extern "C" int32_t deltatape_plugin_abi_version() { return DELTATAPE_PLUGIN_ABI_VERSION; }
extern "C" const char* deltatape_plugin_results() { return "o"; }

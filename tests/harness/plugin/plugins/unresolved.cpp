// A plugin that needs a symbol that nobody has.
#include "harness/plugin/deltatape_plugin.h"

extern "C" int32_t deltatape_test_missing_symbol();
extern "C" int32_t deltatape_plugin_abi_version() { return deltatape_test_missing_symbol(); }

#include "harness/plugin/loaded_plugin.h"

#include <dlfcn.h>

#include <cstring>
#include <string_view>

namespace deltatape::harness::plugin {
namespace {

template <class Function>
Function function_of(void* library, const char* name) {
  return reinterpret_cast<Function>(::dlsym(library, name));
}

LoadedPlugin refused(Loaded& report, Load load, const std::string& text = {}) {
  report.load = load;
  put_text(report.text, text);
  return {};
}

}  // namespace

LoadedPlugin load_plugin(const std::string& path, Loaded& report) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = ::dlerror();
    return refused(report, Load::not_loadable, reason != nullptr ? reason : "no reason given");
  }
  // The version first: the other functions may mean something else in another one.
  const auto version = function_of<decltype(&deltatape_plugin_abi_version)>(library, "deltatape_plugin_abi_version");
  if (version == nullptr) {
    return refused(report, Load::missing_function, "deltatape_plugin_abi_version");
  }
  report.version = version();
  if (report.version != DELTATAPE_PLUGIN_ABI_VERSION) {
    return refused(report, Load::other_version);
  }
  const auto results = function_of<decltype(&deltatape_plugin_results)>(library, "deltatape_plugin_results");
  const auto run = function_of<decltype(&deltatape_plugin_run)>(library, "deltatape_plugin_run");
  if (results == nullptr || run == nullptr) {
    return refused(report, Load::missing_function,
                   results == nullptr ? "deltatape_plugin_results" : "deltatape_plugin_run");
  }
  const char* list = results();
  if (list == nullptr) {
    return refused(report, Load::no_results);
  }
  if (::strnlen(list, kMessageBytes) == kMessageBytes) {
    return refused(report, Load::long_results);
  }
  put_text(report.results, list);
  if (const auto name = function_of<decltype(&deltatape_plugin_name)>(library, "deltatape_plugin_name")) {
    const char* text = name();
    put_text(report.name, text != nullptr ? text : "");
  }
  LoadedPlugin plugin{.run = run};
  if (const auto device = function_of<decltype(&deltatape_plugin_device)>(library, "deltatape_plugin_device")) {
    const char* text = device();
    const std::string_view word = text != nullptr ? text : "";
    if (word != "cpu" && word != "cuda") {
      return refused(report, Load::unknown_device, std::string(word));
    }
    plugin.on_device = word == "cuda";
    report.on_device = plugin.on_device ? 1 : 0;
  }
  return plugin;
}

}  // namespace deltatape::harness::plugin

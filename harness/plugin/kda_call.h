// A case of KDA as a plugin gets it: the tensors of deltatape_plugin.h and its options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "harness/case.h"
#include "harness/plugin/deltatape_plugin.h"

namespace deltatape::harness::plugin {

/// A result that the plugin is to write.
struct Wanted {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
};

struct KdaCall {
  deltatape_kda_call call{};  // without pointers
  NamedTensors inputs;        // dense, on the host, in the dtypes of the header; `do` and `dht` at the end
  std::vector<Wanted> results;
};

/// Whether the header knows a result of this name.
bool is_result(std::string_view name);

/// The call for a case; `listed` are the results that the plugin computes. Throws Error when the case has no KDA
/// tensors.
KdaCall kda_call(const Case& c, const std::vector<std::string>& listed, int64_t threads);

/// In deltatape_plugin.h. `dtype` is none of i32 and bool.
int32_t code_of(DType dtype);

}  // namespace deltatape::harness::plugin

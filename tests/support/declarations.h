// Reading C++ headers just far enough to know which functions they declare.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace deltatape::test {

/// Names of the functions that `header` declares directly in namespace `space` (as written: `deltatape::kda`),
/// operators as `operator+`. Members of classes and nested namespaces do not count.
std::set<std::string> declared_functions(std::string_view header, std::string_view space);

/// The files that `header` includes as `#include "folder/..."`.
std::set<std::string> included_files(std::string_view header, std::string_view folder);

}  // namespace deltatape::test

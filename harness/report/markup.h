// Text inside XML and HTML.
#pragma once

#include <string>
#include <string_view>

namespace deltatape::harness {

/// `text` as element content or attribute value, whatever bytes it holds: & < > " ' as entities; what is not UTF-8, and
/// characters that XML 1.0 does not have, as U+FFFD.
std::string escaped(std::string_view text);

}  // namespace deltatape::harness

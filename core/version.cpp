#include "core/version.h"

namespace deltatape {

std::string_view version() { return DELTATAPE_VERSION; }

}  // namespace deltatape

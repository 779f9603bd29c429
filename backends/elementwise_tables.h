// Tables of kernels, one for each elementwise function (elementwise_functions.h), which every backend has of its own.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "backends/elementwise_functions.h"
#include "core/error.h"

namespace deltatape::elementwise {

/// Whether the function computes in C: some are for floating-point numbers only.
template <class Function, class C>
inline constexpr bool kComputesIn = std::is_floating_point_v<C> || std::is_base_of_v<TakesIntegers, Function>;

/// The kernel of `kind`. Throws Error naming `function` where the table has nullptr, since the kind does not compute in
/// integers.
template <class Kernel, size_t kinds, class Kind>
Kernel kernel_of(const std::array<Kernel, kinds>& table, Kind kind, std::string_view function) {
  const Kernel found = table[static_cast<size_t>(kind)];
  check(found != nullptr, function, "function {} has an integer dtype, expected a floating-point one",
        static_cast<int>(kind));
  return found;
}

}  // namespace deltatape::elementwise

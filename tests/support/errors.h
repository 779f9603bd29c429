// Asserting the whole sentence of an Error.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "core/error.h"

namespace deltatape::test {

/// The message of the Error that `call` throws; a note when it throws none.
template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no Error was thrown)";
}

}  // namespace deltatape::test

// A macro, so that a failure reports the caller's line.
#define CHECK_ERROR(expression, message) \
  CHECK(deltatape::test::error_of([&] { static_cast<void>(expression); }) == std::string(message))

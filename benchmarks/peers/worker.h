// What the workers share: a script that runs a peer asks on standard input for one run after another, in turns with its
// own, and gets one line for each. A process of its own, since two OpenMP run times in one get in each other's way.
#pragma once

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <string>

#include "deltatape.h"

namespace deltatape::bench {

inline double milliseconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// Of a product of two 1024 x 1024 matrices.
inline double product_milliseconds() {
  const NoGradGuard guard;
  Generator generator(1);
  const Tensor a = randn({1024, 1024}, generator);
  const Tensor b = randn({1024, 1024}, generator);
  return milliseconds([&] { static_cast<void>(matmul(a, b)); });
}

/// Answers every line of standard input; `product` here, all else by `answer`.
inline void serve(const std::function<std::string(const std::string&)>& answer) {
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print("{}\n", line == "product" ? fmt::format("{}", product_milliseconds()) : answer(line));
    std::fflush(stdout);
  }
}

/// Runs a worker's main. Returns the exit code: 1 after an Error, with its sentence on standard error.
inline int run_worker(const std::function<void()>& run) {
  try {
    run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace deltatape::bench

// Where the tensors of a call lie in one block of memory, each between two guard zones, and what stands in them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace deltatape::harness::plugin {

/// What a tensor is for: inputs must stay as they are, results must be written.
enum class Role : uint8_t { input, result };
/// What results and the zones around them hold before a call. Both kinds are needed: sums with NaN are NaN, so a kernel
/// that adds to what lies behind a result leaves NaN there as it was.
enum class Garbage : uint8_t { nan, number };

class GuardedLayout {
 public:
  static constexpr size_t kGuardBytes = 4096;  // on either side of a tensor, at least
  static constexpr size_t kAlignment = 64;

  explicit GuardedLayout(Garbage garbage) : garbage_(garbage) {}

  /// A place for a tensor of `count` elements; its offset in the block.
  size_t add(const std::string& name, Role role, DType dtype, size_t count);
  /// Of the whole block.
  [[nodiscard]] size_t bytes() const { return bytes_; }
  /// Makes the block `bytes` bytes large, at least as large as it is: the last guard zone reaches to its end.
  void extend(size_t bytes);

  /// Fills guard zones with poison and results with garbage. Inputs are the caller's to copy in.
  void fill(char* block) const;
  /// What was written that must not be, in words, at most three findings; empty when all is well. `inputs[i]` is what
  /// the i-th input held.
  [[nodiscard]] std::string damage(const char* block, const std::vector<const char*>& inputs) const;

 private:
  struct Region {
    std::string name;
    Role role;
    size_t element_bytes;
    size_t offset;
    size_t bytes;
    size_t before;    // bytes of the guard zone in front of it
    size_t behind;    // and of that behind it
    uint64_t poison;  // eight bytes that fill zones and results, over and over
  };
  Garbage garbage_;
  std::vector<Region> regions_;
  size_t bytes_ = 0;
};

}  // namespace deltatape::harness::plugin

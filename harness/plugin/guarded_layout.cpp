#include "harness/plugin/guarded_layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

namespace deltatape::harness::plugin {
namespace {

constexpr size_t kMostFindings = 3;

constexpr uint64_t repeat16(uint64_t bits) { return bits * 0x0001'0001'0001'0001; }
constexpr uint64_t repeat32(uint64_t bits) { return bits * 0x0000'0001'0000'0001; }

/// NaN with a payload that arithmetic does not make; the smallest integer.
uint64_t nan_word(DType dtype, Role role) {
  const uint64_t mark = role == Role::input ? 0x15 : 0x2a;
  switch (dtype) {
    case DType::f64:
      return 0x7ff8'0000'dead'0000 | mark;
    case DType::f32:
      return repeat32(0x7fc0'de00 | mark);
    case DType::bf16:
      return repeat16(0x7fc0 | mark);
    case DType::f16:
      return repeat16(0x7e00 | mark);
    default:
      return 0x8000'0000'0000'0000;
  }
}

/// A number that no kernel means: -80485 in f64, -339245 in f32, -339968 in bf16, -26192 in f16.
uint64_t number_word(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0xc0f3'a65a'5a5a'5a5a;
    case DType::f32:
      return repeat32(0xc8a5'a5a5);
    case DType::bf16:
      return repeat16(0xc8a6);
    case DType::f16:
      return repeat16(0xf665);
    default:
      return 0x8000'0000'0000'0000;
  }
}

/// Fills from an address that is a multiple of the element's size away from the start of a word.
void fill_words(char* to, size_t bytes, uint64_t word) {
  for (; bytes >= sizeof word; bytes -= sizeof word, to += sizeof word) {
    std::memcpy(to, &word, sizeof word);
  }
  std::memcpy(to, &word, bytes);
}

/// Whether fill_words has filled all of it, and nobody else has written there.
bool holds_words(const char* at, size_t bytes, uint64_t word) {
  const size_t first = std::min(bytes, sizeof word);
  return std::memcmp(at, &word, first) == 0 && std::memcmp(at, at + first, bytes - first) == 0;
}

/// Elements of [at, at + bytes) that differ from `expected`, which advances by `step` elements.
struct Difference {
  size_t count = 0;
  size_t first = 0;
  size_t last = 0;
};
Difference compare(const char* at, size_t bytes, size_t element_bytes, const char* expected, size_t step) {
  Difference difference;
  for (size_t i = 0; i < bytes / element_bytes; ++i) {
    if (std::memcmp(at + i * element_bytes, expected + step * i * element_bytes, element_bytes) != 0) {
      difference.first = difference.count++ == 0 ? i : difference.first;
      difference.last = i;
    }
  }
  return difference;
}

}  // namespace

size_t GuardedLayout::add(const std::string& name, Role role, DType dtype, size_t count) {
  const size_t element_bytes = size_of(dtype);
  Region region{
      .name = name,
      .role = role,
      .element_bytes = element_bytes,
      .offset = bytes_ + kGuardBytes,
      .bytes = count * element_bytes,
      .before = kGuardBytes,
      .behind = 0,
      .poison = role == Role::result && garbage_ == Garbage::number ? number_word(dtype) : nan_word(dtype, role)};
  const size_t end = region.offset + region.bytes;
  bytes_ = (end + kGuardBytes + kAlignment - 1) / kAlignment * kAlignment;
  region.behind = bytes_ - end;
  regions_.push_back(region);
  return regions_.back().offset;
}

void GuardedLayout::extend(size_t bytes) {
  if (!regions_.empty()) {
    regions_.back().behind += bytes - bytes_;
    bytes_ = bytes;
  }
}

void GuardedLayout::fill(char* block) const {
  for (const Region& region : regions_) {
    fill_words(block + region.offset - region.before, region.before, region.poison);
    if (region.role == Role::result) {
      fill_words(block + region.offset, region.bytes, region.poison);
    }
    fill_words(block + region.offset + region.bytes, region.behind, region.poison);
  }
}

std::string GuardedLayout::damage(const char* block, const std::vector<const char*>& inputs) const {
  std::vector<std::string> findings;
  size_t input = 0;
  for (const Region& region : regions_) {
    const char* start = block + region.offset;
    const size_t size = region.element_bytes;
    const auto* poison = reinterpret_cast<const char*>(&region.poison);
    if (!holds_words(start - region.before, region.before, region.poison)) {
      const Difference before = compare(start - region.before, region.before, size, poison, 0);
      findings.push_back(fmt::format("wrote {} bytes before {}, last at offset -{}", before.count * size, region.name,
                                     region.before - before.last * size));
    }
    if (!holds_words(start + region.bytes, region.behind, region.poison)) {
      const Difference behind = compare(start + region.bytes, region.behind, size, poison, 0);
      findings.push_back(fmt::format("wrote {} bytes behind {}, first at offset {}", behind.count * size, region.name,
                                     behind.first * size));
    }
    if (region.role == Role::input) {
      const char* original = inputs[input++];
      if (region.bytes > 0 && std::memcmp(start, original, region.bytes) != 0) {
        const Difference inside = compare(start, region.bytes, size, original, 1);
        findings.push_back(fmt::format("wrote to its input {}: {} of {} elements, first element {}", region.name,
                                       inside.count, region.bytes / size, inside.first));
      }
    }
  }
  if (findings.size() > kMostFindings) {
    const size_t more = findings.size() - kMostFindings;
    findings.resize(kMostFindings);
    findings.push_back(fmt::format("and {} more", more));
  }
  return fmt::format("{}", fmt::join(findings, "; "));
}

}  // namespace deltatape::harness::plugin

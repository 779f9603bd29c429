// Bytes that lie in memory, read as those of a file are.
#pragma once

#include <cstring>
#include <string>
#include <string_view>

#include "io/byte_reader.h"

namespace deltatape::io {

/// Reads `bytes`, which must outlive it. Messages begin with `function` and call the bytes `name`.
class MemoryReader : public ByteReader {
 public:
  MemoryReader(std::string_view function, std::string name, std::string_view bytes)
      : ByteReader(function, std::move(name)), rest_(bytes) {
    set_size(static_cast<int64_t>(bytes.size()));
  }

 private:
  int64_t read_bytes(void* to, int64_t bytes) override {
    std::memcpy(to, rest_.data(), static_cast<size_t>(bytes));
    rest_.remove_prefix(static_cast<size_t>(bytes));
    return bytes;
  }

  std::string_view rest_;
};

}  // namespace deltatape::io

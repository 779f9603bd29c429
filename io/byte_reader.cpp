#include "io/byte_reader.h"

#include "core/error.h"

namespace deltatape::io {

void ByteReader::read(void* to, int64_t bytes, std::string_view what) {
  check(bytes <= remaining(), function_, "{} ends after {} bytes, expected {} bytes of {} from byte {}", name_, size_,
        bytes, what, position_);
  if (bytes == 0) {
    return;
  }
  const int64_t count = read_bytes(to, bytes);
  check(count == bytes, function_, "{}: reading {} bytes of {} gave {}", name_, bytes, what, count);
  position_ += bytes;
}

std::string ByteReader::read_string(int64_t bytes, std::string_view what) {
  std::string text;
  if (bytes <= remaining()) {
    text.resize(static_cast<size_t>(bytes));
  }
  read(text.data(), bytes, what);
  return text;
}

}  // namespace deltatape::io

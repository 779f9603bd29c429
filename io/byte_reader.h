// Where the readers of file formats get their bytes from: a file, or a member of an archive.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace deltatape::io {

/// Bytes that are read once, from front to back; how many there are is known beforehand.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  /// What messages call these bytes: a path, or a path and a member.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int64_t size() const { return size_; }
  /// Bytes between the reading position and the end.
  [[nodiscard]] int64_t remaining() const { return size_ - position_; }
  /// Copies the next `bytes` bytes to `to`. Throws Error, which says that `what` was expected, when there are fewer.
  void read(void* to, int64_t bytes, std::string_view what);
  /// As read, into a string. Nothing is allocated when fewer bytes are left.
  std::string read_string(int64_t bytes, std::string_view what);

 protected:
  /// `function` starts the messages.
  ByteReader(std::string_view function, std::string name) : function_(function), name_(std::move(name)) {}
  [[nodiscard]] const std::string& function() const { return function_; }
  void set_size(int64_t size) { size_ = size; }

 private:
  /// Copies the next `bytes` bytes, of which there are as many, and returns how many could be read.
  virtual int64_t read_bytes(void* to, int64_t bytes) = 0;

  std::string function_;
  std::string name_;
  int64_t size_ = 0;
  int64_t position_ = 0;
};

}  // namespace deltatape::io

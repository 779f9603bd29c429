// Reading whole files with their size known beforehand, and writing files that are either complete or not there.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace deltatape::io {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, CloseFile>;

/// A regular file opened for reading from front to back.
class FileReader {
 public:
  /// Throws Error that names `function` and the path when it is missing, not a regular file, or not readable.
  FileReader(std::string_view function, const std::filesystem::path& path);

  [[nodiscard]] int64_t size() const { return size_; }
  /// Bytes between the reading position and the end.
  [[nodiscard]] int64_t remaining() const { return size_ - position_; }
  /// Copies the next `bytes` bytes to `to`. Throws Error, which says that `what` was expected, when there are fewer.
  void read(void* to, int64_t bytes, std::string_view what);
  /// As read, into a string. Nothing is allocated when the file has fewer bytes.
  std::string read_string(int64_t bytes, std::string_view what);

 private:
  std::string function_;
  std::filesystem::path path_;
  FileHandle file_;
  int64_t size_ = 0;
  int64_t position_ = 0;
};

/// The bytes of a file. Errors as FileReader.
std::string read_file(std::string_view function, const std::filesystem::path& path);

/// A file under construction: a temporary name beside `path`, which commit() renames to `path`. Without commit the
/// destructor removes it, so `path` holds the old content, the new content, or nothing; never a part.
class FileWriter {
 public:
  /// Throws Error that names `function` and the path when it cannot be written, or when `path` is there and not a
  /// regular file.
  FileWriter(std::string_view function, const std::filesystem::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* from, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes to the disk and renames. Throws Error when that fails.
  void commit();

 private:
  std::string function_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileHandle file_;
};

/// Writes `text` as the whole content of `path` (see FileWriter).
void write_file(std::string_view function, const std::filesystem::path& path, std::string_view text);

}  // namespace deltatape::io

// Reading whole files with their size known beforehand, and writing files that are either complete or not there.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "io/byte_reader.h"

namespace deltatape::io {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, CloseFile>;

/// A regular file opened for reading from front to back.
class FileReader : public ByteReader {
 public:
  /// Throws Error that names `function` and the path when it is missing, not a regular file, or not readable.
  FileReader(std::string_view function, const std::filesystem::path& path);

 private:
  int64_t read_bytes(void* to, int64_t bytes) override;

  FileHandle file_;
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

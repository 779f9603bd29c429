#include "io/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/error.h"

namespace deltatape::io {

FileReader::FileReader(std::string_view function, const std::filesystem::path& path)
    : ByteReader(function, path.string()) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  check(std::filesystem::exists(status), function, "{} does not exist, expected a file", path.string());
  check(std::filesystem::is_regular_file(status), function, "{} is {}, expected a regular file", path.string(),
        std::filesystem::is_directory(status) ? "a folder" : "a special file");
  file_.reset(std::fopen(path.c_str(), "rb"));
  check(file_ != nullptr, function, "{} cannot be read: {}", path.string(), std::strerror(errno));
  set_size(static_cast<int64_t>(std::filesystem::file_size(path, error)));
  check(!error, function, "{} cannot be read: {}", path.string(), error.message());
}

int64_t FileReader::read_bytes(void* to, int64_t bytes) {
  return static_cast<int64_t>(std::fread(to, 1, static_cast<size_t>(bytes), file_.get()));
}

std::string read_file(std::string_view function, const std::filesystem::path& path) {
  FileReader reader(function, path);
  return reader.read_string(reader.size(), "content");
}

FileWriter::FileWriter(std::string_view function, const std::filesystem::path& path)
    : function_(function), path_(path), temporary_(path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  check(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), function,
        "{} is {}, expected a regular file or a new name", path.string(),
        std::filesystem::is_directory(status) ? "a folder" : "a special file");
  temporary_ += fmt::format(".{}.partial", ::getpid());
  file_.reset(std::fopen(temporary_.c_str(), "wb"));
  check(file_ != nullptr, function, "{} cannot be written: {}", path.string(), std::strerror(errno));
}

FileWriter::~FileWriter() {
  if (file_ != nullptr) {
    file_.reset();
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }
}

void FileWriter::write(const void* from, size_t bytes) {
  check(std::fwrite(from, 1, bytes, file_.get()) == bytes, function_, "{} cannot be written: {}", path_.string(),
        std::strerror(errno));
}

void FileWriter::commit() {
  const bool flushed = std::fflush(file_.get()) == 0 && ::fsync(::fileno(file_.get())) == 0;
  check(flushed, function_, "{} cannot be written: {}", path_.string(), std::strerror(errno));
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  check(!error, function_, "{} cannot be written: {}", path_.string(), error.message());
  file_.reset();
}

void write_file(std::string_view function, const std::filesystem::path& path, std::string_view text) {
  FileWriter writer(function, path);
  writer.write(text);
  writer.commit();
}

}  // namespace deltatape::io

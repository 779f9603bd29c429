#include "harness/files/new_folder.h"

#include <unistd.h>

#include <system_error>

#include "core/error.h"

namespace deltatape::harness {

namespace fs = std::filesystem;

NewFolder::NewFolder(std::string_view function, const fs::path& path) : function_(function) {
  std::error_code error;
  path_ = fs::absolute(path, error).lexically_normal();
  if (!path_.has_filename()) {
    path_ = path_.parent_path();  // `out/` means `out`
  }
  const auto status = fs::status(path_, error);
  if (fs::exists(status)) {
    check(fs::is_directory(status), function, "{} is a file, expected a new folder", path.string());
    const bool empty = fs::is_empty(path_, error);
    check(!error, function, "{} cannot be read: {}", path.string(), error.message());
    check(empty, function, "{} has files in it, expected a new or an empty folder", path.string());
  }
  temporary_ = path_;
  temporary_ += fmt::format(".{}.partial", ::getpid());
  fs::create_directories(temporary_, error);
  check(!error, function, "{} cannot be made: {}", temporary_.string(), error.message());
}

NewFolder::~NewFolder() {
  if (!temporary_.empty()) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
}

void NewFolder::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);
  check(!error, function_, "{} cannot be made: {}", path_.string(), error.message());
  temporary_.clear();
}

}  // namespace deltatape::harness

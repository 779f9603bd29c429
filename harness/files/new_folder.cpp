#include "harness/files/new_folder.h"

#include <unistd.h>

#include <system_error>
#include <vector>

#include "core/error.h"

namespace deltatape::harness {

namespace fs = std::filesystem;

namespace {

// `out/` means `out`.
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

}  // namespace

NewFolder::NewFolder(std::string_view function, const fs::path& path) : function_(function) {
  std::error_code error;
  path_ = fs::absolute(without_slash(path), error);
  if (!error) {
    path_ = without_slash(fs::weakly_canonical(path_, error));
  }
  check(!error, function, "{} cannot be made: {}", path.string(), error.message());
  check(!fs::is_symlink(fs::symlink_status(path_, error)), function,
        "{} is a link to nothing, expected a new or an empty folder", path.string());
  const auto status = fs::status(path_, error);
  const std::string name = fmt::format("{}.partial", ::getpid());
  if (fs::exists(status)) {
    check(fs::is_directory(status), function, "{} is a file, expected a new folder", path.string());
    const bool empty = fs::is_empty(path_, error);
    check(!error, function, "{} cannot be read: {}", path.string(), error.message());
    check(empty, function, "{} has files in it, expected a new or an empty folder", path.string());
    temporary_ = path_ / name;
  } else {
    temporary_ = path_;
    temporary_ += "." + name;
  }
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
  if (temporary_.parent_path() == path_) {
    move_up();
  } else {
    std::error_code error;
    fs::rename(temporary_, path_, error);
    check(!error, function_, "{} cannot be made: {}", path_.string(), error.message());
  }
  temporary_.clear();
}

// The folder itself stays: somebody may stand in it, and it may be a mount point.
void NewFolder::move_up() {
  std::error_code error;
  std::vector<fs::path> names;
  for (fs::directory_iterator entry(temporary_, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  check(!error, function_, "{} cannot be listed: {}", temporary_.string(), error.message());
  for (size_t i = 0; i < names.size(); ++i) {
    fs::rename(temporary_ / names[i], path_ / names[i], error);
    for (size_t back = 0; error && back < i; ++back) {
      std::error_code ignored;
      fs::rename(path_ / names[back], temporary_ / names[back], ignored);
    }
    check(!error, function_, "{} cannot be made: {}", (path_ / names[i]).string(), error.message());
  }
  fs::remove(temporary_, error);
  check(!error, function_, "{} cannot be removed: {}", temporary_.string(), error.message());
}

}  // namespace deltatape::harness

// A folder that is there with everything in it, or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace deltatape::harness {

/// A folder under construction: a temporary name beside `path`, which commit() renames to `path`. Without commit the
/// destructor removes it with everything in it.
class NewFolder {
 public:
  /// Throws Error that starts with `function` and names the path when it is there and is not an empty folder, or when
  /// no folder can be made beside it.
  NewFolder(std::string_view function, const std::filesystem::path& path);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Where to write.
  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }
  /// Throws Error when the folder cannot be renamed.
  void commit();

 private:
  std::string function_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
};

}  // namespace deltatape::harness

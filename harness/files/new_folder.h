// A folder that is there with everything in it, or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace deltatape::harness {

/// A folder under construction: a temporary name beside `path`, which commit() renames to `path`. Where `path` is there
/// already, as an empty folder or a link to one, it stays the folder it is: the temporary one lies in it, and commit()
/// moves what was written up into it. Without commit the destructor removes the temporary folder with everything in it.
class NewFolder {
 public:
  /// Throws Error that starts with `function` and names the path when it is there and is not an empty folder, when it
  /// is a link to nothing, or when the temporary folder cannot be made.
  NewFolder(std::string_view function, const std::filesystem::path& path);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Where to write.
  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }
  /// Throws Error when the folder cannot be renamed, or what is in it not be moved.
  void commit();

 private:
  void move_up();

  std::string function_;
  std::filesystem::path path_;  // without links
  std::filesystem::path temporary_;
};

}  // namespace deltatape::harness

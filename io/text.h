// Text as bytes: reading it, splitting it, drawing batches from it, and the loss that a look at byte counts gives.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/generator.h"
#include "core/tensor.h"

namespace deltatape::io {

/// The tokens of a byte-level text are its bytes.
inline constexpr int64_t kByteVocabulary = 256;

struct Text {
  std::string bytes;                            // the files' contents, one after another
  std::vector<std::filesystem::path> files;     // in that order
  std::vector<std::filesystem::path> left_out;  // found in a folder and not used: binary or not readable
};

/// Reads files and folders (with everything below them). All files together are ordered by the bytes of their paths.
///
/// A path that is given itself must be a readable regular file or folder; a file is then used whatever it holds.
/// Inside folders: symbolic links, hidden entries (`.name`) and special files are passed over; files that cannot be
/// read or have a NUL byte among the first 8000 (binary, by git's rule) go to `left_out`. Throws Error that names the
/// path when one is missing, when a given file is not readable, or when nothing was found.
Text load_text(std::span<const std::filesystem::path> paths);

/// A text's two parts, views of it: the last tenth (rounded down) is for validation.
struct TextSplit {
  std::string_view training;
  std::string_view validation;
};
TextSplit split_text(std::string_view bytes);

/// `count` windows of `length` successive bytes at uniformly random places: i64 [count, length]. Throws Error when the
/// text is shorter than a window.
Tensor random_windows(std::string_view bytes, int64_t count, int64_t length, Generator& generator);

/// At most `count` windows of `length` bytes, each starting `stride` bytes after the one before or, where the text has
/// more of them, evenly spread: i64 [n, length], the same for the same arguments. Throws Error when there is none.
Tensor spread_windows(std::string_view bytes, int64_t count, int64_t length, int64_t stride);

/// Mean of -log p(byte) over `text`, in nats per byte, where p are the byte frequencies of `training` with one added
/// to each of the 256 counts (so that an unseen byte has a finite loss). Throws Error when `text` is empty.
double unigram_cross_entropy(std::string_view training, std::string_view text);

}  // namespace deltatape::io

#include "io/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <system_error>

#include "io/file.h"

namespace deltatape::io {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBinaryProbe = 8000;

bool is_binary(std::string_view bytes) { return bytes.substr(0, kBinaryProbe).find('\0') != std::string_view::npos; }

// Adds the regular files below `folder`; a folder that cannot be listed goes to left_out.
void list_folder(const fs::path& folder, std::set<std::string>& files, std::vector<fs::path>& left_out) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) {
    left_out.push_back(folder);
    return;
  }
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (name.front() == '.' || entry.is_symlink(error)) {
      continue;
    }
    if (entry.is_directory(error)) {
      list_folder(entry.path(), files, left_out);
    } else if (entry.is_regular_file(error)) {
      files.insert(entry.path().string());
    }
  }
}

void copy_window(std::string_view bytes, int64_t start, int64_t length, int64_t* to) {
  for (int64_t i = 0; i < length; ++i) {
    to[i] = static_cast<unsigned char>(bytes[static_cast<size_t>(start + i)]);
  }
}

std::array<int64_t, kByteVocabulary> count_bytes(std::string_view text) {
  std::array<int64_t, kByteVocabulary> counts{};
  for (const char c : text) {
    ++counts[static_cast<unsigned char>(c)];
  }
  return counts;
}

}  // namespace

Text load_text(std::span<const fs::path> paths) {
  Text text;
  std::set<std::string> given;
  std::set<std::string> found;
  for (const fs::path& path : paths) {
    std::error_code error;
    const auto status = fs::status(path, error);
    check(fs::exists(status), "load_text", "{} does not exist, expected a file or a folder", path.string());
    if (fs::is_directory(status)) {
      list_folder(path, found, text.left_out);
    } else {
      given.insert(path.string());
    }
  }
  std::set<std::string> files = found;
  files.insert(given.begin(), given.end());
  for (const std::string& file : files) {
    const bool by_name = given.count(file) != 0;
    std::string bytes;
    try {
      bytes = read_file("load_text", file);
    } catch (const Error&) {
      if (by_name) {
        throw;
      }
      text.left_out.emplace_back(file);
      continue;
    }
    if (!by_name && is_binary(bytes)) {
      text.left_out.emplace_back(file);
      continue;
    }
    text.bytes += bytes;
    text.files.emplace_back(file);
  }
  check(!text.files.empty(), "load_text", "no text was found in {}, expected at least one file",
        paths.empty() ? std::string("an empty list of paths") : paths.front().string());
  return text;
}

TextSplit split_text(std::string_view bytes) {
  const size_t validation = bytes.size() / 10;
  const size_t training = bytes.size() - validation;
  return {bytes.substr(0, training), bytes.substr(training)};
}

Tensor random_windows(std::string_view bytes, int64_t count, int64_t length, Generator& generator) {
  const auto size = static_cast<int64_t>(bytes.size());
  check(count >= 0 && length > 0, "random_windows", "count is {} and length {}, expected count >= 0 and length > 0",
        count, length);
  check(size >= length, "random_windows", "bytes has {} bytes, expected at least {} for one window", size, length);
  Tensor out = empty({count, length}, DType::i64);
  auto* to = static_cast<int64_t*>(out.mutable_raw());
  for (int64_t i = 0; i < count; ++i) {
    const auto start = static_cast<int64_t>(generator.next_below(static_cast<uint64_t>(size - length + 1)));
    copy_window(bytes, start, length, to + i * length);
  }
  return out;
}

Tensor spread_windows(std::string_view bytes, int64_t count, int64_t length, int64_t stride) {
  const auto size = static_cast<int64_t>(bytes.size());
  check(count > 0 && length > 0 && stride > 0, "spread_windows",
        "count is {}, length {} and stride {}, expected positive numbers", count, length, stride);
  check(size >= length, "spread_windows", "bytes has {} bytes, expected at least {} for one window", size, length);
  const int64_t available = (size - length) / stride + 1;
  const int64_t windows = std::min(count, available);
  Tensor out = empty({windows, length}, DType::i64);
  auto* to = static_cast<int64_t*>(out.mutable_raw());
  for (int64_t i = 0; i < windows; ++i) {
    const int64_t start = available <= count ? i * stride : (size - length) / windows * i;
    copy_window(bytes, start, length, to + i * length);
  }
  return out;
}

double unigram_cross_entropy(std::string_view training, std::string_view text) {
  check(!text.empty(), "unigram_cross_entropy", "text is empty, expected at least one byte");
  const auto frequencies = count_bytes(training);
  const auto counts = count_bytes(text);
  const double total = static_cast<double>(training.size()) + static_cast<double>(kByteVocabulary);
  double sum = 0.0;
  for (size_t byte = 0; byte < counts.size(); ++byte) {
    if (counts[byte] > 0) {
      sum -= static_cast<double>(counts[byte]) * std::log(static_cast<double>(frequencies[byte] + 1) / total);
    }
  }
  return sum / static_cast<double>(text.size());
}

}  // namespace deltatape::io

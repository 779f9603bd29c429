#include "tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace deltatape::tools {
namespace {

constexpr int64_t kBarWidth = 24;
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kNextLine = std::chrono::seconds(10);

}  // namespace

Progress::Progress(int64_t first, int64_t total, Unit unit)
    : first_(first), total_(total), unit_(unit), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) {
    fmt::print(stderr, "\n");
    drawn_ = false;
  }
}

std::string Progress::done_so_far(int64_t done) const {
  return unit_ == Unit::steps ? fmt::format("step {}/{}", done, total_)
                              : fmt::format("{:3} %", total_ > 0 ? 100 * done / total_ : 100);
}

std::string Progress::time_left(int64_t done, Clock::time_point now) const {
  if (done <= first_) {
    return "";
  }
  const std::chrono::duration<double> elapsed = now - start_;
  const auto seconds =
      static_cast<int64_t>(elapsed.count() / static_cast<double>(done - first_) * static_cast<double>(total_ - done));
  return fmt::format("{}:{:02} left", seconds / 60, seconds % 60);
}

void Progress::update(int64_t done, const std::string& text) {
  const auto now = Clock::now();
  const bool last = done == total_;
  if (!last && now - last_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kNextLine))) {
    return;
  }
  last_ = now;
  if (!terminal_) {
    fmt::print(stderr, "{}  {}  {}\n", done_so_far(done), text, time_left(done, now));
    return;
  }
  const int64_t filled = total_ > 0 ? kBarWidth * done / total_ : kBarWidth;
  fmt::print(stderr, "\r[{}{}] {}  {}  {}\033[K", std::string(static_cast<size_t>(filled), '='),
             std::string(static_cast<size_t>(kBarWidth - filled), ' '), done_so_far(done), text, time_left(done, now));
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace deltatape::tools

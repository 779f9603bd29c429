// Pictures, drawn by the gnuplot program.
#pragma once

#include <filesystem>
#include <string>

namespace deltatape::tools {

/// Runs gnuplot on `script`, which draws a PNG of 960 x 540 pixels into `picture`. Returns why there is none, or
/// nothing. A failed run leaves the old picture.
std::string draw_png(const std::filesystem::path& picture, const std::string& script);

}  // namespace deltatape::tools

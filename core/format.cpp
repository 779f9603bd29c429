// Printing tensors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace deltatape {
namespace {

constexpr int64_t kLongDimension = 6;  // longer ones show their first and last three entries
constexpr int64_t kEdge = 3;

// Which entries of a dimension are shown.
std::vector<int64_t> shown_entries(int64_t size) {
  std::vector<int64_t> entries;
  for (int64_t i = 0; i < size; ++i) {
    if (size <= kLongDimension || i < kEdge || i >= size - kEdge) {
      entries.push_back(i);
    }
  }
  return entries;
}

// Calls visit(offset) for every shown element, in row-major order.
template <class F>
void visit_shown(const Tensor& tensor, int dim, int64_t offset, F& visit) {
  if (dim == tensor.rank()) {
    visit(offset);
    return;
  }
  for (const int64_t i : shown_entries(tensor.shape()[dim])) {
    visit_shown(tensor, dim + 1, offset + i * tensor.strides()[dim], visit);
  }
}

// One notation for all floating-point elements: 1., 0.1235 or 1.2346e-05.
std::string format_number(double x, bool whole, bool scientific) {
  if (!std::isfinite(x)) {
    return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
  }
  if (whole) {
    return fmt::format("{:.0f}.", x);
  }
  return scientific ? fmt::format("{:.4e}", x) : fmt::format("{:.4f}", x);
}

std::vector<std::string> format_floats(const std::vector<double>& values) {
  bool whole = true;
  double largest = 0;
  double smallest = std::numeric_limits<double>::infinity();
  for (const double x : values) {
    if (std::isfinite(x) && x != 0) {
      whole = whole && x == std::nearbyint(x);
      largest = std::max(largest, std::abs(x));
      smallest = std::min(smallest, std::abs(x));
    }
  }
  const bool scientific = largest >= 1e6 || (largest > 0 && largest < 1e-3) || largest / smallest > 1e5;
  std::vector<std::string> texts;
  for (const double x : values) {
    texts.push_back(format_number(x, whole && largest < 1e6, scientific));
  }
  return texts;
}

// The shown elements in row-major order as texts of equal width.
std::vector<std::string> shown_texts(const Tensor& tensor) {
  std::vector<std::string> texts;
  visit_dtype(tensor.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto* data = static_cast<const T*>(tensor.raw());
    if constexpr (std::is_same_v<T, bool>) {
      auto visit = [&](int64_t offset) { texts.emplace_back(data[offset] ? "true" : "false"); };
      visit_shown(tensor, 0, 0, visit);
    } else if constexpr (std::is_integral_v<T>) {
      auto visit = [&](int64_t offset) { texts.push_back(std::to_string(data[offset])); };
      visit_shown(tensor, 0, 0, visit);
    } else {
      std::vector<double> values;
      auto visit = [&](int64_t offset) {
        if constexpr (std::is_same_v<T, double>) {
          values.push_back(data[offset]);
        } else {
          values.push_back(static_cast<double>(static_cast<float>(data[offset])));
        }
      };
      visit_shown(tensor, 0, 0, visit);
      texts = format_floats(values);
    }
  });
  size_t width = 0;
  for (const std::string& text : texts) {
    width = std::max(width, text.size());
  }
  for (std::string& text : texts) {
    text.insert(0, width - text.size(), ' ');
  }
  return texts;
}

// Writes dimension `dim` and what is below it; `next` walks through the texts.
void write_brackets(std::ostream& out, const Tensor& tensor, int dim, std::vector<std::string>::const_iterator& next) {
  if (dim == tensor.rank()) {
    out << *next++;
    return;
  }
  const int64_t size = tensor.shape()[dim];
  const bool innermost = dim == tensor.rank() - 1;
  // Matrices are set apart by as many empty lines as they have dimensions above them.
  const std::string separator = innermost ? ", "
                                          : "," + std::string(static_cast<size_t>(tensor.rank() - 1 - dim), '\n') +
                                                std::string(static_cast<size_t>(dim) + 1, ' ');
  out << '[';
  bool first = true;
  for (const int64_t i : shown_entries(size)) {
    out << (first ? "" : separator);
    if (size > kLongDimension && i == size - kEdge) {
      out << "..." << separator;
    }
    first = false;
    write_brackets(out, tensor, dim + 1, next);
  }
  out << ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor.defined()) {
    return out << "undefined";
  }
  if (tensor.numel() == 0) {
    out << "[]";
  } else {
    const std::vector<std::string> texts = shown_texts(on_host(tensor));
    auto next = texts.begin();
    write_brackets(out, tensor, 0, next);
  }
  return out << (tensor.rank() > 1 && tensor.numel() > 0 ? '\n' : ' ') << describe(tensor);
}

}  // namespace deltatape

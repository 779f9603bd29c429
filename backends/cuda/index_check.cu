#include "backends/cuda/dense.h"
#include "backends/cuda/graph_memory.h"
#include "backends/cuda/index_check.h"
#include "backends/cuda/reduction.h"
#include "backends/cuda/runtime/memory.h"

namespace deltatape::cuda {
namespace {

struct FirstOutside {
  using Total = int64_t;
  const int64_t* index;
  int64_t size;
  IndexOutside* out;
  bool keeps;  // what is noted there, and notes nothing when all are inside

  [[nodiscard]] DT_HD Total none() const { return IndexOutside::kNone; }
  [[nodiscard]] DT_HD Total of(const Pack<int64_t>& pack, int64_t first, int64_t count) const {
    Total found = IndexOutside::kNone;
    for (int j = kPack<int64_t> - 1; j >= 0; --j) {
      found = j < count && (pack[j] < 0 || pack[j] >= size) ? first + j : found;
    }
    return found;
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const { return a < b ? a : b; }
  DT_HD void store(Total total, int64_t /*line*/) const {
    if (!keeps || (total != IndexOutside::kNone && out->position == IndexOutside::kNone)) {
      out->index = total == IndexOutside::kNone ? 0 : index[total];
      out->position = total;
    }
  }
};

struct Contain {
  const int64_t* index;
  int64_t size;
  int64_t* out;
  DT_HD void operator()(int64_t i) const { out[i] = index[i] >= 0 && index[i] < size ? index[i] : 0; }
};

void find_outside(const Tensor& values, int64_t size, IndexOutside* out, bool keeps) {
  reduce_lines(current_stream(values.device()), rows_of<int64_t>(flat(values)),
               FirstOutside{data_of<const int64_t>(values), size, out, keeps});
}

}  // namespace

void check_none_outside(std::string_view function, std::string_view argument, const IndexOutside& found, int64_t size) {
  if (found.position != IndexOutside::kNone) {
    check(size > 0, function, "{} is {} at position {}, but there are no entries along dim", argument, found.index,
          found.position);
    fail(function, "{} is {} at position {}, expected 0 to {}", argument, found.index, found.position, size - 1);
  }
}

Tensor indices_for_replays(std::string_view function, std::string_view argument, const Tensor& index, int64_t size) {
  GraphMemory* const memory = recording_memory(index.device());
  if (memory == nullptr || index.numel() == 0) {
    return index;
  }
  check(size > 0, function, "{} has {} elements, but there are no entries along dim", argument, index.numel());
  const Tensor values = dense(index);
  find_outside(values, size, memory->watch(function, argument, size), true);
  const Tensor inside = empty(values.shape(), values.options());
  launch_elements(current_stream(index.device()), values.numel(),
                  Contain{data_of<const int64_t>(values), size, data_of<int64_t>(inside)});
  return inside;
}

Tensor checked_indices(std::string_view function, std::string_view argument, const Tensor& index, int64_t size) {
  const Tensor values = dense(converted(index, DType::i64));
  if (values.numel() == 0) {
    return values;
  }
  if (recording_memory(index.device()) != nullptr) {
    return indices_for_replays(function, argument, values, size);
  }
  static_assert(sizeof(IndexOutside) == 2 * sizeof(int64_t));
  const Tensor answer = empty({2}, DType::i64, index.device());
  find_outside(values, size, reinterpret_cast<IndexOutside*>(data_of<int64_t>(answer)), false);
  IndexOutside found;
  copy_bytes(&found, Device::cpu(), answer.raw(), index.device(), sizeof(found), current_stream(index.device()));
  check_none_outside(function, argument, found, size);
  return values;
}

}  // namespace deltatape::cuda

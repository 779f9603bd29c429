#include <algorithm>
#include <numeric>

#include "ops/indexing.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

int64_t as_index(double value) { return static_cast<int64_t>(value); }

Array gathered(const Array& x, int dim, const Array& index) {
  return build(index.shape, [&](const Shape& i) {
    Shape source = i;
    source[dim] = as_index(index.at(i));
    return x.at(source);
  });
}

Array scattered(Array x, int dim, const Array& index, const Array& source) {
  for_each_index(index.shape, [&](const Shape& i) {
    Shape target = i;
    target[dim] = as_index(index.at(i));
    x.at(target) += source.at(i);
  });
  return x;
}

// `index` of rank 1, written out for gathered and scattered.
Array spread(const Array& index, const Shape& like, int dim) {
  Shape shape = like;
  shape[dim] = index.size(0);
  return build(shape, [&](const Shape& i) { return index.at({i[dim]}); });
}

// The `k` largest of each line, or their places, larger first and then the lower place.
std::vector<double> largest_of(const std::vector<double>& line, size_t k, bool places) {
  std::vector<size_t> order(line.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return line[a] > line[b]; });
  std::vector<double> result;
  for (size_t i = 0; i < k; ++i) {
    result.push_back(places ? static_cast<double>(order[i]) : line[order[i]]);
  }
  return result;
}

OpSample topk_row(const std::string& variant, const Shape& shape, int64_t k, const Domain& domain) {
  return OpSample("topk", variant)
      .in(shape, domain)
      .calls([k](const Tensor& x) {
        const TopK top = topk(x, k);
        return Tensors{top.values, top.indices};
      })
      .equals([k](const Array& x) {
        const auto count = static_cast<size_t>(k);
        return Arrays{along(x, -1, [=](const std::vector<double>& line) { return largest_of(line, count, false); }),
                      along(x, -1, [=](const std::vector<double>& line) { return largest_of(line, count, true); })};
      })
      .gives({std::nullopt, DType::i64});
}

std::vector<OpSample> element_samples() {
  return {
      OpSample("gather")
          .in({3, 4, 2})
          .in({3, 5, 2}, indices(4))
          .calls([](const Tensor& x, const Tensor& index) { return gather(x, 1, index); })
          .equals([](const Array& x, const Array& index) { return gathered(x, 1, index); })
          .also_for({{3, 4, 2}, {3, 0, 2}})
          .also_for({{0, 4, 2}, {0, 5, 2}})
          .also_for({{40, 30, 20}, {40, 50, 20}})
          .rejects("gather: x is undefined, expected a tensor", [] { gather(Tensor(), 0, empty({2}, DType::i64)); })
          .rejects("gather: index has dtype f32, expected i64 or i32", [] { gather(empty({2}), 0, empty({2})); })
          .rejects("gather: index has shape [3, 3], expected that of x, [2, 3], but along dimension 1",
                   [] {
                     gather(empty({2, 3}), 1, empty({3, 3}, DType::i64));
                   })
          .rejects("gather: index is 3 at position 1, expected 0 to 2",
                   [] {
                     gather(empty({3}), 0, from_vector(std::vector<int64_t>{0, 3}));
                   })
          .rejects("gather: index is -1 at position 0, expected 0 to 2",
                   [] { gather(empty({3}), 0, from_vector(std::vector<int64_t>{-1})); }),
      OpSample("gather", "last dimension, i32")
          .in({3, 4})
          .in({3, 2}, indices(4), DType::i32)
          .calls([](const Tensor& x, const Tensor& index) { return gather(x, -1, index); })
          .equals([](const Array& x, const Array& index) { return gathered(x, 1, index); }),
      OpSample("scatter_add")
          .in({3, 4, 2})
          .in({3, 7, 2}, indices(4))
          .in({3, 7, 2})
          .calls([](const Tensor& x, const Tensor& index, const Tensor& src) { return scatter_add(x, 1, index, src); })
          .equals([](const Array& x, const Array& index, const Array& src) { return scattered(x, 1, index, src); })
          .units(16, 3)
          .also_for({{3, 4, 2}, {3, 0, 2}, {3, 0, 2}})
          .also_for({{40, 4, 20}, {40, 50, 20}, {40, 50, 20}})
          .rejects("scatter_add: src has shape [2], expected that of index = [3]",
                   [] {
                     scatter_add(empty({4}), 0, from_vector(std::vector<int64_t>{0, 1, 2}), empty({2}));
                   })
          .rejects("scatter_add: src has dtype f64, expected f32",
                   [] { scatter_add(empty({4}), 0, from_vector(std::vector<int64_t>{0}), empty({1}, DType::f64)); })
          .rejects("scatter_add: index is 4 at position 0, expected 0 to 3",
                   [] { scatter_add(empty({4}), 0, from_vector(std::vector<int64_t>{4}), empty({1})); }),
      OpSample("scatter_add", "first dimension, i32")
          .in({4, 3})
          .in({6, 3}, indices(4), DType::i32)
          .in({6, 3})
          .calls([](const Tensor& x, const Tensor& index, const Tensor& src) { return scatter_add(x, 0, index, src); })
          .equals([](const Array& x, const Array& index, const Array& src) { return scattered(x, 0, index, src); })
          .units(16, 3),
      topk_row("", {3, 7}, 3, distinct())
          .also_for({{0, 7}})
          .also_for({{40, 300}})
          .rejects("topk: x is undefined, expected a tensor", [] { topk(Tensor(), 1); })
          .rejects("topk: k is 4, expected 0 to 3 for x of shape [2, 3]",
                   [] {
                     topk(empty({2, 3}), 4);
                   }),
      topk_row("none", {3, 7}, 0, distinct()),
      topk_row("ties", {3, 9}, 9, whole_numbers()).no_gradient(),
  };
}

std::vector<OpSample> entry_samples() {
  const auto i64 = [](std::vector<int64_t> values) { return from_vector(values); };
  return {
      OpSample("index_select")
          .in({3, 4, 2})
          .in({5}, indices(4))
          .calls([](const Tensor& x, const Tensor& index) { return index_select(x, 1, index); })
          .equals([](const Array& x, const Array& index) { return gathered(x, 1, spread(index, x.shape, 1)); })
          .also_for({{3, 4, 2}, {0}})
          .also_for({{0, 4, 2}, {5}})
          .also_for({{31, 40, 27}, {65}})
          .rejects("index_select: index has shape [1, 2], expected rank 1",
                   [] {
                     index_select(empty({3}), 0, empty({1, 2}, DType::i64));
                   })
          .rejects("index_select: index is 3 at position 1, expected 0 to 2",
                   [i64] {
                     index_select(empty({3}), 0, i64({0, 3}));
                   }),
      OpSample("index_select", "last dimension, i32")
          .in({3, 4})
          .in({6}, indices(4), DType::i32)
          .calls([](const Tensor& x, const Tensor& index) { return index_select(x, -1, index); })
          .equals([](const Array& x, const Array& index) { return gathered(x, 1, spread(index, x.shape, 1)); }),
      OpSample("index_add")
          .in({3, 4, 2})
          .in({6}, indices(4))
          .in({3, 6, 2})
          .calls([](const Tensor& x, const Tensor& index, const Tensor& src) { return index_add(x, 1, index, src); })
          .equals([](const Array& x, const Array& index, const Array& src) {
            return scattered(x, 1, spread(index, src.shape, 1), src);
          })
          .units(16, 3)
          .also_for({{3, 4, 2}, {0}, {3, 0, 2}})
          .also_for({{31, 4, 27}, {65}, {31, 65, 27}})
          .rejects("index_add: src has shape [2], expected x's shape with index's length along dim = [3]",
                   [i64] {
                     index_add(empty({4}), 0, i64({0, 1, 2}), empty({2}));
                   })
          .rejects("index_add: index is 4 at position 0, expected 0 to 3",
                   [i64] { index_add(empty({4}), 0, i64({4}), empty({1})); }),
      OpSample("one_hot")
          .in({2, 3}, indices(4))
          .calls([](const Tensor& index) { return one_hot(index, 4); })
          .equals([](const Array& index) {
            return build({index.size(0), 3, 4}, [&](const Shape& i) {
              return index.at({i[0], i[1]}) == static_cast<double>(i[2]) ? 1.0 : 0.0;
            });
          })
          .gives({DType::f32})
          .no_gradient()
          .also_for({{0, 3}})
          .rejects("one_hot: index is undefined, expected a tensor", [] { one_hot(Tensor(), 2); })
          .rejects("one_hot: index has dtype f32, expected i64 or i32", [] { one_hot(empty({2}), 2); })
          .rejects("one_hot: index is 2 at [1], expected 0 <= index < 2",
                   [i64] {
                     one_hot(i64({0, 2}), 2);
                   }),
      OpSample("one_hot", "bool")
          .in({3}, indices(2), DType::i32)
          .calls([](const Tensor& index) { return one_hot(index, 2, DType::boolean); })
          .equals([](const Array& index) {
            return build({3, 2},
                         [&](const Shape& i) { return index.at({i[0]}) == static_cast<double>(i[1]) ? 1.0 : 0.0; });
          })
          .gives({DType::boolean})
          .no_gradient(),
      OpSample("embedding")
          .in({5, 3})
          .in({2, 4}, indices(5))
          .calls(embedding)
          .equals([](const Array& weight, const Array& index) {
            return build({index.size(0), index.size(1), weight.size(1)}, [&](const Shape& i) {
              return weight.at({as_index(index.at({i[0], i[1]})), i[2]});
            });
          })
          .units(16, 2, 12)
          .also_for({{5, 3}, {0, 4}})
          .also_for({{5, 0}, {2, 4}})
          .also_for({{90, 70}, {9, 40}})
          .rejects("embedding: weight has shape [3], expected rank 2, [N, D]",
                   [i64] { embedding(empty({3}), i64({0})); })
          .rejects("embedding: index has dtype f32, expected i64 or i32",
                   [] {
                     embedding(empty({3, 2}), empty({2}));
                   })
          .rejects("embedding: index is 3 at [1], expected 0 <= index < 3",
                   [i64] {
                     embedding(empty({3, 2}), i64({0, 3}));
                   }),
  };
}

}  // namespace

std::vector<OpSample> indexing_samples() {
  std::vector<OpSample> rows = element_samples();
  for (const OpSample& row : entry_samples()) {
    rows.push_back(row);
  }
  return rows;
}

}  // namespace deltatape::test

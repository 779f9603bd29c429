#include "ops/views.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// x's entries start, start + step, ... along `dim`, `count` of them.
Array sliced(const Array& x, int dim, int64_t start, int64_t step, int64_t count) {
  Shape shape = x.shape;
  shape[dim] = count;
  return build(shape, [&](const Shape& index) {
    Shape source = index;
    source[dim] = start + step * index[dim];
    return x.at(source);
  });
}

// A [.., M, N] with the last two dimensions swapped.
Array swapped(const Array& x) { return permuted(x, {1, 0}); }

std::vector<OpSample> reshape_samples() {
  return {
      OpSample("reshape")
          .in({2, 3, 4})
          .calls([](const Tensor& x) {
            return reshape(x, {4, 6});
          })
          .equals([](const Array& x) {
            return with_shape(x, {4, 6});
          })
          .rejects("reshape: x is undefined, expected a tensor", [] { reshape(Tensor(), {2}); })
          .rejects("reshape: shape is [4, 5], expected 24 elements as in [2, 3, 4]",
                   [] {
                     reshape(empty({2, 3, 4}), {4, 5});
                   })
          .rejects("reshape: shape is [-1, -1], expected at most one size of -1",
                   [] {
                     reshape(empty({2, 3, 4}), {-1, -1});
                   }),
      OpSample("reshape", "inferred")
          .in({2, 3, 4})
          .calls([](const Tensor& x) {
            return reshape(x, {3, -1});
          })
          .equals([](const Array& x) {
            return with_shape(x, {3, x.shape.numel() / 3});
          })
          .also_for({{0, 3}}),
      OpSample("reshape", "to a scalar")
          .in({1, 1})
          .calls([](const Tensor& x) { return reshape(x, {}); })
          .equals([](const Array& x) { return with_shape(x, {}); }),
      OpSample("reshape", "of a transpose")
          .in({2, 3, 4})
          .calls([](const Tensor& x) {
            return reshape(transpose(x, 0, 2), {6, 4});
          })
          .equals([](const Array& x) {
            return with_shape(permuted(x, {2, 1, 0}), {6, 4});
          }),
      OpSample("flatten")
          .in({2, 3, 4})
          .calls([](const Tensor& x) { return flatten(x); })
          .equals([](const Array& x) { return with_shape(x, {x.shape.numel()}); })
          .also_for({{2, 0, 3}})
          .also_for({{}})
          .rejects("flatten: x is undefined, expected a tensor", [] { flatten(Tensor()); }),
      OpSample("flatten", "some")
          .in({2, 3, 4, 2})
          .calls([](const Tensor& x) { return flatten(x, 1, -2); })
          .equals([](const Array& x) {
            return with_shape(x, {2, 12, 2});
          })
          .rejects("flatten: first is 2 and last is 1, expected first <= last",
                   [] {
                     flatten(empty({2, 3, 4}), 2, 1);
                   }),
      OpSample("squeeze")
          .in({2, 1, 3})
          .calls([](const Tensor& x) { return squeeze(x, -2); })
          .equals([](const Array& x) {
            return with_shape(x, {x.size(0), x.size(2)});
          })
          .also_for({{0, 1, 3}})
          .rejects("squeeze: dimension 0 has size 2, expected 1",
                   [] {
                     squeeze(empty({2, 1}), 0);
                   }),
      OpSample("unsqueeze")
          .in({2, 3})
          .calls([](const Tensor& x) { return unsqueeze(x, -1); })
          .equals([](const Array& x) {
            return with_shape(x, {x.size(0), x.size(1), 1});
          })
          .also_for({{0, 3}})
          .rejects("unsqueeze: dim is 3, expected -3 to 2 for a tensor of rank 2",
                   [] {
                     unsqueeze(empty({2, 1}), 3);
                   }),
      OpSample("unsqueeze", "first")
          .in({2, 3})
          .calls([](const Tensor& x) { return unsqueeze(x, 0); })
          .equals([](const Array& x) {
            return with_shape(x, {1, 2, 3});
          }),
  };
}

std::vector<OpSample> order_samples() {
  return {
      OpSample("permute")
          .in({2, 3, 4})
          .calls([](const Tensor& x) {
            return permute(x, {2, 0, -2});
          })
          .equals([](const Array& x) {
            return permuted(x, {2, 0, 1});
          })
          .also_for({{2, 0, 3}})
          .rejects("permute: x is undefined, expected a tensor", [] { permute(Tensor(), {0}); })
          .rejects("permute: dims is [0, 0], expected each dimension once",
                   [] {
                     permute(empty({2, 3}), {0, 0});
                   })
          .rejects("permute: dims is [0], expected 2 dimensions",
                   [] {
                     permute(empty({2, 3}), {0});
                   }),
      OpSample("transpose")
          .in({2, 3, 4})
          .calls([](const Tensor& x) { return transpose(x, 0, -1); })
          .equals([](const Array& x) {
            return permuted(x, {2, 1, 0});
          })
          .also_for({{2, 0, 3}})
          .rejects("transpose: dim1 is 2, expected -2 to 1 for a tensor of rank 2",
                   [] {
                     transpose(empty({2, 3}), 0, 2);
                   }),
      OpSample("flip")
          .in({2, 3, 4})
          .calls([](const Tensor& x) {
            return flip(x, {0, -1});
          })
          .equals([](const Array& x) {
            return build(x.shape, [&](const Shape& i) {
              return x.at({x.size(0) - 1 - i[0], i[1], x.size(2) - 1 - i[2]});
            });
          })
          .also_for({{2, 0, 3}})
          .rejects("flip: dims is [0, 0], expected distinct dimensions",
                   [] {
                     flip(empty({2, 3}), {0, 0});
                   }),
      OpSample("expand")
          .in({2, 1})
          .calls([](const Tensor& x) {
            return expand(x, {3, -1, 4});
          })
          .equals([](const Array& x) {
            return stretch(x, {3, x.size(0), 4});
          })
          .also_for({{0, 1}})
          .rejects("expand: x has shape [3], expected a shape that broadcasts to [2, 4]",
                   [] {
                     expand(empty({3}), {2, 4});
                   }),
      OpSample("sum_to")
          .in({3, 2, 4})
          .calls([](const Tensor& x) {
            return sum_to(x, {2, 1});
          })
          .equals([](const Array& x) {
            return with_shape(fold(x, {0, 2}, true, total), {2, 1});
          })
          .also_for({{0, 2, 4}})
          .rejects("sum_to: shape is [3], expected a shape that broadcasts to [2, 4]",
                   [] {
                     sum_to(empty({2, 4}), {3});
                   }),
      OpSample("broadcast_together")
          .in({2, 1})
          .in({3})
          .calls([](const Tensor& a, const Tensor& b) {
            const Broadcasted both = broadcast_together("f", a, b);
            return Tensors{both.a, both.b};
          })
          .equals([](const Array& a, const Array& b) {
            const Shape shape = common_shape(a.shape, b.shape);
            return Arrays{stretch(a, shape), stretch(b, shape)};
          })
          .also_for({{0, 1}, {3}})
          .rejects("f: b has shape [3], expected a shape that broadcasts with [2, 4]",
                   [] {
                     broadcast_together("f", empty({2, 4}), empty({3}));
                   }),
  };
}

std::vector<OpSample> part_samples() {
  return {
      OpSample("slice")
          .in({2, 7})
          .calls([](const Tensor& x) {
            return slice(x, 1, {1, 6, 2});
          })
          .equals([](const Array& x) { return sliced(x, 1, 1, 2, 3); })
          .also_for({{0, 7}})
          .rejects("slice: x is undefined, expected a tensor", [] { slice(Tensor(), 0, {}); })
          .rejects("slice: dim is 2, expected -2 to 1 for a tensor of rank 2",
                   [] {
                     slice(empty({2, 3}), 2, {});
                   })
          .rejects("slice: step is 0, expected 1 or more",
                   [] {
                     slice(empty({2, 3}), 0, {0, 1, 0});
                   }),
      OpSample("slice", "from the end")
          .in({5, 3})
          .calls([](const Tensor& x) {
            return slice(x, 0, {-3, -1});
          })
          .equals([](const Array& x) { return sliced(x, 0, 2, 1, 2); }),
      OpSample("slice", "beyond")
          .in({5, 3})
          .calls([](const Tensor& x) {
            return slice(x, 0, {2, 100});
          })
          .equals([](const Array& x) { return sliced(x, 0, 2, 1, 3); }),
      OpSample("slice", "nothing")
          .in({5, 3})
          .calls([](const Tensor& x) {
            return slice(x, 0, {4, 2});
          })
          .equals([](const Array& x) { return sliced(x, 0, 0, 1, 0); }),
      OpSample("select")
          .in({2, 4, 3})
          .calls([](const Tensor& x) { return select(x, 1, -1); })
          .equals([](const Array& x) {
            return with_shape(sliced(x, 1, 3, 1, 1), {x.size(0), x.size(2)});
          })
          .also_for({{0, 4, 3}})
          .rejects("select: index is 4, expected -4 to 3 for size 4",
                   [] {
                     select(empty({2, 4}), 1, 4);
                   }),
      OpSample("unfold")
          .in({2, 7})
          .calls([](const Tensor& x) { return unfold(x, 1, 3, 2); })
          .equals([](const Array& x) {
            return build({x.size(0), 3, 3}, [&](const Shape& i) { return x.at({i[0], 2 * i[1] + i[2]}); });
          })
          .also_for({{0, 7}})
          .rejects("unfold: size is 8, expected 1 to 7", [] { unfold(empty({7}), 0, 8, 1); })
          .rejects("unfold: step is 0, expected 1 or more", [] { unfold(empty({7}), 0, 2, 0); }),
      OpSample("unfold", "overlapping")
          .in({5, 2})
          .calls([](const Tensor& x) { return unfold(x, 0, 3, 1); })
          .equals([](const Array& x) {
            return build({3, 2, 3}, [&](const Shape& i) { return x.at({i[0] + i[2], i[1]}); });
          }),
      OpSample("embed_slice")
          .in({2, 3})
          .calls([](const Tensor& x) {
            return embed_slice(x, {x.size(0), 7}, 1, {1, 6, 2});
          })
          .equals([](const Array& x) {
            return build({x.size(0), 7}, [&](const Shape& i) {
              return i[1] % 2 == 1 && i[1] < 6 ? x.at({i[0], i[1] / 2}) : 0.0;
            });
          })
          .also_for({{0, 3}})
          .rejects("embed_slice: x has shape [2, 2], expected [2, 3]",
                   [] {
                     embed_slice(empty({2, 2}), {2, 7}, 1, {1, 6, 2});
                   }),
      // A view of a view of a view: strides and offsets add up.
      OpSample("slice", "of a transposed slice")
          .in({6, 8})
          .calls([](const Tensor& x) {
            return slice(transpose(slice(x, 0, {1, 6, 2}), 0, 1), 0, {2, 8, 3});
          })
          .equals([](const Array& x) { return sliced(swapped(sliced(x, 0, 1, 2, 3)), 0, 2, 3, 2); }),
  };
}

}  // namespace

std::vector<OpSample> view_samples() {
  std::vector<OpSample> rows;
  for (const std::vector<OpSample>& part : {reshape_samples(), order_samples(), part_samples()}) {
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

}  // namespace deltatape::test

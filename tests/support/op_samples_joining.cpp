#include "ops/joining.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

// The arrays one after another along `dim`.
Array joined(const Arrays& arrays, int dim) {
  Shape shape = arrays.front().shape;
  shape[dim] = 0;
  for (const Array& array : arrays) {
    shape[dim] += array.shape[dim];
  }
  return build(shape, [&](Shape index) {
    for (const Array& array : arrays) {
      if (index[dim] < array.shape[dim]) {
        return array.at(index);
      }
      index[dim] -= array.shape[dim];
    }
    return 0.0;
  });
}

Array piece(const Array& x, int dim, int64_t start, int64_t size) {
  Shape shape = x.shape;
  shape[dim] = size;
  return build(shape, [&](Shape index) {
    index[dim] += start;
    return x.at(index);
  });
}

Array without(const Array& x, int dim) {
  Shape shape = x.shape;
  shape.erase(dim);
  return with_shape(x, shape);
}

Array with_new(const Array& x, int dim) {
  Shape shape = x.shape;
  shape.insert(dim, 1);
  return with_shape(x, shape);
}

}  // namespace

std::vector<OpSample> joining_samples() {
  return {
      OpSample("cat")
          .in({2, 3, 2})
          .in({2, 1, 2})
          .in({2, 4, 2})
          .calls([](const Tensors& x) { return cat(x, 1); })
          .equals([](const Arrays& x) { return joined(x, 1); })
          .also_for({{2, 0, 2}, {2, 3, 2}, {2, 0, 2}})
          .also_for({{0, 1, 2}, {0, 3, 2}, {0, 2, 2}})
          .rejects("cat: tensors is empty, expected at least one", [] { cat({}, 0); })
          .rejects("cat: tensors[1] is undefined, expected a tensor",
                   [] {
                     cat({empty({2}), Tensor()}, 0);
                   })
          .rejects("cat: tensors[1] has shape [2, 4], expected [2, 3] but for dimension 0",
                   [] {
                     cat({empty({2, 3}), empty({2, 4})}, 0);
                   })
          .rejects("cat: tensors[1] has dtype f64, expected f32",
                   [] {
                     cat({empty({2}), empty({2}, DType::f64)}, 0);
                   }),
      OpSample("cat", "last dimension")
          .in({3, 2})
          .in({3, 5})
          .calls([](const Tensors& x) { return cat(x, -1); })
          .equals([](const Arrays& x) { return joined(x, 1); }),
      OpSample("cat", "one tensor twice")
          .in({3, 2})
          .calls([](const Tensor& x) {
            return cat({x, x}, 0);
          })
          .equals([](const Array& x) {
            return joined({x, x}, 0);
          }),
      OpSample("stack")
          .in({2, 3})
          .in({2, 3})
          .calls([](const Tensors& x) { return stack(x, -1); })
          .equals([](const Arrays& x) {
            return joined({with_new(x[0], 2), with_new(x[1], 2)}, 2);
          })
          .also_for({{0, 3}, {0, 3}})
          .rejects("stack: tensors is empty, expected at least one", [] { stack({}, 0); })
          .rejects("stack: tensors[1] has shape [3], expected [2]",
                   [] {
                     stack({empty({2}), empty({3})}, 0);
                   }),
      OpSample("stack", "first")
          .in({2, 3})
          .in({2, 3})
          .calls([](const Tensors& x) { return stack(x, 0); })
          .equals([](const Arrays& x) {
            return joined({with_new(x[0], 0), with_new(x[1], 0)}, 0);
          }),
      OpSample("split")
          .in({2, 6})
          .calls([](const Tensor& x) {
            return split(x, std::vector<int64_t>{1, 0, 5}, 1);
          })
          .equals([](const Array& x) {
            return Arrays{piece(x, 1, 0, 1), piece(x, 1, 1, 0), piece(x, 1, 1, 5)};
          })
          .also_for({{0, 6}})
          .rejects("split: x is undefined, expected a tensor", [] { split(Tensor(), int64_t{1}, 0); })
          .rejects("split: sizes add up to 5, expected 6, the size of dimension 1",
                   [] {
                     split(empty({2, 6}), std::vector<int64_t>{2, 3}, 1);
                   })
          .rejects("split: size is 0, expected 1 or more",
                   [] {
                     split(empty({2, 6}), int64_t{0}, 1);
                   }),
      OpSample("split", "by size")
          .in({5, 2})
          .calls([](const Tensor& x) { return split(x, int64_t{2}, 0); })
          .equals([](const Array& x) {
            return Arrays{piece(x, 0, 0, 2), piece(x, 0, 2, 2), piece(x, 0, 4, 1)};
          }),
      // The pieces that nobody uses get no gradient, and the tape must stand it.
      OpSample("split", "one piece used")
          .in({5, 2})
          .calls([](const Tensor& x) { return split(x, int64_t{2}, 0).at(1); })
          .equals([](const Array& x) { return piece(x, 0, 2, 2); }),
      OpSample("unbind")
          .in({2, 3})
          .calls([](const Tensor& x) { return unbind(x, 1); })
          .equals([](const Array& x) {
            return Arrays{without(piece(x, 1, 0, 1), 1), without(piece(x, 1, 1, 1), 1), without(piece(x, 1, 2, 1), 1)};
          })
          .also_for({{0, 3}})
          .rejects("unbind: dim is 2, expected -2 to 1 for a tensor of rank 2",
                   [] {
                     unbind(empty({2, 3}), 2);
                   }),
  };
}

}  // namespace deltatape::test

#include "tests/gpu/kernel_cases.h"

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/random_tensors.h"
#include "tests/support/reference.h"

namespace deltatape::test {
namespace {

// Around packs, warps, what one warp is given (128 packs: 256 f64, 512 f32, 1024 f16), blocks and pieces.
constexpr std::array<int64_t, 9> kLengths{1, 31, 32, 33, 256, 513, 1000, 1025, 3001};
constexpr int64_t kLong = 100'000;
constexpr double kEps = 0.1;  // large, so that the gradient of a row of one element is not all cancellation

std::string name_of(const std::string& kernel, const Shape& shape) { return kernel + " " + to_string(shape); }

/// Seeds differ from tensor to tensor.
Tensors draw(const std::vector<Shape>& shapes, DType dtype, double low = -1.0, double high = 1.0) {
  Tensors tensors;
  for (const Shape& shape : shapes) {
    tensors.push_back(random_tensor(shape, 100 + tensors.size(), dtype, low, high));
  }
  return tensors;
}

/// Multiples of 1/1024: sums of them are exact in f64, so that the order does not matter.
Tensor coarse(const Shape& shape, DType dtype) {
  Array numbers = random_array(shape, 5, -1.0, 1.0);
  for (double& number : numbers.data) {
    number = static_cast<double>(static_cast<int64_t>(number * 1024.0)) / 1024.0;
  }
  return to_tensor(numbers, dtype);
}

/// Small whole numbers: equal elements occur, and sums are exact in every dtype.
Tensor whole(const Shape& shape, DType dtype, uint64_t seed = 7) {
  Array numbers = random_array(shape, seed, -3.0, 4.0);
  for (double& number : numbers.data) {
    number = static_cast<double>(static_cast<int64_t>(number + 100.0) - 100);
  }
  return to_tensor(numbers, dtype);
}

Shape kept(const Shape& shape, const std::vector<int>& dims) {
  Shape result = shape;
  for (const int dim : dims) {
    result[dim] = 1;
  }
  return result;
}

}  // namespace

Tensor like(const Tensor& x, const Shape& shape) { return empty(shape, x.options()); }
Tensor like(const Tensor& x, const Shape& shape, DType dtype) { return empty(shape, dtype, x.device()); }
DType computed(const Tensor& x) { return x.dtype() == DType::f64 ? DType::f64 : DType::f32; }

Tensor spread(const Tensor& x) {
  Strides strides = x.strides();
  int64_t extent = 1;
  int64_t stride = 2;
  for (int dim = x.rank() - 1; dim >= 0; --dim) {
    strides[dim] = stride;
    extent += (x.shape()[dim] - 1) * stride;
    stride = stride * x.shape()[dim] + 1;
  }
  const Tensor memory = to_tensor(filled({extent + 1}, 77.0), x.dtype());
  const Tensor view = memory.as_view(x.shape(), strides, 1);
  backend_of(x).copy(x, view);
  return view;
}

std::vector<KernelCase> reduction_cases() {
  std::vector<KernelCase> cases;
  const auto add = [&](ReduceKind kind, const std::string& name, const Shape& shape, const std::vector<int>& dims,
                       bool spread_out = false) {
    const bool product = kind == ReduceKind::prod;
    cases.push_back({name_of(name, shape) + (spread_out ? " spread" : ""),
                     [=](DType dtype) {
                       // Factors near 1, so that a product of many stays in range.
                       const Tensor x = draw({shape}, dtype, product ? 0.9 : -1.0, product ? 1.125 : 1.0)[0];
                       return Tensors{spread_out ? spread(x) : x};
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], kept(shape, dims));
                       backend.reduce(kind, in[0], out);
                       return Tensors{out};
                     }});
  };
  const auto add_all = [&](const Shape& shape, const std::vector<int>& dims, bool spread_out = false) {
    const std::string where = dims.size() == 1 ? " of dim " + std::to_string(dims[0]) : " of several";
    add(ReduceKind::sum, "sum" + where, shape, dims, spread_out);
    add(ReduceKind::max, "max" + where, shape, dims, spread_out);
  };
  for (const int64_t n : kLengths) {
    add_all({5, n}, {1});
    add_all({n, 5}, {0});
    add_all({n, 37}, {0});
  }
  add_all({kLong}, {0});
  add_all({2, kLong}, {1});
  add_all({kLong, 3}, {0});
  add_all({20'000, 17}, {0});
  add_all({3000, 33}, {1});
  add_all({2, 300, 65}, {1});
  add_all({2, 300, 5}, {1});
  add_all({2, 3, 4, 5, 6}, {0, 2, 4});
  add_all({2, 3, 4, 5, 6}, {1, 2});
  add_all({7, 33, 40}, {0, 2});
  add_all({7, 33, 40}, {1}, true);
  add_all({7, 33, 40}, {2}, true);
  add_all({7, 33, 40}, {0, 1, 2}, true);
  add(ReduceKind::min, "min", {5, 1000}, {1});
  add(ReduceKind::prod, "prod", {3, 33}, {1});
  add(ReduceKind::prod, "prod", {33, 40}, {0});

  const auto add_integers = [&](ReduceKind kind, const std::string& name, DType from, DType to) {
    cases.push_back({name + " of " + std::string(to_string(from)),
                     [=](DType) {
                       return Tensors{to_tensor(to_array(whole({40, 300}, DType::f64)), from)};
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], {40, 1}, to);
                       backend.reduce(kind, in[0], out);
                       return Tensors{out};
                     },
                     0,
                     {DType::f64}});
  };
  add_integers(ReduceKind::sum, "sum", DType::i64, DType::i64);
  add_integers(ReduceKind::max, "max", DType::i64, DType::i64);
  add_integers(ReduceKind::min, "min", DType::i32, DType::i32);
  add_integers(ReduceKind::prod, "prod", DType::i32, DType::i32);
  add_integers(ReduceKind::max, "max", DType::boolean, DType::boolean);

  const auto add_place = [&](const Shape& shape, int dim, bool largest) {
    cases.push_back({name_of("arg_reduce of dim " + std::to_string(dim), shape),
                     [=](DType dtype) { return Tensors{whole(shape, dtype)}; },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], kept(shape, {dim}), DType::i64);
                       backend.arg_reduce(largest, in[0], dim, out);
                       return Tensors{out};
                     },
                     0,
                     {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i64, DType::i32}});
  };
  for (const int64_t n : kLengths) {
    add_place({4, n}, 1, true);
    add_place({n, 40}, 0, false);
  }
  add_place({kLong}, 0, true);
  add_place({50'000, 3}, 0, true);
  add_place({6, 700, 5}, 1, false);

  const auto add_scan = [&](const Shape& shape, int dim, bool reverse) {
    cases.push_back({name_of(std::string("cumsum ") + (reverse ? "from the end " : "") + std::to_string(dim), shape),
                     [=](DType dtype) { return Tensors{coarse(shape, dtype)}; },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], shape);
                       backend.cumsum(in[0], dim, reverse, out);
                       return Tensors{out};
                     },
                     1});
  };
  for (const int64_t n : kLengths) {
    add_scan({3, n}, 1, false);
    add_scan({3, n}, 1, true);
    add_scan({n, 5}, 0, n % 2 == 0);
  }
  add_scan({kLong}, 0, false);
  add_scan({kLong}, 0, true);
  add_scan({2, 40, 500}, 1, true);
  add_scan({200, 20'000}, 0, false);

  for (const bool reverse : {false, true}) {
    cases.push_back({std::string("chunk_cumsum") + (reverse ? " from the ends" : ""),
                     [](DType dtype) {
                       return draw({{2, 150, 3, 5}}, dtype);
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor starts = from_vector<int64_t>({0, 1, 33, 97, 97, 150});  // stays on the host
                       const Tensor out = like(in[0], in[0].shape());
                       backend.chunk_cumsum(in[0], starts, reverse, out);
                       return Tensors{out};
                     },
                     1,
                     {DType::f32, DType::f64}});
  }
  return cases;
}

std::vector<KernelCase> row_cases() {
  std::vector<KernelCase> cases;
  std::vector<Shape> shapes;
  for (const int64_t n : kLengths) {
    shapes.push_back({5, n});
  }
  // Long rows; and many, of which a block of the norm's gradient has several.
  shapes.insert(shapes.end(), {{1, kLong}, {2100, 530}, {17'000, 8}, {3, 5, 130}});
  for (const Shape& shape : shapes) {
    const int64_t n = shape.back();
    const bool large = shape.numel() > 50'000;
    const bool several = shape[0] > 2000 && n > 500;  // only for the norms
    const Shape per_row = kept(shape, {shape.rank() - 1});
    const int64_t rows = per_row.numel();
    for (const bool log : several ? std::vector<bool>{} : std::vector<bool>{false, true}) {
      const std::string prefix = log ? "log_" : "";
      cases.push_back({name_of(prefix + "softmax", shape), [=](DType dtype) { return draw({shape}, dtype, -8.0, 8.0); },
                       [=](const Backend& backend, const Tensors& in) {
                         const Tensor out = like(in[0], shape);
                         backend.softmax(in[0], log, out);
                         return Tensors{out};
                       },
                       8});
      cases.push_back({name_of(prefix + "softmax_backward", shape),
                       [=](DType dtype) {
                         return Tensors{draw({shape}, dtype, log ? -8.0 : 0.0, log ? 0.0 : 0.1)[0],
                                        random_tensor(shape, 200, dtype)};
                       },
                       [=](const Backend& backend, const Tensors& in) {
                         const Tensor out = like(in[0], shape);
                         backend.softmax_backward(in[0], in[1], log, out);
                         return Tensors{out};
                       },
                       16});
    }
    if (!several) {
      cases.push_back({name_of("cross_entropy", shape),
                       [=](DType dtype) {
                         return Tensors{draw({{rows, n}}, dtype, -8.0, 8.0)[0], random_indices({rows}, 3, n)};
                       },
                       [=](const Backend& backend, const Tensors& in) {
                         const auto result = [&] { return like(in[0], {rows}, computed(in[0])); };
                         const Tensors out{result(), result(), result()};
                         backend.cross_entropy(in[0], in[1], out[0], out[1], out[2]);
                         return out;
                       },
                       16});
      cases.push_back({name_of("cross_entropy_backward", shape),
                       [=](DType dtype) {
                         // weight: some are 0
                         return Tensors{draw({{rows, n}}, dtype, -8.0, 8.0)[0], random_indices({rows}, 3, n),
                                        whole({rows}, dtype == DType::f64 ? dtype : DType::f32)};
                       },
                       [=](const Backend& backend, const Tensors& in) {
                         const auto result = [&] { return like(in[0], {rows}, computed(in[0])); };
                         const Tensors parts{result(), result(), result()};
                         backend.cross_entropy(in[0], in[1], parts[0], parts[1], parts[2]);
                         const Tensor out = like(in[0], {rows, n});
                         backend.cross_entropy_backward(in[0], in[1], parts[1], parts[2], in[2], out);
                         return Tensors{out};
                       },
                       16});
    }
    for (const int gated : large ? std::vector<int>{1} : std::vector<int>{0, 1, 2}) {
      const std::string prefix = gated == 0 ? "" : gated == 1 ? "gated_" : "silu_gated_";
      const bool bare = gated == 0 && n % 2 == 0;  // without a weight
      const auto forward = [=](const Backend& backend, const Tensors& in, const Tensor& out, const Tensor& rstd) {
        if (gated == 0) {
          backend.rms_norm(in[0], bare ? Tensor() : in[1], kEps, bare, out, rstd);
        } else {
          backend.gated_rms_norm(in[0], in[1], in[2], gated == 2, kEps, out, rstd);
        }
      };
      cases.push_back({name_of(prefix + "rms_norm", shape),
                       [=](DType dtype) {
                         return draw({shape, {n}, shape}, dtype, -2.0, 2.0);
                       },
                       [=](const Backend& backend, const Tensors& in) {
                         const Tensors out{like(in[0], shape), like(in[0], per_row, computed(in[0]))};
                         forward(backend, in, out[0], out[1]);
                         return out;
                       },
                       8});
      cases.push_back(
          {name_of(prefix + "rms_norm_backward", shape),
           [=](DType dtype) {
             return draw({shape, {n}, shape, shape}, dtype, -2.0, 2.0);
           },
           [=](const Backend& backend, const Tensors& in) {
             const Tensor y = like(in[0], shape);
             const Tensor rstd = like(in[0], per_row, computed(in[0]));
             forward(backend, in, y, rstd);
             Tensors out{like(in[0], shape)};
             const Tensor dweight = bare ? Tensor() : like(in[0], {n});
             if (gated == 0) {
               backend.rms_norm_backward(in[0], bare ? Tensor() : in[1], rstd, in[3], bare, out[0], dweight);
             } else {
               out.push_back(like(in[0], shape));
               backend.gated_rms_norm_backward(in[0], in[1], in[2], gated == 2, rstd, in[3], out[0], dweight, out[1]);
             }
             if (!bare) {
               out.push_back(dweight);
             }
             return out;
           },
           32});
    }
    cases.push_back({name_of("swiglu", shape),
                     [=](DType dtype) {
                       return draw({shape, shape}, dtype, -4.0, 4.0);
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], shape);
                       backend.swiglu(in[0], in[1], out);
                       return Tensors{out};
                     },
                     8});
    cases.push_back({name_of("swiglu_backward", shape),
                     [=](DType dtype) {
                       return draw({shape, shape, shape}, dtype, -4.0, 4.0);
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensors out{like(in[0], shape), like(in[0], shape)};
                       backend.swiglu_backward(in[0], in[1], in[2], out[0], out[1]);
                       return out;
                     },
                     16});
  }
  // Lines with gaps.
  cases.push_back({"softmax of a spread tensor",
                   [](DType dtype) {
                     return Tensors{spread(draw({{3, 7, 70}}, dtype, -8.0, 8.0)[0])};
                   },
                   [](const Backend& backend, const Tensors& in) {
                     const Tensor out = like(in[0], in[0].shape());
                     backend.softmax(in[0], false, out);
                     return Tensors{out};
                   },
                   8});
  cases.push_back({"rms_norm of a spread tensor",
                   [](DType dtype) {
                     const Tensors in = draw({{3, 7, 70}, {70}}, dtype, -2.0, 2.0);
                     return Tensors{spread(in[0]), spread(in[1])};
                   },
                   [](const Backend& backend, const Tensors& in) {
                     const Tensors out{like(in[0], in[0].shape()), like(in[0], {3, 7, 1}, computed(in[0]))};
                     backend.rms_norm(in[0], in[1], kEps, false, out[0], out[1]);
                     return out;
                   },
                   8});
  cases.push_back({"swiglu of halves of rows",
                   [](DType dtype) {
                     return draw({{6, 5, 80}}, dtype, -4.0, 4.0);
                   },
                   [](const Backend& backend, const Tensors& in) {
                     const auto half = [&](int64_t first) {
                       return in[0].as_view({6, 5, 40}, {400, 80, 1}, in[0].offset() + first);
                     };
                     const Tensor out = like(in[0], {6, 5, 40});
                     backend.swiglu(half(0), half(40), out);
                     return Tensors{out};
                   },
                   8});

  const auto starts_of = [](int64_t batch, int64_t time) {
    std::vector<int64_t> starts(static_cast<size_t>(batch * time));
    for (size_t i = 0; i < starts.size(); ++i) {
      const auto t = static_cast<int64_t>(i) % time;
      starts[i] = t < 2 ? 0 : t < 5 ? 2 : t < 70 ? 5 : 70;
    }
    return from_vector(starts, {batch, time});
  };
  for (const int64_t width : {1, 3, 4}) {
    for (const Shape& shape : {Shape{2, 9, 1}, Shape{2, 100, 33}, Shape{1, 64, 40}, Shape{3, 129, 8}}) {
      for (const bool segments : {false, true}) {
        const std::string name =
            name_of("causal_conv1d", shape) + " W=" + std::to_string(width) + (segments ? " segments" : "");
        const auto inputs = [=](DType dtype) {
          Tensors in = draw({shape, {shape[2], width}, {shape[2]}, shape}, dtype);
          in.push_back(starts_of(shape[0], shape[1]));
          return in;
        };
        cases.push_back({name, inputs,
                         [=](const Backend& backend, const Tensors& in) {
                           const Tensor out = like(in[0], shape);
                           backend.causal_conv1d(in[0], in[1], segments ? in[2] : Tensor(), segments ? in[4] : Tensor(),
                                                 out);
                           return Tensors{out};
                         },
                         8});
        cases.push_back({name + " backward", inputs,
                         [=](const Backend& backend, const Tensors& in) {
                           const Tensors out{like(in[0], shape), like(in[1], in[1].shape())};
                           backend.causal_conv1d_backward(in[0], in[1], segments ? in[4] : Tensor(), in[3], out[0],
                                                          out[1]);
                           return out;
                         },
                         16});
      }
    }
  }
  for (const auto gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    for (const Shape& shape : {Shape{1, 1, 1, 1}, Shape{2, 70, 3, 33}, Shape{1, 300, 2, 64}}) {
      const std::string name =
          name_of(gate == kda::Gate::standard ? "kda_gate standard" : "kda_gate lower_bound", shape);
      const auto inputs = [=](DType dtype) {
        return draw({shape, {shape[2]}, {shape[2] * shape[3]}, shape}, dtype, -2.0, 2.0);
      };
      cases.push_back({name, inputs,
                       [=](const Backend& backend, const Tensors& in) {
                         const Tensor out = like(in[0], shape);
                         backend.kda_gate(gate, -5.0, in[0], in[1], in[2], out);
                         return Tensors{out};
                       },
                       8});
      cases.push_back({name + " backward", inputs,
                       [=](const Backend& backend, const Tensors& in) {
                         const Tensors out{like(in[0], shape), like(in[1], in[1].shape()), like(in[2], in[2].shape())};
                         backend.kda_gate_backward(gate, -5.0, in[3], in[0], in[1], in[2], out[0], out[1], out[2]);
                         return out;
                       },
                       32});
    }
  }
  return cases;
}

std::vector<KernelCase> indexing_cases() {
  const std::vector<DType> every{DType::f32, DType::f64, DType::bf16,   DType::f16,
                                 DType::i64, DType::i32, DType::boolean};
  std::vector<KernelCase> cases;
  struct Sizes {
    Shape x;
    int dim;
    int64_t count;  // of indices along dim
  };
  for (const Sizes& s : std::vector<Sizes>{{{50, 64}, 0, 300},
                                           {{50, 33}, 0, 1000},
                                           {{3, 7, 5}, 1, 200},
                                           {{3, 40}, 1, 1},
                                           {{3, 40}, 1, 130},
                                           {{9}, 0, 3000},
                                           {{2, 6, 16}, 1, 31}}) {
    Shape picked = s.x;
    picked[s.dim] = s.count;
    const std::string name = to_string(s.x) + " along " + std::to_string(s.dim) + ", " + std::to_string(s.count);
    const auto inputs = [=](DType dtype) {
      return Tensors{whole(s.x, dtype), random_indices(picked, 5, s.x[s.dim]), whole(picked, dtype, 9),
                     random_indices({s.count}, 6, s.x[s.dim], DType::i32)};
    };
    cases.push_back({"gather " + name, inputs,
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], picked);
                       backend.gather(in[0], s.dim, in[1], out);
                       return Tensors{out};
                     },
                     0, every});
    cases.push_back({"index_select " + name, inputs,
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], picked);
                       backend.index_select(in[0], s.dim, in[3], out);
                       return Tensors{out};
                     },
                     0, every});
    // Whole numbers: sums are exact in f32 and f64, whatever the order.
    cases.push_back({"scatter_add " + name, inputs,
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], s.x);
                       backend.copy(in[0], out);
                       backend.scatter_add(in[2], s.dim, in[1], out);
                       return Tensors{out};
                     },
                     1, every});
    cases.push_back({"index_add " + name, inputs,
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], s.x);
                       backend.copy(in[0], out);
                       backend.index_add(in[2], s.dim, in[3], out);
                       return Tensors{out};
                     },
                     1, every});
  }
  struct Best {
    Shape x;
    int64_t k;
  };
  for (const Best& b : std::vector<Best>{
           {{5, 1}, 1}, {{5, 33}, 33}, {{3, 1000}, 7}, {{2, 5000}, 1024}, {{2, 1500}, 1025}, {{3, 4, 300}, 256}}) {
    cases.push_back({name_of("topk " + std::to_string(b.k), b.x),
                     [=](DType dtype) { return Tensors{whole(b.x, dtype)}; },
                     [=](const Backend& backend, const Tensors& in) {
                       Shape shape = b.x;
                       shape[shape.rank() - 1] = b.k;
                       const Tensors out{like(in[0], shape), like(in[0], shape, DType::i64)};
                       backend.topk(in[0], b.k, out[0], out[1]);
                       return out;
                     },
                     0, every});
  }
  for (const bool lower : {true, false}) {
    cases.push_back({std::string("triangle ") + (lower ? "lower" : "upper"),
                     [](DType dtype) {
                       return Tensors{whole({3, 33, 40}, dtype)};
                     },
                     [=](const Backend& backend, const Tensors& in) {
                       const Tensor out = like(in[0], in[0].shape());
                       backend.triangle(in[0], lower, -2, out);
                       return Tensors{out};
                     },
                     0, every});
    for (const bool unit : {true, false}) {
      for (const Shape& shape : {Shape{2, 1, 1}, Shape{3, 33, 40}, Shape{2, 64, 32}, Shape{2, 150, 33}}) {
        cases.push_back(
            {name_of(std::string("solve_triangular ") + (lower ? "lower" : "upper") + (unit ? " unit" : ""), shape),
             [=](DType dtype) {
               Array a = random_array({shape[0], shape[1], shape[1]}, 11, -0.05, 0.05);
               for (int64_t entry = 0; entry < shape[0]; ++entry) {
                 for (int64_t i = 0; i < shape[1]; ++i) {
                   a.at({entry, i, i}) = 2.0 + 0.01 * static_cast<double>(i);
                 }
               }
               return Tensors{to_tensor(a, dtype), draw({shape}, dtype)[0]};
             },
             [=](const Backend& backend, const Tensors& in) {
               const Tensor out = like(in[0], shape);
               backend.solve_triangular(in[0], in[1], lower, unit, out);
               return Tensors{out};
             },
             32});
      }
    }
  }
  return cases;
}

std::vector<KernelCase> training_cases() {
  std::vector<KernelCase> cases;
  // More tensors than one launch takes, one of them empty, one longer than a block's part.
  const auto shapes = [] {
    std::vector<Shape> list{{0}, {1}, {9000}, {33, 40}};
    for (int64_t i = 0; i < 60; ++i) {
      list.push_back({i % 7 + 1, 5});
    }
    return list;
  };
  cases.push_back({"sum_of_squares", [=](DType dtype) { return draw(shapes(), dtype); },
                   [](const Backend& backend, const Tensors& in) {
                     const Tensor out = like(in[0], {}, DType::f64);
                     backend.sum_of_squares(in, out);
                     return Tensors{out};
                   },
                   64});
  cases.push_back({"sum_of_squares of nothing", [](DType dtype) { return draw({{0}}, dtype); },
                   [](const Backend& backend, const Tensors& in) {
                     const Tensor out = like(in[0], {}, DType::f64);
                     backend.sum_of_squares(in, out);
                     return Tensors{out};
                   }});
  cases.push_back({"scale", [=](DType dtype) { return draw(shapes(), dtype); },
                   [](const Backend& backend, const Tensors& in) {
                     Tensors out;
                     for (const Tensor& x : in) {
                       out.push_back(like(x, x.shape()));
                       backend.copy(x, out.back());
                     }
                     backend.scale(out, 0.375);
                     return out;
                   },
                   1});
  cases.push_back(
      {"adamw",
       [=](DType dtype) {
         const DType moments = dtype == DType::f64 ? DType::f64 : DType::f32;
         Tensors in = draw(shapes(), dtype);
         for (const Shape& shape : shapes()) {
           in.push_back(random_tensor(shape, 500 + in.size(), dtype));
           in.push_back(random_tensor(shape, 500 + in.size(), moments));
           in.push_back(random_tensor(shape, 500 + in.size(), moments, 0.01, 1.0));
         }
         return in;
       },
       [=](const Backend& backend, const Tensors& in) {
         const size_t count = shapes().size();
         const auto copied = [&](const Tensor& x) {
           const Tensor copy = like(x, x.shape());
           backend.copy(x, copy);
           return copy;
         };
         std::vector<AdamWUpdate> updates;
         Tensors out;
         for (size_t i = 0; i < count; ++i) {
           const Tensor* rest = &in[count + 3 * i];
           updates.push_back({in[i], copied(rest[0]), copied(rest[1]), copied(rest[2]), i % 2 == 0 ? 1.0 : 0.99});
           out.insert(out.end(), {updates.back().parameter, updates.back().m, updates.back().v});
         }
         backend.adamw(updates, {0.9, 0.95, 1e-8, 1e-2, 0.3});
         return out;
       },
       8});
  return cases;
}

std::vector<KernelCase> kernel_cases() {
  std::vector<KernelCase> all;
  for (auto& family : {reduction_cases(), row_cases(), indexing_cases(), training_cases()}) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

}  // namespace deltatape::test

#include <cmath>

#include "ops/norm.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

constexpr double kEps = 0.01;  // large enough to be seen

Array rms_normed(const Array& x) {
  return along(x, -1, [](std::vector<double> line) {
    double squares = 0.0;
    for (const double v : line) {
      squares += v * v;
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(line.size()) + kEps);
    for (double& v : line) {
      v *= scale;
    }
    return line;
  });
}

Array layer_normed(const Array& x) {
  return along(x, -1, [](std::vector<double> line) {
    const double mean = average(line);
    double squares = 0.0;
    for (const double v : line) {
      squares += (v - mean) * (v - mean);
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(line.size()) + kEps);
    for (double& v : line) {
      v = (v - mean) * scale;
    }
    return line;
  });
}

Array unit_length(const Array& x) {
  return along(x, -1, [](std::vector<double> line) {
    double squares = 0.0;
    for (const double v : line) {
      squares += v * v;
    }
    for (double& v : line) {
      v /= std::sqrt(squares + kEps);
    }
    return line;
  });
}

Array times(const Array& a, const Array& b) {
  return zip(a, b, [](double x, double y) { return x * y; });
}
Array plus(const Array& a, const Array& b) {
  return zip(a, b, [](double x, double y) { return x + y; });
}

Array sigmoids(const Array& x) {
  return map(x, [](double v) { return 1 / (1 + std::exp(-v)); });
}

Tensor gated(const Tensor& x, const Tensor& weight, const Tensor& gate) {
  return gated_rms_norm(x, weight, gate, GateActivation::sigmoid, kEps);
}

// What all three refuse.
OpSample& refuse(OpSample& row, const std::function<Tensor(const Tensor&, double)>& f) {
  return row.rejects(row.op + ": x is undefined, expected a tensor", [f] { f(Tensor(), kEps); })
      .rejects(row.op + ": x has dtype i64, expected a floating-point dtype",
               [f] {
                 f(empty({2, 3}, DType::i64), kEps);
               })
      .rejects(row.op + ": x has shape [], expected rank 1 or more, [.., D]", [f] { f(empty({}), kEps); })
      .rejects(row.op + ": eps is 0, expected a number above 0", [f] {
        f(empty({2, 3}), 0.0);
      });
}

OpSample with_units(OpSample row) { return row.units(32, 4, 16); }

}  // namespace

std::vector<OpSample> norm_samples() {
  OpSample rms("rms_norm", "no weight");
  rms.in({3, 7}).calls([](const Tensor& x) { return rms_norm(x, Tensor(), kEps); }).equals(rms_normed);
  refuse(rms, [](const Tensor& x, double eps) { return rms_norm(x, Tensor(), eps); }).also_for({{0, 7}});
  OpSample layer("layer_norm", "no weight, no bias");
  layer.in({3, 7}).calls([](const Tensor& x) { return layer_norm(x, Tensor(), Tensor(), kEps); }).equals(layer_normed);
  refuse(layer, [](const Tensor& x, double eps) { return layer_norm(x, Tensor(), Tensor(), eps); }).also_for({{0, 7}});
  OpSample l2("l2_normalize");
  l2.in({3, 2, 5}).calls([](const Tensor& x) { return l2_normalize(x, kEps); }).equals(unit_length);
  refuse(l2, [](const Tensor& x, double eps) { return l2_normalize(x, eps); })
      .also_for({{0, 2, 5}})
      .also_for({{40, 30, 70}});
  return {
      with_units(rms),
      with_units(OpSample("rms_norm")
                     .in({2, 3, 5})
                     .in({5})
                     .calls([](const Tensor& x, const Tensor& weight) { return rms_norm(x, weight, kEps); })
                     .equals([](const Array& x, const Array& weight) { return times(rms_normed(x), weight); })
                     .also_for({{0, 3, 5}, {5}})
                     .also_for({{40, 30, 70}, {70}})
                     .rejects("rms_norm: weight has shape [2], expected [D] = [3]",
                              [] {
                                rms_norm(empty({2, 3}), empty({2}));
                              })
                     .rejects("rms_norm: weight has dtype f64, expected f32",
                              [] {
                                rms_norm(empty({2, 3}), empty({3}, DType::f64));
                              })),
      with_units(OpSample("gated_rms_norm")
                     .in({2, 3, 5})
                     .in({5})
                     .in({2, 3, 5})
                     .calls(gated)
                     .equals([](const Array& x, const Array& weight, const Array& gate) {
                       return times(times(rms_normed(x), weight), sigmoids(gate));
                     })
                     .also_for({{0, 3, 5}, {5}, {0, 3, 5}})
                     .also_for({{40, 30, 70}, {70}, {40, 30, 70}})
                     .rejects("gated_rms_norm: x is undefined, expected a tensor",
                              [] {
                                gated(Tensor(), Tensor(), empty({2, 3}));
                              })
                     .rejects("gated_rms_norm: x has dtype i64, expected a floating-point dtype",
                              [] {
                                gated(empty({2, 3}, DType::i64), Tensor(), empty({2, 3}));
                              })
                     .rejects("gated_rms_norm: weight has shape [2], expected [D] = [3]",
                              [] {
                                gated(empty({2, 3}), empty({2}), empty({2, 3}));
                              })
                     .rejects("gated_rms_norm: gate is undefined, expected a tensor",
                              [] {
                                gated(empty({2, 3}), Tensor(), Tensor());
                              })
                     .rejects("gated_rms_norm: gate has dtype f64, expected f32",
                              [] {
                                gated(empty({2, 3}), Tensor(), empty({2, 3}, DType::f64));
                              })
                     .rejects("gated_rms_norm: gate has shape [3], expected x's shape = [2, 3]",
                              [] {
                                gated(empty({2, 3}), Tensor(), empty({3}));
                              })),
      with_units(OpSample("gated_rms_norm", "swish, no weight")
                     .in({3, 7})
                     .in({3, 7})
                     .calls([](const Tensor& x, const Tensor& gate) {
                       return gated_rms_norm(x, Tensor(), gate, GateActivation::swish, kEps);
                     })
                     .equals([](const Array& x, const Array& gate) {
                       return times(rms_normed(x), times(gate, sigmoids(gate)));
                     })),
      with_units(layer),
      with_units(OpSample("layer_norm")
                     .in({2, 3, 5})
                     .in({5})
                     .in({5})
                     .calls([](const Tensor& x, const Tensor& weight, const Tensor& bias) {
                       return layer_norm(x, weight, bias, kEps);
                     })
                     .equals([](const Array& x, const Array& weight, const Array& bias) {
                       return plus(times(layer_normed(x), weight), bias);
                     })
                     .also_for({{0, 3, 5}, {5}, {5}})
                     .also_for({{40, 30, 70}, {70}, {70}})
                     .rejects("layer_norm: bias has shape [2], expected [D] = [3]",
                              [] {
                                layer_norm(empty({2, 3}), Tensor(), empty({2}));
                              })),
      with_units(OpSample("layer_norm", "bias alone")
                     .in({3, 5})
                     .in({5})
                     .calls([](const Tensor& x, const Tensor& bias) { return layer_norm(x, Tensor(), bias, kEps); })
                     .equals([](const Array& x, const Array& bias) { return plus(layer_normed(x), bias); })),
      with_units(l2),
  };
}

}  // namespace deltatape::test

#include "nn/module.h"

#include <doctest/doctest.h>

#include <cmath>

#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/short_convolution.h"
#include "ops/convert.h"
#include "ops/convolution.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/joining.h"
#include "ops/random.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

class Pair : public nn::Module {
 public:
  explicit Pair(Generator& generator) : Module("Pair"), first(2, 3, generator), second(3, 1, generator, false) {
    register_parameter("gain", gain);
    register_buffer("count", count);
    register_module("first", first);
    register_module("inner.second", second);
  }
  Tensor gain = ones({1});
  Tensor count = zeros({1}, {DType::i64, Device::cpu()});
  nn::Linear first;
  nn::Linear second;
};

std::vector<std::string> names_of(const nn::NamedTensors& named) {
  std::vector<std::string> names;
  for (const auto& entry : named) {
    names.push_back(entry.first);
  }
  return names;
}

TEST_CASE("Module: names follow the registration, parameters are leaves that want gradients") {
  Generator generator(1);
  const Pair pair(generator);
  CHECK(names_of(pair.named_parameters()) ==
        std::vector<std::string>{"gain", "first.weight", "first.bias", "inner.second.weight"});
  CHECK(names_of(pair.named_buffers()) == std::vector<std::string>{"count"});
  CHECK(pair.num_parameters() == 1 + 6 + 3 + 3);
  for (const Tensor& parameter : pair.parameters()) {
    CHECK(parameter.requires_grad());
    CHECK(parameter.is_leaf());
  }
  CHECK(pair.state_dict().size() == 5);
  CHECK_FALSE(pair.state_dict().at("gain").requires_grad());
}

TEST_CASE("Module: a name is registered once") {
  class Twice : public nn::Module {
   public:
    Twice() : Module("Twice") {
      register_parameter("x", a);
      register_buffer("x", b);
    }
    Tensor a = ones({1});
    Tensor b = ones({1});
  };
  CHECK_ERROR(Twice(), "Twice: the name x is registered twice");
}

TEST_CASE("Module: names that could make one full name twice are refused") {
  class Named : public nn::Module {
   public:
    Named(const std::string& first, const std::string& second) : Module("Named"), inner(1) {
      register_module(first, inner);
      register_parameter(second, a);
    }
    nn::RMSNorm inner;
    Tensor a = ones({1});
  };
  CHECK_ERROR(Named("a", "a.weight"),
              "Named: the name a.weight is registered beside a, expected names of which none continues another");
  CHECK_ERROR(Named("a.b", "a"),
              "Named: the name a is registered beside a.b, expected names of which none continues another");
  CHECK_ERROR(Named("", "a"), "Named: a member is registered without a name");
  CHECK(Named("a.0", "a.1").state_dict().size() == 2);
}

TEST_CASE("Module: a tied parameter counts once and stays tied when converted") {
  class Tied : public nn::Module {
   public:
    Tied() : Module("Tied"), b(a) {
      register_parameter("a", a);
      register_parameter("b", b);
    }
    Tensor a = ones({3});
    Tensor b;
  };
  Tied tied;
  CHECK(names_of(tied.named_parameters()) == std::vector<std::string>{"a"});
  CHECK(tied.num_parameters() == 3);
  CHECK(tied.state_dict().size() == 2);
  tied.to(DType::f64);
  CHECK(tied.a.is_same(tied.b));
  CHECK(tied.a.dtype() == DType::f64);
  CHECK(tied.a.requires_grad());
}

TEST_CASE("Module::load_state_dict: copies values, converts dtypes, shares nothing") {
  Generator generator(1);
  Pair pair(generator);
  Pair other(generator);
  nn::StateDict state = pair.state_dict();
  state["gain"] = full({1}, 5.0, {DType::f64, Device::cpu()});
  other.load_state_dict(state);
  CHECK(other.gain.item() == 5.0);
  CHECK(other.gain.dtype() == DType::f32);
  CHECK(other.gain.requires_grad());
  CHECK(other.first.weight.to_vector<float>() == pair.first.weight.to_vector<float>());
  pair.to(DType::f64);
  other.load_state_dict(pair.state_dict());
  CHECK(other.gain.item() == 1.0);
}

TEST_CASE("Module::load_state_dict: names what is missing, unexpected and of another shape, and changes nothing") {
  Generator generator(1);
  Pair pair(generator);
  nn::StateDict state = pair.state_dict();
  state["gain"] = full({1}, 5.0);
  state["first.weight"] = zeros({2, 3});
  state["extra"] = zeros({1});
  state.erase("count");
  CHECK_ERROR(pair.load_state_dict(state),
              "Pair::load_state_dict: 1 missing: count; 1 unexpected: extra; first.weight has shape [2, 3], expected "
              "[3, 2]");
  CHECK(pair.gain.item() == 1.0);
  CHECK_ERROR(pair.load_state_dict(state, false),
              "Pair::load_state_dict: first.weight has shape [2, 3], expected [3, 2]");
  state.erase("first.weight");
  pair.load_state_dict(state, false);
  CHECK(pair.gain.item() == 5.0);
}

TEST_CASE("Module: train, eval and zero_grad reach every submodule") {
  Generator generator(1);
  Pair pair(generator);
  pair.eval();
  CHECK_FALSE(pair.second.training());
  pair.train();
  CHECK(pair.second.training());
  sum(pair.second.forward(pair.first.forward(ones({2, 2})))).backward();
  CHECK(pair.second.weight.grad().defined());
  pair.zero_grad();
  CHECK_FALSE(pair.second.weight.grad().defined());
  pair.to(DType::f64);
  CHECK(pair.second.weight.dtype() == DType::f64);
  CHECK(pair.second.weight.requires_grad());
  CHECK(pair.count.dtype() == DType::i64);
}

TEST_CASE("Linear: x weight' + bias, for any leading sizes") {
  Generator generator(1);
  nn::Linear linear(2, 3, generator);
  linear.load_state_dict({{"weight", from_vector(std::vector<float>{1, 2, 3, 4, 5, 6}, {3, 2})},
                          {"bias", from_vector(std::vector<float>{10, 20, 30})}});
  const Tensor x = from_vector(std::vector<float>{1, 1, 0, 2}, {2, 1, 2});
  const Tensor y = linear.forward(x);
  CHECK(y.shape() == Shape{2, 1, 3});
  CHECK(y.to_vector<double>() == std::vector<double>{13, 27, 41, 14, 28, 42});
  CHECK_ERROR(linear.forward(ones({2, 3})),
              "Linear: x has shape [2, 3], expected [.., in_features] with in_features = 2");
}

TEST_CASE("GatedRMSNorm: norm times activated gate; other activations are refused with the allowed names") {
  const Tensor x = from_vector(std::vector<double>{3, 4}, {1, 2});
  const Tensor gate = from_vector(std::vector<double>{0, 2}, {1, 2});
  const double r = 1.0 / std::sqrt(12.5 + 1e-6);
  const double s = 1.0 / (1.0 + std::exp(-2.0));
  for (const char* activation : {"sigmoid", "swish", "silu"}) {
    nn::GatedRMSNorm norm(2, 1e-6, activation);
    norm.to(DType::f64);
    const auto y = norm.forward(x, gate).to_vector<double>();
    const bool swish = std::string(activation) != "sigmoid";
    CHECK(std::fabs(y[0] - (swish ? 0.0 : 3 * r * 0.5)) <= 1e-15);
    CHECK(std::fabs(y[1] - 4 * r * (swish ? 2 * s : s)) <= 1e-15);
  }
  CHECK_ERROR(nn::GatedRMSNorm(2, 1e-6, "relu"), "GatedRMSNorm: activation is relu, expected sigmoid, swish or silu");
}

TEST_CASE("ShortConvolution: pieces with the state carried equal one pass") {
  Generator generator(3);
  nn::ShortConvolution convolution(3, 4, generator, {true, true, 0.5});
  const Tensor x = randn({2, 9, 3}, generator);
  const Tensor all = convolution.forward(x);
  CHECK(all.to_vector<float>() ==
        silu(causal_conv1d(x, squeeze(convolution.weight, 1), convolution.bias)).to_vector<float>());
  Tensor state;
  std::vector<Tensor> pieces;
  int64_t from = 0;
  for (const int64_t length : {1, 2, 5, 1}) {
    pieces.push_back(convolution.forward_next(slice(x, 1, {from, from + length}), state));
    from += length;
  }
  CHECK(state.shape() == Shape{2, 3, 3});
  CHECK(cat(pieces, 1).to_vector<float>() == all.to_vector<float>());
  CHECK_ERROR(convolution.forward_next(zeros({1, 1, 3}), state),
              "ShortConvolution: state has shape [2, 3, 3], expected [B, W-1, D] = [1, 3, 3]");
}

}  // namespace
}  // namespace deltatape

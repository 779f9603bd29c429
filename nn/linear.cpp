#include "nn/linear.h"

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/linalg.h"
#include "ops/random.h"
#include "ops/views.h"

namespace deltatape::nn {

Linear::Linear(int64_t in_features, int64_t out_features, Generator& generator, bool with_bias, double deviation)
    : Module("Linear") {
  check(in_features >= 0 && out_features >= 0, name(), "{} in and {} out features, expected none below 0", in_features,
        out_features);
  weight = mul(randn({out_features, in_features}, generator), deviation);
  register_parameter("weight", weight);
  if (with_bias) {
    bias = zeros({out_features});
    register_parameter("bias", bias);
  }
}

Tensor Linear::forward(const Tensor& x) const {
  check(x.defined() && x.rank() >= 1 && x.shape().back() == weight.size(1), name(),
        "x has shape {}, expected [.., in_features] with in_features = {}", x.defined() ? to_string(x.shape()) : "none",
        weight.size(1));
  const Tensor y = matmul(x, transpose(weight, 0, 1));
  return bias.defined() ? add(y, bias) : y;
}

Embedding::Embedding(int64_t count, int64_t dim, Generator& generator, double deviation) : Module("Embedding") {
  check(count >= 0 && dim >= 0, name(), "{} vectors of {} entries, expected none below 0", count, dim);
  weight = mul(randn({count, dim}, generator), deviation);
  register_parameter("weight", weight);
}

Tensor Embedding::forward(const Tensor& ids) const { return embedding(weight, ids); }

}  // namespace deltatape::nn

#include "tests/support/op_samples.h"

namespace deltatape::test {

const std::vector<OpSample>& op_samples() {
  static const std::vector<OpSample> samples = [] {
    std::vector<OpSample> all;
    for (auto* family : {creation_samples, convert_samples, unary_samples, arithmetic_samples, comparison_samples,
                         view_samples, joining_samples, reduction_samples, linalg_samples, indexing_samples,
                         softmax_samples, norm_samples, sequence_samples, random_samples, inplace_samples}) {
      for (const OpSample& sample : family()) {
        all.push_back(sample);
      }
    }
    return all;
  }();
  return samples;
}

}  // namespace deltatape::test

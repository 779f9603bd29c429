// kda::decode with its tensors on a CUDA device against the CPU: every option, dtype and layout, drafts and padding.
#include "ops/kda/decode.h"

#include <doctest/doctest.h>

#include "tests/gpu/device.h"
#include "tests/gpu/kda/on_device.h"
#include "tests/support/random_tensors.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::KDAShape;

/// Inputs in `dtype`, without a state; parameters of the gate in f32 beside 16 bits.
kda::Inputs inputs_in(DType dtype, const KDACase& c) {
  const bool short_type = dtype == DType::bf16 || dtype == DType::f16;
  kda::Inputs in = in_dtype(c, dtype).inputs;
  in.initial_state = Tensor();
  for (Tensor* const x : {&in.A_log, &in.dt_bias}) {
    *x = x->defined() ? to(*x, short_type ? DType::f32 : dtype) : *x;
  }
  return in;
}

struct Step {
  kda::Inputs inputs;
  Tensor pool;
  kda::DecodeSlots slots;
  kda::Options options;
};

Step on_cuda(const Step& step) {
  Step moved = step;
  for (Tensor* const x :
       {&moved.inputs.q, &moved.inputs.k, &moved.inputs.v, &moved.inputs.g, &moved.inputs.beta, &moved.inputs.A_log,
        &moved.inputs.dt_bias, &moved.pool, &moved.slots.slots, &moved.slots.num_accepted, &moved.slots.base_slot}) {
    *x = x->defined() ? to(*x, Device::cuda()) : *x;
  }
  return moved;
}

/// Which rows of a pool [P, ..] a step may write.
std::vector<bool> written_slots(const Step& step) {
  std::vector<bool> written(static_cast<size_t>(step.pool.size(0)), false);
  for (const int64_t slot : step.slots.slots.to_vector<int64_t>()) {
    if (slot >= 0) {
      written[static_cast<size_t>(slot)] = true;
    }
  }
  return written;
}

/// The step on the device and on the CPU: o and the pool agree within `limit` (o within `o_limit`), and slots that
/// nobody writes keep their bits.
void check_step(const Step& step, double limit, double o_limit) {
  Step host = step;
  host.pool = clone(step.pool);
  Step there = on_cuda(step);
  const Tensor expected = kda::decode(host.inputs, host.pool, host.slots, host.options);
  const Tensor o = to(kda::decode(there.inputs, there.pool, there.slots, there.options), Device::cpu());
  const Tensor pool = to(there.pool, Device::cpu());
  CHECK(o.dtype() == expected.dtype());
  CHECK(test::relative_error(o, expected) <= o_limit);
  CHECK(test::relative_error(pool, host.pool) <= limit);
  const std::vector<bool> written = written_slots(step);
  for (size_t i = 0; i < written.size(); ++i) {
    const auto slot = static_cast<int64_t>(i);
    CHECK((written[i] || test::same_bits(clone(pool[slot]), clone(step.pool[slot]))));
  }
}

std::vector<kda::Options> some_options() {
  std::vector<kda::Options> all(4);
  all[1].gate = kda::Gate::standard;
  all[1].use_qk_l2norm = all[1].use_beta_sigmoid = all[1].allow_neg_eigval = true;
  all[2] = all[1];
  all[2].state_v_first = true;
  all[3].gate = kda::Gate::lower_bound;
  all[3].scale = -0.5;
  all[3].state_v_first = true;
  return all;
}

TEST_CASE("kda::decode on cuda: drafts, counts, bases and padding as on the CPU [gpu]") {
  if (!test::have_device()) {
    return;
  }
  const KDAShape shape{6, 3, 2, 4, 18, 37, {}};
  // Sequence 1 is padding by its slots, 2 by its base, 3 by the slot it would start from; 4 has padding at its start
  // and 5 in the middle.
  const kda::DecodeSlots slots{
      .slots =
          from_vector(std::vector<int64_t>{9, 4, 17, -1, -7, -1, 10, 11, 12, 13, -1, 14, -1, 6, 2, 20, -1, 0}, {6, 3}),
      .num_accepted = from_vector(std::vector<int64_t>{3, 1, 0, 2, 0, 1}),
      .base_slot = from_vector(std::vector<int64_t>{-1, 5, -1, 8, 22, 23})};
  for (const kda::Options& options : some_options()) {
    CAPTURE(static_cast<int>(options.gate));
    CAPTURE(options.state_v_first);
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(to_string(dtype));
      const KDACase c = test::make_case(shape, options, 9);
      const DType state = dtype == DType::f64 ? DType::f64 : DType::f32;
      const Shape pool = options.state_v_first ? Shape{24, 4, 37, 18} : Shape{24, 4, 18, 37};
      const double limit = dtype == DType::f64 ? 1e-13 : 1e-6;
      const double o_limit = dtype == DType::bf16 ? 2e-3 : dtype == DType::f16 ? 2.5e-4 : limit;
      check_step({inputs_in(dtype, c), test::random_tensor(pool, 4, state), slots, options}, limit, o_limit);
    }
  }
}

TEST_CASE("kda::decode on cuda: one token in place, from the smallest head to the largest [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (const KDAShape& shape : {KDAShape{3, 1, 1, 1, 1, 1, {}}, KDAShape{1, 1, 2, 4, 256, 256, {}},
                                KDAShape{5, 1, 1, 2, 33, 130, {}}, KDAShape{0, 1, 1, 1, 4, 4, {}}}) {
    for (const kda::Options& options : some_options()) {
      CAPTURE(shape.K);
      CAPTURE(options.state_v_first);
      const KDACase c = test::make_case(shape, options, 10);
      const Shape pool =
          options.state_v_first ? Shape{7, shape.HV, shape.V, shape.K} : Shape{7, shape.HV, shape.K, shape.V};
      std::vector<int64_t> slots;
      for (int64_t n = 0; n < shape.B; ++n) {
        slots.push_back(6 - n);
      }
      check_step({inputs_in(DType::f64, c), test::random_tensor(pool, 5), {.slots = from_vector(slots)}, options},
                 1e-13, 1e-13);
    }
  }
}

TEST_CASE("kda::decode on cuda: heads of 64 and 128, whose states stay in registers [gpu]") {
  if (!test::have_device()) {
    return;
  }
  for (const KDAShape& shape : {KDAShape{2, 1, 1, 2, 128, 128, {}}, KDAShape{2, 3, 2, 2, 128, 64, {}},
                                KDAShape{3, 2, 1, 1, 64, 128, {}}, KDAShape{270, 1, 1, 1, 64, 64, {}}}) {
    for (const kda::Options& options : some_options()) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        CAPTURE(shape.K);
        CAPTURE(shape.V);
        CAPTURE(options.state_v_first);
        CAPTURE(to_string(dtype));
        const KDACase c = test::make_case(shape, options, 11);
        const int64_t P = shape.B * shape.T + 2;
        const Shape pool =
            options.state_v_first ? Shape{P, shape.HV, shape.V, shape.K} : Shape{P, shape.HV, shape.K, shape.V};
        std::vector<int64_t> slots;
        std::vector<int64_t> base;
        for (int64_t n = 0; n < shape.B; ++n) {
          for (int64_t t = 0; t < shape.T; ++t) {
            slots.push_back(n % 2 == 1 && t == 1 ? -1 : P - 1 - n * shape.T - t);
          }
          base.push_back(n == 2 ? -1 : slots[static_cast<size_t>(n * shape.T)]);
        }
        check_step({inputs_in(dtype, c),
                    test::random_tensor(pool, 6, DType::f32),
                    {.slots = from_vector(slots, {shape.B, shape.T}), .base_slot = from_vector(base)},
                    options},
                   2e-6, dtype == DType::bf16 ? 4e-3 : 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace deltatape

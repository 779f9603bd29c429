// `train --demo`: the same training run as a show for newcomers, and a test that learning works.
#pragma once

#include "tools/training_loop.h"

namespace deltatape::tools {

/// A model small enough for a few minutes on two cores; also what `train` uses without --config.
nn::KDAConfig demo_config(int64_t vocabulary);
/// The run's options; `quick` is a run of about half a minute.
TrainOptions demo_options(bool quick);

/// Says what happens, trains, compares the validation loss with that of byte frequencies, shows text before and after,
/// and checks the trained model's gradients. Returns the exit code: 1 when a loss or gradient is not finite, when the
/// validation loss is above 0.8 of the other, or when a gradient misses.
int run_demo(Trainer& trainer, OutputFolder* out);

}  // namespace deltatape::tools

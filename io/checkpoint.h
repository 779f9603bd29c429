// The state of an interrupted run, in one file, so that it is never half old and half new.
#pragma once

#include <filesystem>

#include "core/generator.h"
#include "io/safetensors.h"

namespace deltatape::io {

/// What a training run needs to go on as if it had never stopped.
struct Checkpoint {
  int64_t step = 0;                               // optimizer steps done
  TensorMap model;                                // parameters and buffers by name
  TensorMap optimizer;                            // the optimizer's state by name
  std::map<std::string, PhiloxState> generators;  // places in the random streams, by what they are used for
  Metadata notes;                                 // free text of the program that writes it
};

/// Writes one .safetensors file: tensors as `model.<name>` and `optimizer.<name>`, the rest as metadata. Errors as
/// save_safetensors.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// Reads what save_checkpoint wrote. Throws Error that names the file and what is missing or malformed.
Checkpoint load_checkpoint(const std::filesystem::path& path);

}  // namespace deltatape::io

// A case with its answers as files, and what somebody wrote beside them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "harness/files/tensor_files.h"
#include "harness/operator.h"
#include "harness/space.h"

namespace deltatape::harness {

/// A case and what the reference makes of it, in f64.
struct StoredCase {
  Case inputs;
  NamedTensors answers;             // outputs, and gradients where the case has an upstream gradient
  NamedTensors intermediates = {};  // where they were asked for
};

/// The case of these settings with the reference's answers.
StoredCase answered(const Reference& reference, const Space& space, const Settings& settings, bool intermediates);

/// Writes the inputs under their names, the upstream gradient of an output as `d` + its name, the answers under their
/// names, the intermediates as `intermediates/` + theirs. `config`: a JSON object whose `case` is Space::text of the
/// settings. Throws Error that names the file that cannot be written.
void write_case(const std::filesystem::path& path, FileFormat format, const std::string& config,
                const StoredCase& stored);

/// Reads a case: the settings from the config's `case`, the tensors from the files. Throws Error that names the file
/// when one is missing or broken, when there is one too many, or when a tensor is not the one that the settings stand
/// for. Differences of one rounding are let pass: logarithms of other machines differ in their last bits.
StoredCase read_case(const std::filesystem::path& path, FileFormat format, const Space& space);

/// Throws Error that names the file when the answers of a case that was read are not what the reference gives now.
void check_answers(const std::filesystem::path& path, FileFormat format, const Reference& reference,
                   const StoredCase& stored);

/// What was written beside the case at `path`: floating-point tensors of these names, from the folder `results` in it
/// (results_folder) or from one .safetensors file (results_file). Empty when there is nothing. Throws Error that names
/// the file when one cannot be read, is broken, has no floating-point numbers or another name, or when both places have
/// results.
NamedTensors read_results(const std::filesystem::path& set, const std::string& name,
                          const std::vector<std::string>& known);
/// `set/case_0000/results`.
std::filesystem::path results_folder(const std::filesystem::path& set, const std::string& name);
/// `set/case_0000.results.safetensors`.
std::filesystem::path results_file(const std::filesystem::path& set, const std::string& name);
/// What messages call a result that was read: `set/case_0000/results/o.npy` or `set/case_0000.results.safetensors: o`.
std::string result_label(const std::filesystem::path& set, const std::string& name, const std::string& tensor);

}  // namespace deltatape::harness

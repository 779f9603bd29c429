#include "io/checkpoint.h"

#include <doctest/doctest.h>

#include "tests/io/temporary_folder.h"
#include "tests/support/errors.h"

using namespace deltatape;
using test::error_of;
using test::TemporaryFolder;

TEST_CASE("checkpoint: everything comes back, generator states to the last bit") {
  const TemporaryFolder folder;
  io::Checkpoint saved;
  saved.step = 17;
  saved.model["w"] = from_vector<float>({1, 2});
  saved.optimizer["step"] = from_vector<int64_t>({17}, {});
  saved.optimizer["m.w"] = from_vector<float>({3, 4});
  saved.generators["batches"] = {UINT64_MAX, 12345678901234567890ULL};
  saved.notes["lr"] = "0.1";
  io::save_checkpoint(folder / "c.safetensors", saved);

  const io::Checkpoint loaded = io::load_checkpoint(folder / "c.safetensors");
  CHECK(loaded.step == 17);
  REQUIRE(loaded.model.size() == 1);
  CHECK(loaded.model.at("w").to_vector<float>() == std::vector<float>{1, 2});
  REQUIRE(loaded.optimizer.size() == 2);
  CHECK(loaded.optimizer.at("step").item() == 17);
  CHECK(loaded.optimizer.at("m.w").to_vector<float>() == std::vector<float>{3, 4});
  CHECK(loaded.generators.at("batches").seed == UINT64_MAX);
  CHECK(loaded.generators.at("batches").offset == 12345678901234567890ULL);
  CHECK(loaded.notes == io::Metadata{{"lr", "0.1"}});
}

TEST_CASE("checkpoint: a file of another kind is refused by name") {
  const TemporaryFolder folder;
  const auto error_for = [&](const io::TensorMap& tensors, const io::Metadata& metadata) {
    io::save_safetensors(folder / "c.safetensors", tensors, metadata);
    return error_of([&] { io::load_checkpoint(folder / "c.safetensors"); });
  };
  const std::string format = "deltatape checkpoint 1";
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  CHECK(contains(error_for({}, {{"format", "pt"}}), "has the format 'pt', expected 'deltatape checkpoint 1'"));
  CHECK(contains(error_for({}, {}), "has the format ''"));
  CHECK(contains(error_for({}, {{"format", format}}), "'step' is missing"));
  CHECK(contains(error_for({}, {{"format", format}, {"step", "1x"}}), "'step' is '1x'"));
  CHECK(contains(error_for({}, {{"format", format}, {"step", "-1"}}), "'step' is '-1'"));
  CHECK(contains(error_for({}, {{"format", format}, {"step", "1"}, {"generator.a", "5"}}), "expected seed:offset"));
  CHECK(contains(error_for({{"w", empty({1})}}, {{"format", format}, {"step", "1"}}), "has the tensor 'w'"));
}

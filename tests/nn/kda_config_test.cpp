#include "nn/kda_config.h"

#include <doctest/doctest.h>

#include "tests/support/errors.h"

namespace deltatape {
namespace {

using nn::KDAConfig;

TEST_CASE("KDAConfig: an empty object has FLA's defaults") {
  const KDAConfig c = KDAConfig::from_json("{}");
  CHECK(c.hidden_size == 2048);
  CHECK(c.head_dim == 128);
  CHECK(c.num_heads == 16);
  CHECK(c.layer().value_heads() == 16);
  CHECK(c.layer().head_v_dim() == 128);
  CHECK(c.num_hidden_layers == 24);
  CHECK(c.norm_eps == 1e-6);
  CHECK(c.vocab_size == 32000);
  CHECK(c.mlp_size() == 5632);  // int(2048 * 4 * 2 / 3) = 5461, in steps of 256
  CHECK_FALSE(c.lower_bound.has_value());
}

TEST_CASE("KDAConfig: read, write, read gives the same; keys without meaning here are kept") {
  const std::string text =
      R"({"model_type": "kda", "hidden_size": 28, "expand_v": 2.0, "num_heads": 1, "num_v_heads": 2,
      "head_dim": 16, "lower_bound": -5, "hidden_ratio": null, "tie_word_embeddings": true, "pad_token_id": null,
      "eos_token_id": null, "fuse_norm": true, "torch_dtype": "float32", "attn": null, "nested": {"a": [1, 2.5]}})";
  const KDAConfig c = KDAConfig::from_json(text);
  CHECK(c.lower_bound == -5.0);
  CHECK(c.layer().head_v_dim() == 32);
  CHECK(c.mlp_size() == 256);
  CHECK_FALSE(c.eos_token_id.has_value());
  CHECK(c.other_keys.at("torch_dtype") == "\"float32\"");
  CHECK(c.other_keys.at("nested") == "{\"a\":[1,2.5]}");
  const KDAConfig again = KDAConfig::from_json(c.to_json());
  CHECK(again.to_json() == c.to_json());
  CHECK(again.num_v_heads == 2);
  CHECK(again.tie_word_embeddings);
  CHECK(again.other_keys == c.other_keys);
}

TEST_CASE("KDAConfig: wrong types, ranges and models are refused by the key's name") {
  const auto read = [](const char* text) { return KDAConfig::from_json(text); };
  CHECK_ERROR(read("{"), "KDAConfig: the text is not valid JSON");
  CHECK_ERROR(read("[1]"), "KDAConfig: the text is a JSON array, expected an object");
  CHECK_ERROR(read(R"({"hidden_size": 2.5})"), "KDAConfig: hidden_size is 2.5, expected an integer");
  CHECK_ERROR(read(R"({"hidden_size": null})"), "KDAConfig: hidden_size is null, expected an integer");
  CHECK_ERROR(read(R"({"norm_eps": "x"})"), "KDAConfig: norm_eps is \"x\", expected a number");
  CHECK_ERROR(read(R"({"use_short_conv": 1})"), "KDAConfig: use_short_conv is 1, expected true or false");
  CHECK_ERROR(read(R"({"hidden_act": "gelu"})"), "KDAConfig: hidden_act is gelu, expected swish or silu");
  CHECK_ERROR(read(R"({"model_type": "gla"})"), "KDAConfig: model_type is \"gla\", expected \"kda\"");
  CHECK_ERROR(read(R"({"attn": {"layers": [1]}})"),
              "KDAConfig: attn is {\"layers\":[1]}, expected null (hybrid models are not supported)");
  CHECK_ERROR(read(R"({"num_heads": 2, "num_v_heads": 3})"),
              "KimiDeltaAttention: num_v_heads is 3, expected a multiple of num_heads = 2");
  CHECK_ERROR(read(R"({"head_dim": 5, "expand_v": 0.5})"),
              "KimiDeltaAttention: expand_v is 0.5, expected a positive number whose product with head_dim = 5 is an "
              "integer");
  CHECK_ERROR(read(R"({"lower_bound": 1})"), "KimiDeltaAttention: lower_bound is 1, expected null or a number below 0");
  CHECK_ERROR(read(R"({"vocab_size": 0})"), "KDAConfig: vocab_size is 0, expected at least 1");
  CHECK_ERROR(read(R"({"hidden_size": 4611686018427387904})"),
              "KimiDeltaAttention: hidden_size is 4611686018427387904, expected less than 2^31");
  CHECK_ERROR(read(R"({"num_heads": 65536, "head_dim": 65536})"),
              "KimiDeltaAttention: num_heads * head_dim is 4294967296, expected less than 2^31");
  CHECK_ERROR(read(R"({"hidden_ratio": 9223372036854775807})"),
              "KDAConfig: hidden_ratio is 9223372036854775807, expected less than 2^31");
  CHECK_ERROR(read(R"({"hidden_size": 3000000, "hidden_ratio": 3000000})"),
              "KDAConfig: the MLP's width by hidden_ratio is 6000000000000, expected less than 2^31");
}

}  // namespace
}  // namespace deltatape

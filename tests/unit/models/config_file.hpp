// A good config.json of qwen3_moe, changes of it, and what reading them says.
#pragma once

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "models/qwen3_moe.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail::testing {

using Json = nlohmann::json;

inline const Json kGood = Json::parse(R"({
  "model_type": "qwen3_moe", "vocab_size": 100, "hidden_size": 48, "intermediate_size": 64,
  "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10,
  "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": true,
  "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": null, "hidden_act": "silu",
  "mlp_only_layers": [], "decoder_sparse_step": 1, "sliding_window": null,
  "use_sliding_window": false, "max_position_embeddings": 4096})");

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) : path_((folder_.path() / "config.json").string()) {
    std::ofstream(path_) << text;
  }

  const std::string& path() const { return path_; }

 private:
  ScratchFolder folder_;
  std::string path_;
};

inline MoeDecoderConfig read(const Json& values) {
  return read_qwen3_moe_config(ConfigFile(values.dump(2)).path());
}

inline std::string error_of_text(const std::string& text) {
  const ConfigFile file(text);
  auto message = input_error_of([&] { read_qwen3_moe_config(file.path()); });
  EXPECT_EQ(message.rfind(file.path() + ":", 0), 0U) << "file not named: " << message;
  return message;
}

struct BadValue {
  std::string key;      // "a.b" = key b of object a
  std::string value;    // JSON; empty = the key is taken out
  std::string message;  // a part of what must be said
};

inline Json with(const BadValue& change, Json values = kGood) {
  Json::json_pointer place;
  std::string rest = change.key;
  for (std::size_t dot = rest.find('.'); dot != std::string::npos; dot = rest.find('.')) {
    place /= rest.substr(0, dot);
    rest = rest.substr(dot + 1);
  }
  if (change.value.empty()) {
    values.erase(change.key);
  } else {
    values[place / rest] = Json::parse(change.value);
  }
  return values;
}

}  // namespace dovetail::testing

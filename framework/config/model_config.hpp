// `model` and `parallel` of an experiment: which model, and how it is spread over ranks.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "framework/config/choices.hpp"

namespace dovetail {

class MapReader;

/// `weights: {seed: n}`: seeded weights, equal on every grid and device.
struct SeedWeights {
  std::uint64_t seed = 0;

  friend bool operator==(const SeedWeights&, const SeedWeights&) = default;
};

/// `weights: {checkpoint: folder}`: a folder of safetensors.
struct CheckpointWeights {
  std::string folder;

  friend bool operator==(const CheckpointWeights&, const CheckpointWeights&) = default;
};

using WeightsConfig = std::variant<SeedWeights, CheckpointWeights>;

/// `layers: all`.
struct AllLayers {
  friend bool operator==(const AllLayers&, const AllLayers&) = default;
};

/// `layers: n`: the first n layers as a whole model, as if its config.json had no more.
struct FirstLayers {
  int count = 0;

  friend bool operator==(const FirstLayers&, const FirstLayers&) = default;
};

/// `layers: [first, last]`: a pipeline stage, layers [first, last).
struct LayerRange {
  int first = 0;
  int last = 0;

  friend bool operator==(const LayerRange&, const LayerRange&) = default;
};

using LayersConfig = std::variant<AllLayers, FirstLayers, LayerRange>;

struct ModelConfig {
  std::string architecture;  ///< required
  std::string config;        ///< required; path of a Hugging Face config.json
  WeightsConfig weights;     ///< default: seed 0
  LayersConfig layers;       ///< default: all

  /// Null where the model is whole.
  const LayerRange* stage() const { return std::get_if<LayerRange>(&layers); }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  static void read_weights(const MapReader& map, ModelConfig& model);
  static std::string write_weights(const ModelConfig& model);
  static void read_layers(const MapReader& map, ModelConfig& model);
  static std::string write_layers(const ModelConfig& model);

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.text("architecture",
              &ModelConfig::architecture,
              "text",
              "The architecture of the model; `dovetail info` lists them.")
        .required()
        .holds("a name");
    keys.text("config",
              &ModelConfig::config,
              "the path of a Hugging Face config.json",
              "The sizes of the model. The path counts from the working directory.")
        .required()
        .holds("the path of a Hugging Face `config.json`");
    keys.coded("weights",
               read_weights,
               write_weights,
               "`{seed: n}` or `{checkpoint: folder}`",
               {"{seed: 7}", "{checkpoint: a/b}"},
               "Seeded weights are equal on every grid and device. A checkpoint is a folder of "
               "safetensors.");
    keys.coded("layers",
               read_layers,
               write_layers,
               "`all`, a number or `[first, last]`",
               {"all", "8", "[2, 4]"},
               "A number n is the first n layers as a whole model, with the final norm and the "
               "logits, as if `num_hidden_layers` were n (vLLM: `--hf-overrides "
               "'{\"num_hidden_layers\": n}'`); weights are those of the same layers of the "
               "whole. A range is a pipeline stage, without `last`. Its layers count from 0 in "
               "schedules, `/route` and `layer_<n>`, and only the last stage has logits.")
        .own_of_a_stage();
  }
};

struct ParallelConfig {
  int expert_parallel = 1;            ///< ranks of an ep group
  Fabric fabric = Fabric::automatic;  ///< between GPUs of a host

  friend bool operator==(const ParallelConfig&, const ParallelConfig&) = default;

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.whole(
        "expert_parallel",
        &ParallelConfig::expert_parallel,
        1,
        Limits::kCount,
        "Ranks of a group that exchanges tokens. The number of all ranks is a multiple of it.");
    keys.one_of("fabric",
                &ParallelConfig::fabric,
                "On GPUs: what NCCL may use between those of a host. `auto`: what it chooses; "
                "`nvlink`: they reach each other's memory, over NVLink or PCIe; `shared_memory`: "
                "the host's memory; `socket`: TCP sockets, between hosts as well.");
  }
};

}  // namespace dovetail

// The values of `model` that are no plain ones: weights and layers.
#include "framework/config/map_reader.hpp"
#include "framework/config/model_config.hpp"
#include "framework/config/write_value.hpp"

namespace dovetail {

void ModelConfig::read_weights(const MapReader& map, ModelConfig& model) {
  const MapReader weights(map.at("weights"), {"seed", "checkpoint"});
  if (weights.only_key() == "checkpoint") {
    model.weights =
        CheckpointWeights{weights.at("checkpoint").as_text("the path of a folder of safetensors")};
  } else {
    model.weights = SeedWeights{weights.at("seed").as_unsigned()};
  }
}

std::string ModelConfig::write_weights(const ModelConfig& model) {
  if (const auto* checkpoint = std::get_if<CheckpointWeights>(&model.weights)) {
    return "{checkpoint: " + write_value(checkpoint->folder) + "}";
  }
  return "{seed: " + write_value(std::get<SeedWeights>(model.weights).seed) + "}";
}

void ModelConfig::read_layers(const MapReader& map, ModelConfig& model) {
  const Located value = map.at("layers");
  if (value.is_word("all")) {
    model.layers = AllLayers{};
    return;
  }
  if (value.is_number()) {
    model.layers = FirstLayers{static_cast<int>(value.as_int(1, Limits::kCount))};
    return;
  }
  const std::string expected =
      "all, a number of layers, or a range [first, last) as a list of two whole numbers";
  const auto items = value.items(expected);
  if (items.size() != 2) {
    value.fail(expected);
  }
  const LayerRange range{static_cast<int>(items[0].as_int(0, Limits::kCount)),
                         static_cast<int>(items[1].as_int(0, Limits::kCount))};
  if (range.first >= range.last) {
    value.fail(expected + ", the first below the last");
  }
  model.layers = range;
}

std::string ModelConfig::write_layers(const ModelConfig& model) {
  if (const auto* cut = std::get_if<FirstLayers>(&model.layers)) {
    return write_value(cut->count);
  }
  const auto* stage = model.stage();
  return stage != nullptr ? write_value(std::vector{stage->first, stage->last}) : "all";
}

}  // namespace dovetail

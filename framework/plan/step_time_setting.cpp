#include "framework/plan/step_time_setting.hpp"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

json model_of(const ModelConfig& model) {
  const auto text = read_text_file(model.config, kModelConfigText);
  return model.architecture + " " + std::filesystem::path(model.config).filename().string() + " " +
         hexadecimal(combine_hash_bytes(0, text));
}

json layers_of(const ModelConfig& model) {
  if (const auto* cut = std::get_if<FirstLayers>(&model.layers)) {
    return cut->count;
  }
  const auto* stage = model.stage();
  return stage != nullptr ? json{stage->first, stage->last} : json("all");
}

json link_of(const std::optional<LinkConfig>& link) {
  return link ? json{{"latency_us", link->latency_us}, {"gbytes_per_s", link->gbytes_per_s}}
              : json("none");
}

struct DescribeRouting {
  json operator()(const NaturalRouting& /*routing*/) const { return "natural"; }

  json operator()(const BalancedRouting& /*routing*/) const { return "balanced"; }

  json operator()(const ZipfRouting& routing) const { return {{"zipf", routing.exponent}}; }

  json operator()(const ReplayRouting& routing) const { return {{"replay", routing.folder}}; }
};

}  // namespace

StepTimeSetting step_time_setting(const Experiment& experiment,
                                  const ExecutionConfig& execution,
                                  const ResolvedExecution& resolved,
                                  int world_size) {
  std::map<std::string, json> values = {
      {"model", model_of(experiment.model)},
      {"layers", layers_of(experiment.model)},
      {"dtype", to_string(execution.dtype)},
      {"world_size", world_size},
      {"expert_parallel", experiment.parallel.expert_parallel},
      {"exchange", resolved.exchange},
      {"device", resolved.device_name},
      {"link", experiment.parallel.expert_parallel == 1 ? "none" : link_of(execution.link)},
      {"hand_off", to_string(execution.hand_off)},
      {"numerics", to_string(execution.numerics)},
      {"graph", to_string(execution.graph)},
      {"phase", to_string(experiment.workload.phase)},
      {"routing", std::visit(DescribeRouting{}, experiment.workload.routing)},
  };
  if (experiment.parallel.fabric != Fabric::automatic) {
    values["fabric"] = to_string(experiment.parallel.fabric);
  }
  if (resolved.on_gpu()) {
    values["padded_capacity"] = execution.padded_capacity;
    if (execution.graph_sizes) {
      values["graph_sizes"] = *execution.graph_sizes;
    }
    if (resolved.sm_partition != SmPartitionKind::soft) {
      values["sm_partition"] = to_string(resolved.sm_partition);
    }
  }
  StepTimeSetting setting;
  for (const auto& [name, value] : values) {
    setting[name] = value.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  return setting;
}

std::string step_time_split(const SplitConfig& split) {
  std::string text = split.kind;
  for (std::size_t i = 0; i < split.sizes.size(); ++i) {
    text += (i == 0 ? ": " : ", ") + std::to_string(split.sizes[i]);
  }
  return text;
}

}  // namespace dovetail

#include "framework/plan/schedule_file.hpp"

#include <algorithm>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_json.hpp"

namespace dovetail {
namespace {

std::string describe_layer(const LayerShape& layer) {
  if (!layer.is_moe) {
    return layer.has_shared_experts ? "dense with shared experts" : "dense";
  }
  return layer.has_shared_experts ? "MoE with shared experts" : "MoE";
}

void check_layers(const Schedule& schedule, const ModelShape& model, const std::string& path) {
  const std::size_t common = std::min(schedule.layers.size(), model.layers.size());
  for (std::size_t i = 0; i < common; ++i) {
    if (schedule.layers[i] != model.layers[i]) {
      throw InputError(path + ": layers[" + std::to_string(i) + "] is " +
                       describe_layer(schedule.layers[i]) + ", layer " + std::to_string(i) +
                       " of the model is " + describe_layer(model.layers[i]));
    }
  }
  if (schedule.layers.size() != model.layers.size()) {
    throw InputError(path + ": a schedule of " + counted(std::ssize(schedule.layers), "layer") +
                     " for a model of " + counted(std::ssize(model.layers), "layer"));
  }
}

}  // namespace

Schedule read_schedule_file(const std::string& path, const ModelShape& model, int num_ubatches) {
  Schedule schedule = schedule_from_json(read_text_file(path, kScheduleText), path);
  check_layers(schedule, model, path);
  if (num_ubatches != 0 && schedule.num_ubatches != num_ubatches) {
    throw InputError(path + ": a schedule of " + counted(schedule.num_ubatches, "ubatch") +
                     ", the policy states " + std::to_string(num_ubatches) +
                     "; allowed: the same number, or none");
  }
  try {
    check_schedule(schedule);
  } catch (const InputError& error) {
    throw InputError(path + ": " + error.what());
  }
  return schedule;
}

}  // namespace dovetail

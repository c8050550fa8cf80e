#include "framework/run/step_record.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>

#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

void write(RankRecorder& recorder, const std::string& dataset, const at::Tensor& on_device) {
  const auto tensor = on_device.cpu();
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(tensor.const_data_ptr()),
                                         tensor.nbytes());
  recorder.write(dataset, from_torch(tensor.scalar_type()), bytes);
}

template <class Steps, class Get>
at::Tensor join_steps(const Steps& steps, std::int64_t dimension, Get get) {
  std::vector<at::Tensor> parts;
  parts.reserve(steps.size());
  for (const auto& step : steps) {
    parts.push_back(get(step));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, dimension);
}

/// Where a routing goes.
struct RoutingPaths {
  const char* expert_ids;
  const char* natural_ids;
  const char* logits;
  const char* scores;
};

template <class Steps>
void write_routing(RankRecorder& recorder, const Steps& steps, const RoutingPaths& paths) {
  const auto write_rows = [&](const char* dataset, at::Tensor StepOutputs::*field) {
    write(recorder, dataset, join_steps(steps, 1, [&](const StepOutputs& step) {
            return step.*field;
          }));
  };
  write_rows(paths.expert_ids, &StepOutputs::expert_ids);
  write_rows(paths.logits, &StepOutputs::router_logits);
  if (steps.front().router_scores.defined()) {
    write_rows(paths.scores, &StepOutputs::router_scores);
  }
  if (steps.front().natural_ids.defined()) {
    write_rows(paths.natural_ids, &StepOutputs::natural_ids);
  }
}

}  // namespace

void record_outputs(const RecordConfig& record,
                    const std::vector<StepOutputs>& steps,
                    RankRecorder& recorder) {
  const auto write_rows = [&](const std::string& name, auto get) {
    write(recorder, std::string(path::kOutput) + "/" + name, join_steps(steps, 0, get));
  };
  if (record.has(RecordedOutput::hidden)) {
    write_rows("hidden", [](const StepOutputs& step) { return step.hidden; });
  }
  if (record.has(RecordedOutput::logits)) {
    write_rows("logits", [](const StepOutputs& step) { return step.logits; });
  }
  if (record.has(RecordedOutput::logits_all)) {
    write_rows("logits_all", [](const StepOutputs& step) { return step.logits_all; });
  }
  for (std::size_t layer = 0; layer < steps.front().layers.size(); ++layer) {
    write_rows("layer_" + std::to_string(layer),
               [layer](const StepOutputs& step) { return step.layers.at(layer); });
  }
  if (record.has(RecordedOutput::routing)) {
    write_routing(
        recorder,
        steps,
        {path::kExpertIds, path::kNaturalExpertIds, path::kRouterLogits, path::kRouterScores});
  }
}

void record_context_routing(const RankWorkload& workload,
                            const Iteration& iteration,
                            RankRecorder& recorder) {
  std::vector<std::int64_t> requests;
  std::vector<std::int64_t> positions;
  for (const auto& step : workload.context_steps) {
    requests.insert(requests.end(), step.request_ids.begin(), step.request_ids.end());
    positions.insert(positions.end(), step.positions.begin(), step.positions.end());
  }
  if (requests.empty()) {
    return;
  }
  recorder.write(path::kContextRequestId, requests);
  recorder.write(path::kContextPositions, positions);
  write_routing(recorder,
                iteration.context_outputs(),
                {path::kContextExpertIds,
                 path::kContextNaturalExpertIds,
                 path::kContextRouterLogits,
                 path::kContextRouterScores});
}

void record_kv(const RecordConfig& record, Iteration& iteration, RankRecorder& recorder) {
  if (!record.has(RecordedOutput::kv)) {
    return;
  }
  std::vector<at::Tensor> of_steps;
  for (const auto& step : iteration.steps()) {
    of_steps.push_back(step.slot_mapping);
  }
  const auto slots = at::cat(of_steps);
  const auto& cache = iteration.cache();
  for (std::size_t layer = 0; layer < cache.num_layers(); ++layer) {
    for (const auto& part : cache.parts()) {
      write(recorder,
            path::kOutput + ("/" + (part.name + std::to_string(layer))),
            at::index_select((cache.*part.layers)[layer].flatten(0, 1), 0, slots));
    }
  }
}

void record_traffic(const Traffic& traffic,
                    const std::vector<std::int64_t>& tokens_per_expert,
                    RankRecorder& recorder) {
  recorder.write_scalar(path::kDispatchWireBytes, traffic.dispatch_wire_bytes);
  recorder.write_scalar(path::kCombineWireBytes, traffic.combine_wire_bytes);
  recorder.write_scalar(path::kDispatchLogicalBytes, traffic.dispatch_logical_bytes);
  recorder.write_scalar(path::kCombineLogicalBytes, traffic.combine_logical_bytes);
  recorder.write_scalar(path::kTrafficCountsWaitNs, traffic.counts_wait_ns);
  recorder.write(path::kTokensPerExpert, tokens_per_expert);
}

}  // namespace dovetail

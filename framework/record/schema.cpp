#include "framework/record/schema.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

std::int64_t most_ops(const RankFileSpec& spec) {
  std::int64_t most = spec.max_ops;
  for (const auto& schedule : spec.schedules) {
    most = std::max(most, static_cast<std::int64_t>(schedule.ops.size()));
  }
  return most;
}

}  // namespace

RunStatus parse_run_status(const std::string& text, const std::string& file) {
  if (const auto status = parse<RunStatus>(text)) {
    return *status;
  }
  throw InputError(file + ": status '" + text + "' is none of " + join_names(names<RunStatus>()));
}

std::vector<DatasetSpec> rank_file_datasets(const RankFileSpec& spec) {
  const auto int64 = DType::int64;
  const std::int64_t max_ops = most_ops(spec);
  const hdf5::Shape ops = {spec.profiled, max_ops, 2};
  std::vector<DatasetSpec> all = {
      {path::kStepNs, int64, {spec.iterations, spec.steps}},
      {path::kDecision, int64, {spec.iterations, spec.steps, kNumDecisionColumns}},
      {path::kStepEnqueueNs, int64, {spec.iterations, spec.steps}},
      {path::kOps, int64, ops},
      {path::kOpsComputeOnly, int64, ops},
      {path::kOpsCommOnly, int64, ops},
      {path::kProfiledStepNs, int64, {spec.profiled, 3, 2}},
      {path::kProfiledSchedule, int64, {spec.profiled}},
      {path::kEnqueuedNs, int64, {spec.profiled, max_ops}},
      {path::kHandOffWaitNs, int64, {spec.profiled, max_ops}},
      {path::kCountsWaitNs, int64, {spec.profiled}},
      {path::kInputIds, int64, {spec.tokens}},
      {path::kRequestId, int64, {spec.tokens}},
      {path::kPositions, int64, {spec.tokens}},
      {path::kRequests, int64, {spec.requests}},
      {path::kRequestPosition, int64, {spec.requests}},
      {path::kDispatchWireBytes, int64, {}},
      {path::kCombineWireBytes, int64, {}},
      {path::kDispatchLogicalBytes, int64, {}},
      {path::kCombineLogicalBytes, int64, {}},
      {path::kTrafficCountsWaitNs, int64, {}},
      {path::kTokensPerExpert, int64, {spec.traffic_layers, spec.experts_per_rank}},
      {path::kGraphCaptures, int64, {}},
      {path::kGraphReplays, int64, {}},
      {path::kGraphEvictions, int64, {}},
      {path::kGraphFailures, int64, {}},
      {path::kGraphEagerSteps, int64, {std::ssize(names<EagerReason>())}},
      {path::kPeakReservedBytes, int64, {}},
      {path::kPeakAllocatedBytes, int64, {}},
      {path::kWeightsBytes, int64, {}},
      {path::kCacheBytes, int64, {}},
      {path::kExchangeBytes, int64, {}},
  };
  if (spec.has_mrope_positions) {
    all.push_back({path::kMropePositions, int64, {3, spec.tokens}});
  }
  for (const auto& output : spec.outputs) {
    all.push_back({std::string(path::kOutput) + "/" + output.name, output.dtype, output.shape});
  }
  if (spec.route_layers > 0) {
    all.push_back(
        {path::kExpertIds, DType::int32, {spec.route_layers, spec.tokens, spec.route_top_k}});
    all.push_back({path::kMargin, DType::float32, {spec.route_layers, spec.tokens}});
  }
  return all;
}

const std::vector<DatasetRule>& dataset_rules() {
  static const std::vector<DatasetRule> rules = {
      {path::kStepNs, DType::int64, 2, 2, true},
      {path::kDecision, DType::int64, 3, 3, true},
      {path::kOps, DType::int64, 3, 3, true},
      {path::kOpsComputeOnly, DType::int64, 3, 3, true},
      {path::kOpsCommOnly, DType::int64, 3, 3, true},
      {path::kProfiledStepNs, DType::int64, 3, 3, true},
      {path::kProfiledSchedule, DType::int64, 1, 1, true},
      {path::kEnqueuedNs, DType::int64, 2, 2, true},
      {path::kHandOffWaitNs, DType::int64, 2, 2, true},
      {path::kCountsWaitNs, DType::int64, 1, 1, true},
      {path::kInputIds, DType::int64, 1, 1, true},
      {path::kRequestId, DType::int64, 1, 1, true},
      {path::kPositions, DType::int64, 1, 1, true},
      {path::kMropePositions, DType::int64, 2, 2, false},
      {path::kRequests, DType::int64, 1, 1, true},
      {path::kRequestPosition, DType::int64, 1, 1, true},
      {path::kDispatchWireBytes, DType::int64, 0, 0, true},
      {path::kCombineWireBytes, DType::int64, 0, 0, true},
      {path::kDispatchLogicalBytes, DType::int64, 0, 0, true},
      {path::kCombineLogicalBytes, DType::int64, 0, 0, true},
      {path::kTrafficCountsWaitNs, DType::int64, 0, 0, true},
      {path::kTokensPerExpert, DType::int64, 2, 2, true},
      {path::kStepEnqueueNs, DType::int64, 2, 2, true, 3},
      {path::kGraphCaptures, DType::int64, 0, 0, true, 3},
      {path::kGraphReplays, DType::int64, 0, 0, true, 3},
      {path::kGraphEvictions, DType::int64, 0, 0, true, 3},
      {path::kGraphFailures, DType::int64, 0, 0, true, 3},
      {path::kGraphEagerSteps, DType::int64, 1, 1, true, 3},
      {path::kPeakReservedBytes, DType::int64, 0, 0, true, 3},
      {path::kPeakAllocatedBytes, DType::int64, 0, 0, true, 3},
      {path::kWeightsBytes, DType::int64, 0, 0, true, 3},
      {path::kCacheBytes, DType::int64, 0, 0, true, 3},
      {path::kExchangeBytes, DType::int64, 0, 0, true, 3},
      {path::kExpertIds, DType::int32, 3, 3, false},
      {path::kMargin, DType::float32, 2, 2, false},
  };
  return rules;
}

}  // namespace dovetail

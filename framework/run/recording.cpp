#include "framework/run/recording.hpp"

#include <iterator>
#include <tuple>
#include <utility>

#include "framework/config/dump.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/clock_record.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/versions.hpp"
#include "framework/step/torch_dtype.hpp"

namespace dovetail {
namespace {

ScheduleRecord schedule_record(const Schedule& schedule, std::uint64_t digest) {
  ScheduleRecord record;
  record.name = schedule.name;
  record.num_ubatches = schedule.num_ubatches;
  record.digest = std::to_string(digest);
  for (const auto& op : schedule.ops) {
    record.ops.push_back({.layer = op.layer,
                          .ubatch = op.ubatch,
                          .phase = std::string(to_string(op.phase)),
                          .lane = std::string(to_string(op.lane)),
                          .waits = {op.waits.begin(), op.waits.end()},
                          .group = op.group});
  }
  return record;
}

/// Rows of all these steps: tokens and requests.
std::pair<std::int64_t, std::int64_t> count_rows(const std::vector<StepWorkload>& steps) {
  std::int64_t tokens = 0;
  std::int64_t requests = 0;
  for (const auto& step : steps) {
    tokens += step.batch.num_tokens();
    requests += std::ssize(step.batch.requests);
  }
  return {tokens, requests};
}

std::vector<OutputSpec> output_specs(const RecordConfig& record,
                                     const RankWorkload& workload,
                                     const Model& model) {
  const auto& dims = model.dims();
  const auto dtype = from_torch(dims.dtype);
  const auto [tokens, requests] = count_rows(workload.steps);
  std::vector<OutputSpec> specs;
  if (record.has(RecordedOutput::hidden)) {
    specs.push_back({"hidden", dtype, {tokens, dims.hidden}});
  }
  if (record.has(RecordedOutput::logits)) {
    specs.push_back({"logits", dtype, {requests, dims.vocabulary}});
  }
  if (record.has(RecordedOutput::logits_all)) {
    specs.push_back({"logits_all", dtype, {tokens, dims.vocabulary}});
  }
  for (int layer = 0; record.has(RecordedOutput::layers) && layer < model.shape().num_layers();
       ++layer) {
    specs.push_back({"layer_" + std::to_string(layer), dtype, {tokens, dims.hidden}});
  }
  for (int layer = 0; record.has(RecordedOutput::kv) && layer < model.shape().num_layers();
       ++layer) {
    for (const auto& part : KvCache::parts_of(dims.caches_latents)) {
      specs.push_back(
          {part.name + std::to_string(layer), dtype, {tokens, dims.kv_heads * dims.head_dim}});
    }
  }
  return specs;
}

}  // namespace

RankFileSpec rank_file_spec(const RunContext& context,
                            const RunIdentity& run,
                            const PolicyConfig& policy,
                            const ResolvedPolicy& resolved,
                            const RankWorkload& workload,
                            const GivenInputs& given,
                            const Model& model) {
  const auto& experiment = context.experiment;
  const auto& ranks = context.ranks;
  const auto& schedules = resolved.schedules;
  const auto& dims = model.dims();
  RankFileSpec spec;
  spec.experiment = experiment.experiment;
  spec.policy = policy.name;
  spec.rank = ranks.rank().value;
  spec.world_size = ranks.grid.world_size;
  spec.dp_rank = ranks.dp_rank().value;
  spec.ep_rank = ranks.ep_rank().value;
  spec.expert_parallel = ranks.grid.expert_parallel;
  spec.host = ranks.session.host();
  spec.device = run.device;
  spec.started_at = utc_text(std::chrono::system_clock::now());
  spec.weights_digest = run.digests.weights;
  spec.inputs_digest = run.digests.inputs;
  for (const auto& [name, value] : all_versions()) {
    spec.attributes.push_back({name, value});
  }
  spec.attributes.push_back({attribute::kArgv, run.options.command_line});
  spec.attributes.push_back({attribute::kEnvironment, relevant_environment()});
  spec.attributes.push_back({attribute::kComputeThreads, std::int64_t{run.threads.count}});
  spec.attributes.push_back({attribute::kComputeThreadsFrom, run.threads.from});
  spec.attributes.push_back({attribute::kOverlapHindrances, run.hindrances});
  spec.attributes.push_back({"dtype", std::string(to_string(from_torch(dims.dtype)))});
  spec.attributes.push_back({"numerics", std::string(to_string(policy.execution.numerics))});
  // A group of one rank has no link to emulate.
  spec.attributes.push_back(
      {attribute::kLink, describe_link(policy.execution.link, ranks.grid.expert_parallel)});
  const auto* fault = fault_of(experiment, policy.name);
  spec.attributes.push_back({attribute::kFault, fault == nullptr ? kNoFault : describe(*fault)});
  spec.attributes.push_back({attribute::kResolvedExecution, to_json_text(resolved.execution)});
  spec.attributes.push_back({attribute::kRouting, std::string(to_string(given.routing))});
  if (dims.expert_groups.are_limited()) {
    spec.attributes.push_back({attribute::kExpertGroups, to_text(dims.expert_groups)});
  }
  spec.config = dump(experiment);
  spec.schedules = {schedule_record(schedules.own, schedules.own_digest)};
  if (!(schedules.plain == schedules.own)) {
    spec.schedules.push_back(schedule_record(schedules.plain, schedules.plain_digest));
  }
  spec.iterations = policy.execution.iterations;
  spec.steps = static_cast<std::int64_t>(workload.steps_per_iteration());
  spec.variants = workload.num_variants;
  spec.profiled = experiment.record.timing == TimingDetail::ops
                      ? experiment.record.profiled_iterations * spec.steps
                      : 0;
  const auto clock = clock_point(run.clock);
  spec.clock_offset_ns = clock.offset_ns;
  spec.clock_error_ns = clock.error_ns;
  std::tie(spec.tokens, spec.requests) = count_rows(workload.steps);
  spec.has_mrope_positions = experiment.workload.positions == PositionKind::mrope;
  spec.outputs = output_specs(experiment.record, workload, model);
  if (experiment.record.has(RecordedOutput::routing)) {
    spec.route_layers = model.shape().num_layers();
    spec.route_top_k = dims.top_k;
    spec.route_experts = dims.num_experts;
    spec.route_dtype = from_torch(dims.router_dtype());
    spec.has_router_scores = dims.has_router_scores;
    spec.has_given_routing = !given.expert_ids.empty();
    spec.context_tokens = count_rows(workload.context_steps).first;
    spec.has_given_context_routing = !given.context_expert_ids.empty();
  }
  const auto [first, last] =
      owned_experts(dims.num_experts, ranks.grid.expert_parallel, ranks.ep_rank());
  spec.traffic_layers = model.shape().num_layers();
  spec.experts_per_rank = last - first;
  spec.first_expert = first;
  return spec;
}

void record_inputs(RankRecorder& recorder, const RankWorkload& workload, PositionKind positions) {
  StepWorkload all;
  std::vector<std::int64_t> requests;
  std::vector<std::int64_t> request_positions;
  const auto append = [](std::vector<std::int64_t>& to, const std::vector<std::int64_t>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const auto& step : workload.steps) {
    append(all.input_ids, step.input_ids);
    append(all.request_ids, step.request_ids);
    append(all.positions, step.positions);
    for (const auto& request : step.batch.requests) {
      requests.push_back(request.id);
      request_positions.push_back(request.context_length + request.query_length - 1);
    }
  }
  recorder.write(path::kInputIds, all.input_ids);
  recorder.write(path::kRequestId, all.request_ids);
  recorder.write(path::kPositions, all.positions);
  recorder.write(path::kRequests, requests);
  recorder.write(path::kRequestPosition, request_positions);
  if (positions != PositionKind::mrope) {
    return;
  }
  for (std::size_t row = 0; row < 3; ++row) {  // [3, tokens of a step] each -> [3, tokens]
    for (const auto& step : workload.steps) {
      const auto first =
          step.mrope_positions.begin() + static_cast<std::ptrdiff_t>(row * step.positions.size());
      all.mrope_positions.insert(all.mrope_positions.end(),
                                 first,
                                 first + static_cast<std::ptrdiff_t>(step.positions.size()));
    }
  }
  recorder.write(path::kMropePositions, all.mrope_positions);
}

OutputSelection select_outputs(const Experiment& experiment, const GivenInputs& given) {
  const auto& record = experiment.record;
  return {.logits = record.has(RecordedOutput::logits),
          .logits_all = record.has(RecordedOutput::logits_all),
          .layers = record.has(RecordedOutput::layers),
          .routing = record.has(RecordedOutput::routing) || replays_baseline(experiment),
          .replays_routing = !given.expert_ids.empty()};
}

}  // namespace dovetail

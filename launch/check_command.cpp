// `dovetail check`: everything about a run, or about every point of a sweep, that can be known
// before it, and nothing run.
#include <algorithm>
#include <iostream>
#include <variant>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/checked_run.hpp"
#include "framework/run/earlier_policy.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/memory_fit.hpp"
#include "framework/run/rank_memory.hpp"
#include "framework/run/run_header.hpp"
#include "launch/check_print.hpp"
#include "launch/check_work.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

/// What the estimate of memory does not count.
constexpr const char* kNotCounted =
    "other activations, the workspace of kernels and libraries, and on a GPU its CUDA context, "
    "graphs "
    "and "
    "NCCL's buffers";

std::string header_of(const CheckedRun& run) {
  const bool on_gpu = run.place.device == DeviceKind::cuda;
  const auto device = on_gpu ? run.place.device_name : cpu_name();
  const RunPlaces places = {
      .num_hosts = 0,
      .on_gpu = on_gpu,
      .devices = std::vector(static_cast<std::size_t>(run.grid.world_size), device)};
  return describe_run(run.experiment, run.grid, places, run.policies);
}

/// What `check` takes for granted and a run may find otherwise.
OrderedJson describe_assumptions(const CheckedRun& run,
                                 const CheckOptions& options,
                                 bool built_with_cuda) {
  auto lines = OrderedJson::array();
  if (run.place.device == DeviceKind::cpu && options.gpu_memory_gib) {
    lines.push_back(
        "--gpu-memory-gib is not used, because the ranks are on the CPU; --device cuda plans for "
        "GPUs");
  }
  if (run.place.device == DeviceKind::cuda) {
    if (visible_gpus().size() < static_cast<std::size_t>(run.grid.world_size)) {
      lines.push_back(
          "planned for more GPUs than this machine has: their free memory, number of SMs and "
          "compute capability are not looked at");
    } else {
      lines.push_back("the free memory of the GPUs is not looked at");
    }
    if (!built_with_cuda) {
      lines.push_back(
          "this build has no CUDA, so that its `run` refuses this experiment; the "
          "preset cuda has");
    }
  }
  const auto own = std::string(to_string(run.experiment.execution.dtype));
  const auto published = run.architecture->config_dtype();
  if (!published.empty() && published != own) {
    lines.push_back("dtype is " + own + ", and config.json says " + published +
                    ": --set execution.dtype=" + published + " takes that");
  }
  const auto& experiment = run.experiment;
  if (experiment.execution.dtype != DType::float32 &&
      experiment.verify.mode == VerifyMode::tolerance &&
      std::holds_alternative<NaturalRouting>(experiment.workload.routing) &&
      !experiment.record.has(RecordedOutput::routing)) {
    lines.push_back("routing is not recorded: in " + own +
                    " routers choose otherwise at near ties, which verify then cannot tell from a "
                    "fault; add routing to record.outputs");
  }
  return lines;
}

OrderedJson describe_steps(const std::vector<PlannedSteps>& planned) {
  auto all = OrderedJson::array();
  for (const auto& steps : planned) {
    OrderedJson one = {{"first", steps.first},
                       {"last", steps.last},
                       {"runs", steps.schedule},
                       {"reason", to_string(steps.reason)},
                       {"tokens", steps.load.tokens},
                       {"context_tokens", steps.load.context_tokens},
                       {"plain_ms", nullptr},
                       {"candidate_ms", nullptr},
                       {"text", steps.describe()}};
    if (steps.estimate) {
      one["plain_ms"] = steps.estimate->plain_ms;
      one["candidate_ms"] = steps.estimate->candidate_ms;
    }
    all.push_back(one);
  }
  return all;
}

OrderedJson describe_grid(const CheckedRun& run) {
  auto ranks = OrderedJson::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    const auto ep_rank = run.grid.ep_rank(Rank(rank));
    const auto [first, last] =
        owned_experts(run.architecture->dims().num_experts, run.grid.expert_parallel, ep_rank);
    const auto& workload = run.workloads[static_cast<std::size_t>(rank)];
    const auto& batch = workload.steps.front().batch;
    std::int64_t context_tokens = 0;
    for (const auto& request : batch.requests) {
      context_tokens += request.context_length;
    }
    ranks.push_back({{"rank", rank},
                     {"dp_rank", run.grid.dp_rank(Rank(rank)).value},
                     {"ep_rank", ep_rank.value},
                     {"experts", {first, last}},
                     {"requests", batch.requests.size()},
                     {"tokens", batch.num_tokens()},
                     {"context_tokens", context_tokens},
                     {"steps", workload.steps_per_iteration()},
                     {"variants", workload.num_variants}});
  }
  return {{"world_size", run.grid.world_size},
          {"expert_parallel", run.grid.expert_parallel},
          {"replicas", run.grid.num_replicas()},
          {"ranks", ranks}};
}

/// The requests of a ubatch, each with its tokens there; `cut`: another ubatch has the rest.
OrderedJson describe_segments(const Batch& batch, const UbatchSlice& slice) {
  auto segments = OrderedJson::array();
  for (const auto& segment : slice.segments) {
    const auto& request = batch.requests.at(static_cast<std::size_t>(segment.request));
    segments.push_back({{"request", request.id},
                        {"first_token", segment.query_start},
                        {"tokens", segment.query_length},
                        {"cut", segment.query_length < request.query_length}});
  }
  return segments;
}

OrderedJson describe_policy(const CheckedRun& run, std::size_t index) {
  const auto& policy = run.experiment.policies[index];
  const auto& resolved = run.policies[index];
  auto splits = OrderedJson::array();
  auto requests = OrderedJson::array();
  for (const auto& workload : run.workloads) {
    const auto& batch = workload.steps.front().batch;
    auto tokens = OrderedJson::array();
    auto segments = OrderedJson::array();
    for (const auto& slice :
         split_batch(batch, resolved.split, resolved.schedules.own.num_ubatches)) {
      tokens.push_back(slice.num_tokens);
      segments.push_back(describe_segments(batch, slice));
    }
    splits.push_back(tokens);
    requests.push_back(segments);
  }
  return {{"name", policy.name},
          {"schedule", resolved.schedules.own.name},
          {"ubatches", resolved.schedules.own.num_ubatches},
          {"ops", resolved.schedules.own.ops.size()},
          {"schedule_check", "proven"},  // an unproven schedule is refused above
          {"split", step_time_split(policy.split)},
          {"numerics", to_string(policy.execution.numerics)},
          {"exchange", resolved.execution.exchange},
          {"exchange_reason", resolved.execution.exchange_reason},
          {"link", describe_link(policy.execution.link, run.grid.expert_parallel)},
          {"resolved_execution", OrderedJson::parse(to_json_text(resolved.execution))},
          {"tokens_of_ubatches_by_rank", splits},
          {"requests_of_ubatches_by_rank", requests},
          {"steps", describe_steps(run.planned_steps[index])}};
}

OrderedJson describe_memory(const CheckedRun& run) {
  auto ranks = OrderedJson::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    OrderedJson parts = OrderedJson::object();
    std::int64_t total = 0;
    for (const auto& part : rank_memory(run, rank)) {
      parts[part.name] = part.bytes;
      total += part.bytes;
    }
    parts["total"] = total;
    ranks.push_back(parts);
  }
  return ranks;
}

/// Whether each policy fits into the memory that is there; without policies where that is not
/// known.
OrderedJson describe_fit(const CheckedRun& run, const CheckOptions& options) {
  std::optional<std::int64_t> gpu_bytes;
  if (options.gpu_memory_gib) {
    gpu_bytes = static_cast<std::int64_t>(*options.gpu_memory_gib * (1LL << 30));
  }
  const auto available = available_memory(run, gpu_bytes);
  OrderedJson report = {
      {"of", run.place.device == DeviceKind::cuda ? "each GPU" : "all ranks together, on one host"},
      {"bytes", nullptr},
      {"source", nullptr},
      {"policies", OrderedJson::array()}};
  if (!available) {
    return report;
  }
  report["bytes"] = available->bytes;
  report["source"] = available->source;
  for (const auto& fit : fit_memory(run, available->bytes)) {
    OrderedJson policy = {{"name", fit.policy},
                          {"fits", fit.fits},
                          {"needed_bytes", fit.needed_bytes},
                          {"fits_with_expert_parallel", nullptr},
                          {"text", describe(fit, available->bytes)}};
    if (fit.smallest) {
      policy["fits_with_expert_parallel"] = fit.smallest->expert_parallel;
    }
    report["policies"].push_back(policy);
  }
  return report;
}

/// Grid, policies, memory. Throws InputError.
OrderedJson check_experiment(const Experiment& experiment,
                             const CheckOptions& options,
                             const Capabilities& capabilities) {
  const auto run = check_run(experiment, options.num_ranks, model_catalog(), capabilities);
  auto policies = OrderedJson::array();
  for (std::size_t i = 0; i < run.policies.size(); ++i) {
    policies.push_back(describe_policy(run, i));
  }
  return {{"experiment", run.experiment.experiment},
          {"header", header_of(run)},
          {"assumptions", describe_assumptions(run, options, build_capabilities({}).cuda)},
          {"device", to_string(run.place.device)},
          {"dtype", to_string(run.experiment.execution.dtype)},
          {"config_dtype", run.architecture->config_dtype()},
          {"fabric", to_string(run.experiment.parallel.fabric)},
          {"grid", describe_grid(run)},
          {"policies", policies},
          {"work_by_phase", describe_work(run)},
          {"memory_bytes_by_rank", describe_memory(run)},
          {"memory_leaves_out", kNotCounted},
          {"memory_fit", describe_fit(run, options)}};
}

OrderedJson check_point(const Sweep& sweep,
                        std::size_t point,
                        const Experiment& experiment,
                        const CheckOptions& options,
                        const Capabilities& capabilities) {
  OrderedJson report;
  try {
    report = check_experiment(experiment, options, capabilities);
  } catch (const InputError& error) {
    throw InputError(std::string(error.what()) + " (" + sweep.describe(point) + ")");
  }
  OrderedJson values = OrderedJson::object();
  const auto own = sweep.values(point);
  for (std::size_t axis = 0; axis < own.size(); ++axis) {
    values[sweep.axes()[axis].key] = own[axis];
  }
  return {{"point", point}, {"values", values}, {"check", report}};
}

/// Of a sweep every point, checked as a run of its own. Errors name the point.
int check_sweep(const Sweep& sweep, const CheckOptions& options, const Capabilities& capabilities) {
  std::vector<Experiment> experiments;
  experiments.reserve(sweep.num_points());
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    experiments.push_back(point_experiment(sweep, point, options.num_ranks, capabilities));
  }
  const auto unchanged = find_unchanged(experiments);
  auto points = OrderedJson::array();
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    auto checked = check_point(sweep, point, experiments[point], options, capabilities);
    checked["measured_in_point"] = unchanged[point];
    points.push_back(std::move(checked));
  }
  if (options.format == OutputFormat::json) {
    std::cout << OrderedJson{{"points", points}}.dump(2) << "\n";
  } else {
    print_points(sweep, points);
  }
  return kExitDone;
}

}  // namespace

int check_command(const CheckOptions& given) {
  auto options = given;
  if (!options.device.empty()) {
    options.overrides.push_back("execution.device=" + options.device);
  }
  const auto capabilities = planning_capabilities(architectures().names());
  const Sweep sweep(read_experiment_file(options.file), options.file, options.overrides);
  if (sweep.is_sweep()) {
    return check_sweep(sweep, options, capabilities);
  }
  const auto report = check_experiment(
      point_experiment(sweep, 0, options.num_ranks, capabilities), options, capabilities);
  if (options.format == OutputFormat::json) {
    std::cout << report.dump(2) << "\n";
  } else {
    print_check(report);
  }
  return kExitDone;
}

}  // namespace dovetail

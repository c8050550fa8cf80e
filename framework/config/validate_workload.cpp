#include "framework/config/validate_workload.hpp"

#include <algorithm>
#include <string>
#include <variant>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

[[noreturn]] void fail(const LoadedExperiment& loaded,
                       const std::string& path,
                       const std::string& message) {
  fail_at(find_mark(loaded, path), path + ": " + message);
}

/// The first value of a group that breaks a rule, as a key path below the group; empty = none.
using BrokenKey = std::string;

/// Decode computes one token of each request in a step.
struct FindLongQuery {
  BrokenKey operator()(const UniformRequests& group) const {
    return group.length == 1 ? "" : ".length";
  }

  BrokenKey operator()(const RequestLengths& group) const {
    const auto found = std::find_if(group.lengths.begin(),
                                    group.lengths.end(),
                                    [](std::int64_t length) { return length != 1; });
    return found == group.lengths.end()
               ? ""
               : ".lengths[" + std::to_string(found - group.lengths.begin()) + "]";
  }

  BrokenKey operator()(const LognormalRequests& /*group*/) const { return ""; }

  BrokenKey operator()(const RequestFile& /*group*/) const { return ""; }
};

struct FindContext {
  WorkPhase phase;

  BrokenKey operator()(const UniformRequests& group) const {
    return group.context_length > 0 ? ".context_length" : "";
  }

  BrokenKey operator()(const RequestLengths& group) const {
    const auto& contexts = group.context_lengths;
    const auto found = std::find_if(
        contexts.begin(), contexts.end(), [](std::int64_t length) { return length > 0; });
    return found == contexts.end()
               ? ""
               : ".context_lengths[" + std::to_string(found - contexts.begin()) + "]";
  }

  BrokenKey operator()(const LognormalRequests& group) const {
    if (phase == WorkPhase::decode) {
      return ".lognormal";  // of context lengths
    }
    return group.context_length > 0 ? ".lognormal.context_length" : "";
  }

  BrokenKey operator()(const RequestFile& /*group*/) const { return ""; }
};

/// Calls `call(path, group)` for each group of requests.
template <class Call>
void for_each_group(const WorkloadConfig& workload, const Call& call) {
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    const std::string index = workload.requests.size() == 1 ? "" : "[" + std::to_string(i) + "]";
    call("workload.requests" + index, workload.requests[i]);
  }
}

void check_phase(const LoadedExperiment& loaded) {
  const WorkloadConfig& workload = loaded.experiment.workload;
  if (workload.phase != WorkPhase::decode) {
    return;
  }
  for_each_group(workload, [&](const std::string& path, const RequestGroup& group) {
    const BrokenKey key = std::visit(FindLongQuery{}, group);
    if (!key.empty()) {
      fail(loaded, path + key, "more than one token in the phase decode; allowed: 1, or none");
    }
  });
}

void check_inputs(const LoadedExperiment& loaded) {
  const WorkloadConfig& workload = loaded.experiment.workload;
  const auto* stage = loaded.experiment.model.stage();
  const bool is_later_stage = stage != nullptr && stage->first > 0;
  const bool has_hidden = workload.inputs.kind == InputKind::hidden;
  if (has_hidden && !is_later_stage) {
    fail(loaded,
         "workload.inputs",
         "hidden states go into a stage that is not the first; allowed: ids, embeds, or "
         "model.layers with a first above 0");
  }
  if (is_later_stage && !has_hidden) {
    fail(loaded,
         "workload.inputs",
         std::string(to_string(workload.inputs.kind)) + " for a stage that begins at layer " +
             std::to_string(stage->first) + "; allowed: {hidden: policy folder}");
  }
  if (!has_hidden || workload.context == ContextFill::random) {
    return;
  }
  for_each_group(workload, [&](const std::string& path, const RequestGroup& group) {
    const BrokenKey key = std::visit(FindContext{workload.phase}, group);
    if (!key.empty()) {
      fail(loaded,
           path + key,
           "a context with workload.inputs hidden; allowed: 0, or workload.context random");
    }
  });
}

void check_rank_scale(const LoadedExperiment& loaded, std::optional<int> num_ranks) {
  const std::vector<double>& scale = loaded.experiment.workload.rank_scale;
  if (scale.empty()) {
    return;
  }
  const auto needed = static_cast<std::size_t>(num_ranks.value_or(0));
  if (scale.size() < needed) {
    fail(loaded,
         "workload.rank_scale",
         counted(std::ssize(scale), "value") + " for a world of " + counted(*num_ranks, "rank") +
             "; allowed: one a rank, or none for 1 everywhere");
  }
  const auto end = num_ranks ? scale.begin() + *num_ranks : scale.end();
  if (std::all_of(scale.begin(), end, [](double factor) { return factor == 0.0; })) {
    fail(loaded, "workload.rank_scale", "every rank is idle; allowed: at least one above 0");
  }
}

}  // namespace

void check_workload(const LoadedExperiment& loaded, std::optional<int> num_ranks) {
  check_phase(loaded);
  check_inputs(loaded);
  check_rank_scale(loaded, num_ranks);
}

}  // namespace dovetail

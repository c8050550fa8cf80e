#include "framework/run/experiment_points.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <variant>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/task_threads.hpp"
#include "framework/base/text.hpp"
#include "framework/config/load.hpp"
#include "framework/config/validate_fault.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/run_info.hpp"
#include "framework/run/fabric.hpp"

namespace dovetail {
namespace {

/// Only what `--policy` names, and the baseline that they are verified against.
void select_policies(Experiment& experiment, const std::vector<std::string>& names) {
  if (names.empty()) {
    return;
  }
  for (const auto& name : names) {
    find_policy(experiment, name);
  }
  std::erase_if(experiment.policies, [&](const PolicyConfig& policy) {
    const bool named = std::find(names.begin(), names.end(), policy.name) != names.end();
    const bool is_baseline =
        experiment.verify.mode != VerifyMode::none && policy.name == experiment.verify.baseline;
    return !named && !is_baseline;
  });
}

/// A fault of a policy that was not chosen would never happen.
void check_fault_policies(const Experiment& experiment) {
  for (const auto& fault : experiment.faults) {
    if (!fault.policy.empty()) {
      try {
        find_policy(experiment, fault.policy);
      } catch (const InputError& error) {
        throw InputError(std::string("fault.policy: ") + error.what());
      }
    }
  }
}

/// With `verify: {routing: replay}` the others take the baseline's experts, so it runs first.
void put_baseline_first(Experiment& experiment) {
  if (!replays_baseline(experiment)) {
    return;
  }
  std::stable_partition(
      experiment.policies.begin(), experiment.policies.end(), [&](const PolicyConfig& policy) {
        return policy.name == experiment.verify.baseline;
      });
}

/// With `execution.control`: the baseline's second copy, behind all others.
void add_control(Experiment& experiment) {
  if (!experiment.execution.control) {
    return;
  }
  auto control = experiment.verify.mode == VerifyMode::none
                     ? experiment.policies.front()
                     : find_policy(experiment, experiment.verify.baseline);
  control.name = kControlPolicy;
  experiment.policies.push_back(std::move(control));
}

}  // namespace

ExperimentPoints read_points(const std::string& text,
                             const RunOptions& options,
                             int num_ranks,
                             const Capabilities& capabilities) {
  ExperimentPoints all{{text, options.file, options.overrides, options.policies}, {}};
  require_point(all.sweep, options);
  require_started_ranks(all.sweep, num_ranks, options);
  for (std::size_t point = 0; point < all.sweep.num_points(); ++point) {
    all.points.push_back(
        point_experiment(all.sweep, point, num_ranks, capabilities, options.allowed_faults));
  }
  if (!options.point) {
    check_one_fabric(all.points);
  }
  return all;
}

void refuse_early(const RunOptions& options, int num_ranks, const Capabilities& capabilities) {
  read_points(read_experiment_file(options.file), options, num_ranks, capabilities);
}

ExperimentPoints agree_on_points(const MpiSession& session,
                                 const RunOptions& options,
                                 const Capabilities& capabilities) {
  const auto world = session.world();
  const WaitPolicy wait;
  std::string text;
  run_on_all_ranks(world, wait, [&] {
    if (session.rank().value == 0) {
      text = read_experiment_file(options.file);
    }
  });
  broadcast_text(world, text, wait);
  std::optional<ExperimentPoints> agreed;
  run_on_all_ranks(world, wait, [&] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing writes the environment
    static_cast<void>(threads_of_task(std::getenv, session.cpus()));
    agreed = read_points(text, options, session.world_size(), capabilities);
  });
  return std::move(*agreed);
}

void require_point(const Sweep& sweep, const RunOptions& options) {
  if (!options.point) {
    return;
  }
  if (!sweep.is_sweep()) {
    throw InputError(options.file + ": --point is for a file with sweep: this one has none");
  }
  if (*options.point >= sweep.num_points()) {
    throw InputError("--point " + std::to_string(*options.point) + ": the sweep has " +
                     counted(static_cast<std::int64_t>(sweep.num_points()), "point") +
                     "; allowed: 0 to " + std::to_string(sweep.num_points() - 1));
  }
  if (options.out.empty()) {
    throw InputError("--point needs --out DIR: the folder that all points of the sweep share");
  }
}

void require_started_ranks(const Sweep& sweep, int num_ranks, const RunOptions& options) {
  if (num_ranks > 1) {
    return;
  }
  int needed = 1;
  SourceMark place;
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    const auto loaded = sweep.load(point);
    if (loaded.experiment.parallel.expert_parallel > needed) {
      needed = loaded.experiment.parallel.expert_parallel;
      place = find_mark(loaded, "parallel.expert_parallel");
    }
  }
  if (needed > 1) {
    const auto ranks = std::to_string(needed);
    const auto arguments = options.command_line.substr(
        std::min(options.command_line.size(), quoted_command({options.program}).size()));
    fail_at(place,
            "parallel.expert_parallel: " + ranks +
                " ranks, or a multiple, are needed, and one was started; start them with "
                "launch/run_local.sh " +
                ranks + arguments + ", or mpirun -np " + ranks + " " + options.command_line);
  }
}

Experiment point_experiment(const Sweep& sweep,
                            std::size_t point,
                            int num_ranks,
                            const Capabilities& capabilities,
                            const std::optional<std::vector<FaultKind>>& allowed_faults) {
  auto loaded = sweep.load(point);
  try {
    validate(loaded, capabilities, num_ranks);
    if (allowed_faults) {
      check_allowed_faults(loaded, *allowed_faults);
    }
  } catch (const InputError& error) {
    throw sweep.is_sweep()
        ? InputError(std::string(error.what()) + " (" + sweep.describe(point) + ")")
        : error;
  }
  select_policies(loaded.experiment, sweep.policies(point));
  check_fault_policies(loaded.experiment);
  put_baseline_first(loaded.experiment);
  add_control(loaded.experiment);
  return std::move(loaded.experiment);
}

Experiment load_valid_experiment(const std::string& file,
                                 const std::vector<std::string>& overrides,
                                 const Capabilities& capabilities) {
  const auto loaded = load_experiment(file, overrides);
  validate(loaded, capabilities, std::nullopt);
  return loaded.experiment;
}

const PolicyConfig& find_policy(const Experiment& experiment, const std::string& name) {
  std::vector<std::string> known;
  for (const auto& policy : experiment.policies) {
    if (policy.name == name) {
      return policy;
    }
    known.push_back(policy.name);
  }
  throw InputError("unknown policy '" + name + "'; the experiment has: " + join_names(known));
}

const FaultConfig* fault_of(const Experiment& experiment, const std::string& policy) {
  const VerifyConfig& verify = experiment.verify;
  for (const FaultConfig& fault : experiment.faults) {
    if (hits(fault, policy, verify.mode == VerifyMode::none ? "" : verify.baseline)) {
      return &fault;
    }
  }
  return nullptr;
}

bool replays_baseline(const Experiment& experiment) {
  return experiment.verify.mode != VerifyMode::none &&
         experiment.verify.routing == VerifyRouting::replay;
}

bool is_judged_naturally(const Experiment& experiment) {
  return experiment.verify.mode == VerifyMode::tolerance &&
         experiment.verify.routing == VerifyRouting::natural &&
         experiment.record.has(RecordedOutput::routing) &&
         std::holds_alternative<NaturalRouting>(experiment.workload.routing);
}

}  // namespace dovetail

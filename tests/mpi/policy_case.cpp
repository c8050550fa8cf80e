#include "tests/mpi/policy_case.hpp"

#include <chrono>
#include <utility>

#include <ATen/ops/index_select.h>
#include <ATen/ops/isnan.h>
#include <gtest/gtest.h>

#include "framework/config/load.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/step/torch_dtype.hpp"
#include "models/registry.hpp"
#include "tests/support/host_place.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

DevicePlacement placement_of(const Experiment& experiment) {
  if (experiment.execution.device != DeviceKind::cuda) {
    return {};
  }
  return {.kind = DeviceKind::cuda, .ordinal = host_place().index, .name = "a GPU"};
}

}  // namespace

PolicyCase::PolicyCase(const std::string& experiment, WeightSource& source)
    : experiment_(parse_experiment(experiment, "policy_case.yaml").experiment),
      grid_(make_grid(world_size(), world_size())),
      groups_(make_rank_groups(session(), grid_)),
      failures_(groups_.control),
      context_{.ranks = {.session = session(),
                         .grid = grid_,
                         .groups = groups_,
                         .wait = {.timeout = std::chrono::seconds(policy().execution.timeout_s),
                                  .on_poll =
                                      [this] {
                                        failures_.poll();
                                        if (on_poll) {
                                          on_poll();
                                        }
                                      }}},
               .signals = signals_,
               .failures = failures_,
               .experiment = experiment_},
      device_(context_.ranks, placement_of(experiment_)),
      architecture_(architectures().at(experiment_.model.architecture)(experiment_.model)),
      workload_(make_workload(experiment_.workload,
                              nullptr,
                              architecture_->dims().vocabulary,
                              world_size(),
                              session().rank())),
      resolved_(resolve_policies(
                    context_,
                    *architecture_,
                    {placement_of(experiment_).kind, placement_of(experiment_).name, world_size()},
                    workload_,
                    build_capabilities(architectures().names()))
                    .front()),
      model_(architecture_->make_model(source,
                                       {.ep_size = world_size(),
                                        .ep_rank = session().rank().value,
                                        .dtype = to_torch(policy().execution.dtype),
                                        .device = device_.device()})),
      iteration_(workload_,
                 given_,
                 policy().execution,
                 *model_,
                 experiment_.workload.seed,
                 device_.device()),
      outputs_(make_outputs(iteration_, *model_, select_outputs(experiment_, given_))),
      cuts_(cut_steps(workload_.steps, resolved_.split, resolved_.schedules.own.num_ubatches)) {
  if (const auto* fault = fault_of(experiment_, policy().name)) {
    fault_.emplace(*fault, session().rank(), device_.device());
  }
}

StepDriver& PolicyCase::driver() {
  if (!driver_) {
    driver_ = make_step_driver({.ranks = context_.ranks,
                                .device = device_,
                                .execution = policy().execution,
                                .resolved = resolved_.execution,
                                .workload = experiment_.workload,
                                .schedules = resolved_.schedules,
                                .model = *model_,
                                .given = given_,
                                .iteration = iteration_,
                                .outputs = outputs_,
                                .fault = fault_ ? &*fault_ : nullptr});
  }
  return *driver_;
}

AgreedStep PolicyCase::prepare(int iteration) {
  if (fault_) {
    fault_->set_iteration(iteration);
  }
  const auto& ranks = context_.ranks;
  const auto message =
      make_message({.rank = ranks.rank(),
                    .batch = step().batch,
                    .slices = cuts_.front().split,
                    .schedule_digest = resolved_.schedules.digest(),
                    .veto = fault_ && fault_->vetoes() ? VetoReason::rank_veto : VetoReason::none,
                    .graph_cache_digest = driver().graph_cache_digest()});
  const auto rule =
      agreement_rule(policy(), resolved_.schedules, experiment_.workload.phase, resolved_.bounds);
  auto agreed = agree_on_step(
      agree(ranks.groups.agreement, message, ranks.wait), rule, resolved_.schedules, cuts_.front());
  driver().prepare(agreed, {});
  return agreed;
}

std::filesystem::path PolicyCase::run(const std::filesystem::path& folder,
                                      std::function<void(int finished, int all)> on_iteration) {
  auto path = folder / rank_file_name(session().rank().value);
  RankRecorder recorder(path, file_spec({}));
  record_inputs(recorder, workload_, experiment_.workload.positions);
  run_policy({.run = context_,
              .policy = policy(),
              .resolved = resolved_,
              .device = device_,
              .model = *model_,
              .workload = workload_,
              .given = given_,
              .iteration = iteration_,
              .outputs = outputs_,
              .on_iteration = std::move(on_iteration)},
             recorder);
  return path;
}

RankFileSpec PolicyCase::file_spec(const ClockOffset& clock) const {
  const RunOptions options;
  const RunDigests digests = {.weights = "0", .inputs = "0"};
  return rank_file_spec(context_,
                        {options, digests, clock, device_.description()},
                        policy(),
                        resolved_,
                        workload_,
                        given_,
                        *model_);
}

std::vector<at::Tensor> PolicyCase::outputs_written() {
  const auto& outputs = outputs_.front();
  std::vector<at::Tensor> all = outputs.layers;
  for (const auto& tensor :
       {outputs.hidden, outputs.logits, outputs.logits_all, outputs.router_logits}) {
    if (tensor.defined()) {
      all.push_back(tensor);
    }
  }
  return all;
}

std::vector<at::Tensor> PolicyCase::cache_written() {
  std::vector<at::Tensor> all;
  const auto& slots = iteration_.steps().front().slot_mapping;
  for (const auto* tensors : {&iteration_.cache().keys, &iteration_.cache().values}) {
    for (const auto& tensor : *tensors) {
      all.push_back(at::index_select(tensor.flatten(0, 1), 0, slots));
    }
  }
  return all;
}

void expect_all_nan(const std::vector<at::Tensor>& tensors, bool is_nan) {
  EXPECT_FALSE(tensors.empty());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto found = at::isnan(tensors[i]);
    EXPECT_TRUE(is_nan ? found.all().item<bool>() : !found.any().item<bool>()) << "tensor " << i;
  }
}

}  // namespace dovetail::test

// What becomes of `execution` on a device: exchange, graphs, shares of the GPU, how steps are
// padded, and what a model is kept by.
#include "framework/run/resolve.hpp"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/key_documents.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/model_holder.hpp"
#include "framework/run/planned_steps.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_experiment;
using testing::FakeArchitecture;

const ResolvedPlace kGpus = {.device = DeviceKind::cuda, .device_name = "a GPU", .world_size = 2};

/// Of a build with CUDA, whatever this one is.
Capabilities with_cuda() {
  auto capabilities = build_capabilities({"fake"});
  capabilities.cuda = true;
  return capabilities;
}

ResolvedPolicy resolve(const Experiment& experiment,
                       const ResolvedPlace& place,
                       std::size_t policy = 0) {
  return resolve_policy(
      experiment, experiment.policies.at(policy), FakeArchitecture(), place, with_cuda());
}

Experiment decode_with(const std::string& policy, const std::string& workload = "") {
  return fake_experiment(
      "workload: {phase: decode, requests: {lengths: [1, 1, 1, 1], "
      "context_lengths: [10, 400, 3, 90]}" +
      workload +
      "}\n"
      "execution: {dtype: bfloat16}\n"
      "policies: [{name: p" +
      policy + "}]\n");
}

std::string check_groups_refusal(int num_groups, int experts_per_rank) {
  return testing::input_error_of(
      [&] { check_groups("ragged", /*on_gpu=*/false, num_groups, experts_per_rank); });
}

AgreementMessage reduced_step(const ResolvedPolicy& resolved,
                              const std::vector<std::int64_t>& contexts) {
  Batch batch;
  for (const auto context : contexts) {
    batch.requests.push_back({.id = 0, .query_length = 1, .context_length = context});
  }
  const auto slices = split_batch(batch, resolved.split, resolved.schedules.own.num_ubatches);
  return make_message({.rank = Rank(0), .batch = batch, .slices = slices});
}

TEST(ResolvePolicy, OnTheCpuNothingOfAGpuIsLeft) {
  const auto experiment = decode_with(", schedule: sequential, comm_sms: 4, graph_sizes: [16, 64]");
  auto resolved = resolve(experiment, {});
  EXPECT_EQ(resolved.execution.device, DeviceKind::cpu);
  EXPECT_EQ(resolved.execution.device_name, "cpu");
  EXPECT_EQ(resolved.execution.exchange, "ragged");
  EXPECT_FALSE(resolved.execution.exchange_reason.empty());
  EXPECT_EQ(resolved.execution.comm_sms, 0);
  EXPECT_EQ(resolved.execution.dtype, DType::bfloat16);
  const auto message = reduced_step(resolved, {1, 2, 3, 4});
  set_bounds(resolved, experiment.policies.front().execution, {&message, 1});
  EXPECT_TRUE(resolved.execution.graph_sizes.empty());
  EXPECT_TRUE(resolved.bounds.token_sizes.empty()) << "nothing is padded";
}

TEST(ResolvePolicy, OnAGpuTheExchangeBoundsTheGraphs) {
  const auto full = resolve(decode_with(", schedule: sequential, graph: full"), kGpus);
  EXPECT_EQ(full.execution.exchange, "symmetric");
  auto apart = kGpus;
  apart.gpus_apart = "ranks 0 and 1 are on hosts a and b";
  const auto without = resolve(decode_with(", schedule: sequential, graph: full"), apart);
  EXPECT_EQ(without.execution.exchange, "gather");
  EXPECT_NE(without.execution.exchange_reason.find(apart.gpus_apart), std::string::npos);
  EXPECT_EQ(full.execution.graph, GraphMode::full);
  EXPECT_EQ(full.execution.device_name, "a GPU");
  const auto pieces = resolve(
      decode_with(", schedule: sequential, exchange: ragged, graph: piecewise, comm_sms: 32"),
      kGpus);
  EXPECT_EQ(pieces.execution.graph, GraphMode::piecewise);
  EXPECT_EQ(pieces.execution.comm_sms, 32);
}

TEST(ResolvePolicy, AutoBoundsTheExchangeWhereItRunsBesideCompute) {
  const auto sms = [](const std::string& policy) {
    const auto execution = resolve(decode_with(policy), kGpus).execution;
    return std::pair(execution.comm_sms, execution.plain_comm_sms);
  };
  EXPECT_EQ(sms(", schedule: sequential"), std::pair(kAllSms, kAllSms));
  EXPECT_EQ(sms(", schedule: dual_batch"), std::pair(8, kAllSms)) << "vetoed steps run plain";
  EXPECT_EQ(sms(", schedule: expert_groups, groups: 2"), std::pair(8, kAllSms));
  EXPECT_EQ(sms(", schedule: dual_batch, comm_sms: auto"), std::pair(8, kAllSms));
  EXPECT_EQ(sms(", schedule: dual_batch, comm_sms: 8"), std::pair(8, 8));
  EXPECT_EQ(sms(", schedule: sequential, comm_sms: 16"), std::pair(16, 16));
}

TEST(ResolvePolicy, TheHardPartitionIsOfGpusAndOfTheSettingOfTimes) {
  const auto resolved = [](const std::string& policy) {
    return resolve(decode_with(", schedule: dual_batch" + policy), kGpus).execution;
  };
  EXPECT_EQ(resolved("").sm_partition, SmPartitionKind::soft);
  EXPECT_EQ(resolved(", sm_partition: hard").sm_partition, SmPartitionKind::hard);
  const auto refused = [](const std::string& policy, const ResolvedPlace& place) {
    return testing::input_error_of(
        [&] { resolve(decode_with(", schedule: dual_batch" + policy), place); });
  };
  EXPECT_EQ(refused(", sm_partition: hard", {}),
            "policy p: execution.sm_partition: hard on device cpu; allowed: soft, or device cuda");
  EXPECT_EQ(refused(", sm_partition: hard, comm_sms: 4", kGpus),
            "policy p: execution.sm_partition: hard with comm_sms 4; allowed: soft, or comm_sms "
            "auto, 8, 16, 32, 64");
  const auto setting = [&](const std::string& policy) {
    const auto experiment = decode_with(", schedule: dual_batch" + policy);
    return step_time_setting(
        experiment, experiment.policies.front().execution, resolve(experiment, kGpus).execution, 2);
  };
  EXPECT_EQ(setting("").count("sm_partition"), 0U) << "tables of before the key stay valid";
  EXPECT_EQ(setting(", sm_partition: hard").at("sm_partition"), "\"hard\"");
}

TEST(ResolvePolicy, WhatADeviceCannotRunIsRefusedByName) {
  const auto refused = [](const std::string& policy, const ResolvedPlace& place) {
    return testing::input_error_of([&] { resolve(decode_with(policy), place); });
  };
  EXPECT_NE(refused(", schedule: sequential, graph: full", {}).find("policy p: execution.graph"),
            std::string::npos);
  EXPECT_NE(refused(", schedule: sequential, exchange: ragged, graph: full", kGpus).find("ragged"),
            std::string::npos);
}

TEST(ResolvePolicy, GroupsOfExpertsThatNothingTakesAreRefusedByName) {
  const auto refused = [](const std::string& policy, const ResolvedPlace& place) {
    return testing::input_error_of([&] { resolve(decode_with(policy), place); });
  };
  for (const std::string exchange : {"gather", "ragged", "padded", "copy_engine"}) {
    EXPECT_EQ(refused(", schedule: expert_groups, groups: 2, exchange: " + exchange, kGpus),
              "policy p: 2 groups of experts: exchange '" + exchange +
                  "' on GPUs takes the experts of a rank as one; allowed: symmetric");
  }
  EXPECT_EQ(refused(", schedule: expert_groups, groups: 2", kGpus), "") << "auto is symmetric";
  auto apart = kGpus;
  apart.gpus_apart = "ranks 0 and 1 are on hosts a and b";
  EXPECT_NE(refused(", schedule: expert_groups, groups: 2", apart)
                .find("exchange 'gather' on GPUs takes the experts of a rank as one"),
            std::string::npos);
  EXPECT_EQ(refused(", schedule: expert_groups, groups: 1", kGpus), "");
  EXPECT_EQ(refused(", schedule: expert_groups, groups: 2", {}), "");
  EXPECT_EQ(check_groups_refusal(9, 16),
            "9 groups of experts: exchange 'ragged' on host ranks "
            "takes at most 8");
  EXPECT_EQ(check_groups_refusal(4, 3),
            "4 groups of experts: a rank has 3 experts; allowed: at most one group an expert");
  EXPECT_EQ(check_groups_refusal(3, 3), "");
  EXPECT_EQ(check_groups_refusal(2, 0), "") << "a model without experts";
}

/// The bounds that the steps of a policy are padded to.
std::vector<StepBounds> bounds_of(const Experiment& experiment,
                                  const std::vector<std::vector<std::int64_t>>& steps) {
  auto resolved = resolve(experiment, kGpus);
  std::vector<AgreementMessage> reduced;
  for (const auto& contexts : steps) {
    reduced.push_back(reduced_step(resolved, contexts));
  }
  set_bounds(resolved, experiment.policies.front().execution, reduced);
  const auto rule = agreement_rule(
      experiment.policies.front(), resolved.schedules, WorkPhase::decode, resolved.bounds);
  std::vector<StepBounds> bounds;
  for (const auto& message : reduced) {
    bounds.push_back(decide(message, rule).bounds);
  }
  return bounds;
}

/// One graph serves all contexts up to the longest: decode steps share their bounds however far
/// contexts grow.
TEST(ResolvePolicy, DecodeStepsShareTheirBounds) {
  const auto experiment =
      decode_with(", schedule: dual_batch, ubatches: 2, graph: full, exchange: gather");
  const auto bounds =
      bounds_of(experiment, {{10, 400, 3, 90}, {300, 700, 299, 390}, {5000, 6, 7, 8}});
  EXPECT_TRUE(bounds[0] == bounds[1]);
  EXPECT_TRUE(bounds[0] == bounds[2]);
  EXPECT_EQ(bounds[0].key_length, 5120);
  EXPECT_EQ(bounds[0].tokens[0], 2) << "equal steps are not padded";
}

/// A cut that moves from step to step gives other numbers of tokens; they are rounded.
TEST(ResolvePolicy, MovingCutsAreRoundedToSizes) {
  const auto experiment = decode_with(
      ", schedule: dual_batch, ubatches: 2, split: balanced, graph: full, exchange: gather");
  std::vector<std::vector<std::int64_t>> steps;
  for (std::int64_t first = 0; first < 64; ++first) {
    std::vector<std::int64_t> contexts(64, 100);
    for (std::int64_t i = 0; i < first; ++i) {
      contexts[static_cast<std::size_t>(i)] = 3000;
    }
    steps.push_back(contexts);
  }
  std::vector<StepBounds> different;
  for (const auto& bounds : bounds_of(experiment, steps)) {
    if (std::find(different.begin(), different.end(), bounds) == different.end()) {
      different.push_back(bounds);
    }
  }
  EXPECT_GT(different.size(), 1U) << "the cut does not move";
  EXPECT_LE(different.size(), 12U) << "of 64 steps";
}

TEST(ResolvePolicy, StatedSizesAreTaken) {
  const auto tokens_with = [](const std::string& keys,
                              const std::vector<std::vector<std::int64_t>>& steps) {
    std::vector<std::int64_t> tokens;
    const auto experiment = decode_with(", schedule: sequential, exchange: gather" + keys);
    for (const auto& bounds : bounds_of(experiment, steps)) {
      tokens.push_back(bounds.tokens[0]);
    }
    return tokens;
  };
  using Tokens = std::vector<std::int64_t>;
  const std::string full = ", graph: full";
  EXPECT_EQ(tokens_with(full + ", graph_sizes: [3, 16]", {{1, 2, 3, 4}, {1, 2}}), (Tokens{16, 3}));
  EXPECT_EQ(tokens_with(full + ", graph_sizes: [2]", {{1, 2, 3, 4}}), Tokens{4})
      << "more than the largest";
  EXPECT_EQ(tokens_with(full + ", graph_sizes: auto", {{1, 2, 3, 4, 5}, {1, 2}}), (Tokens{8, 2}));
  EXPECT_EQ(tokens_with(", graph_sizes: [3, 16]", {{1, 2, 3, 4}, {1, 2}}), (Tokens{16, 3}))
      << "eager steps are padded as captured ones are";
}

/// `auto` runs each schedule with the SMs under which its table has measured it.
TEST(ResolvePolicy, AutoTakesTheSmsOfItsTable) {
  const ScratchFolder folder;
  auto experiment = decode_with(", schedule: auto, table: t.json, comm_sms: 16");
  auto& policy = experiment.policies.front();
  policy.table = (folder.path() / "t.json").string();
  const auto plain = resolve(decode_with(", schedule: sequential"), kGpus);
  const auto dual = resolve(decode_with(", schedule: dual_batch"), kGpus);
  StepTimeTable table;
  table.setting = step_time_setting(experiment, policy.execution, plain.execution, 2);
  for (const auto* one : {&plain, &dual}) {
    table.points.push_back(
        {.policy = one->schedules.own.name,
         .schedule = one->schedules.own.name,
         .schedule_digest = std::to_string(one->schedules.own_digest),
         .ubatches = one->schedules.own.num_ubatches,
         .split = one->schedules.own.num_ubatches > 1 ? step_time_split(policy.split) : "",
         .comm_sms = one->execution.comm_sms,
         .tokens = 4,
         .context_tokens = 100,
         .one_token_each = true,
         .step_ms = 1});
  }
  std::ofstream(policy.table) << step_time_table_to_json(table);
  const auto resolved = resolve(experiment, kGpus);
  EXPECT_EQ(resolved.execution.comm_sms, 8);
  EXPECT_EQ(resolved.execution.plain_comm_sms, kAllSms);
  EXPECT_EQ(resolved.execution.comm_sms_of(0), 8);
  EXPECT_EQ(resolved.execution.comm_sms_of(1), kAllSms);
  const auto message = reduced_step(resolved, {100, 100, 100, 100});
  const auto planned = plan_steps(policy, resolved, WorkPhase::decode, {&message, 1});
  ASSERT_EQ(planned.size(), 1U);
  EXPECT_EQ(planned.front().describe(),
            "step 0 runs sequential (table_prefers_plain): the table says 1.000 ms with ubatches "
            "and 1.000 ms without, at 4 tokens and 100.0 tokens of context");
  auto beyond = planned.front();
  beyond.load.tokens = 9;
  EXPECT_TRUE(beyond.describe().ends_with(
      "(the table ends at 4 tokens: it says no more than the times there)"));
  beyond.load.tokens = 3;
  EXPECT_TRUE(beyond.describe().ends_with(
      "(the table starts at 4 tokens: it says no more than the times there)"));

  auto place = kGpus;
  place.device_name = "another GPU";
  EXPECT_NE(testing::input_error_of([&] { resolve(experiment, place); }).find("another setting"),
            std::string::npos);
  place.device_name = kUnknownGpu;
  EXPECT_EQ(resolve(experiment, place).execution.comm_sms, 8) << "it may be the table's";
  // Of several that fit, those that auto has by itself: as the policies beside it.
  auto several = table;
  for (const auto& point : table.points) {
    several.points.push_back(point);
    several.points.back().comm_sms = 32;
  }
  std::ofstream(policy.table) << step_time_table_to_json(several);
  policy.execution.comm_sms.reset();
  const auto own = resolve(experiment, kGpus).execution;
  EXPECT_EQ(own.comm_sms, 8);
  EXPECT_EQ(own.plain_comm_sms, kAllSms);
  policy.execution.comm_sms = 32;
  const auto stated = resolve(experiment, kGpus).execution;
  EXPECT_EQ(stated.comm_sms, 32);
  EXPECT_EQ(stated.plain_comm_sms, 32);
  for (auto& point : several.points) {
    point.comm_sms = 0;
  }
  several.points.resize(2);
  std::ofstream(policy.table) << step_time_table_to_json(several);
  EXPECT_EQ(resolve(experiment, kGpus).execution.plain_comm_sms, 32) << "the table does not say";
  table.setting["device"] = "\"cpu\"";
  std::ofstream(policy.table) << step_time_table_to_json(table);
  EXPECT_NE(testing::input_error_of([&] { resolve(experiment, place); }).find("device: \"cpu\""),
            std::string::npos);
}

TEST(PaddedCapacity, IsOfTheExchangesThatItsKeyNames) {
  const auto keys = experiment_keys();
  const auto key = std::find_if(keys.begin(), keys.end(), [](const KeyInfo& info) {
    return info.key == "execution.padded_capacity";
  });
  ASSERT_NE(key, keys.end());
  const ExchangeShape shape = {.ep_size = 2, .num_experts = 8, .top_k = 2, .hidden = 16};
  for (const auto& row : exchange_table()) {
    if (!row.on_gpu) {
      continue;
    }
    const auto bytes = [&](double capacity) {
      return exchange_buffer_bytes(row.name, /*on_gpu=*/true, shape, 1000, capacity);
    };
    EXPECT_EQ(key->help.find("`" + row.name + "`") != std::string::npos, bytes(0.5) != bytes(1.0))
        << row.name << ": " << key->help;
  }
}

/// A sweep over a link, which only the CPU emulates, beside `device: auto`, which is a GPU without.
TEST(ModelKey, FollowsTheDeviceThatWasChosen) {
  const auto experiment = decode_with(", schedule: sequential");
  const DevicePlacement cpu;
  const DevicePlacement gpu = {.kind = DeviceKind::cuda, .ordinal = 0, .name = "a GPU"};
  EXPECT_TRUE(model_key(experiment, cpu) == model_key(experiment, cpu));
  EXPECT_FALSE(model_key(experiment, cpu) == model_key(experiment, gpu));
  auto other = experiment;
  other.workload.seed = 99;
  EXPECT_TRUE(model_key(experiment, gpu) == model_key(other, gpu)) << "the workload is no part";
  other.model.weights = SeedWeights{5};
  EXPECT_FALSE(model_key(experiment, gpu) == model_key(other, gpu));
}

}  // namespace
}  // namespace dovetail

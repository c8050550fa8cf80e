// The keys of a policy that make its schedule: stages, schedule files, auto. How they are read,
// dumped and refused.
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/config/validate.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/stages.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

const std::string kHead = R"(experiment: small
model: {architecture: qwen3_moe, config: tiny.json}
workload: {phase: prefill, requests: {count: 8, length: 128}}
policies:
  - {name: sequential}
)";

/// The policies of a build, and the rules of its stages.
Capabilities capabilities() {
  Capabilities all;
  all.architectures = {"qwen3_moe"};
  for (const auto& name : policies().names()) {
    const auto& policy = policies().at(name);
    all.policies.push_back({name,
                            policy.min_ubatches,
                            policy.max_ubatches,
                            policy.default_ubatches,
                            policy.max_groups});
  }
  for (const auto& split : split_kinds()) {
    all.splits.push_back(split.name);
  }
  all.find_stages_problem = [](const StagesConfig& stages,
                               int num_groups) -> std::optional<ConfigProblem> {
    const auto problem = find_stages_problem(stages, num_groups);
    return problem ? std::optional<ConfigProblem>({problem->place, problem->message})
                   : std::nullopt;
  };
  return all;
}

/// The second policy of an experiment: `text` in line 6 from column 5 on.
PolicyConfig read(const std::string& text) {
  const auto loaded = parse_experiment(kHead + "  - " + text + "\n", "x.yaml");
  validate(loaded, capabilities());
  return loaded.experiment.policies.at(1);
}

/// What is refused, without "x.yaml:".
std::string refusal(const std::string& text) {
  const std::string what = testing::input_error_of([&] { read(text); });
  EXPECT_TRUE(what.empty() || what.starts_with("x.yaml:")) << what;
  return what.substr(std::min<std::size_t>(what.size(), 7));
}

const StageList kNoCut = {{{"attention", ""}, {"mlp", ""}}};

TEST(PolicyKeys, ReadStages) {
  EXPECT_FALSE(read("{name: staged}").stages);
  EXPECT_EQ(read("{name: a, schedule: staged, stages: decode}").stages->preset, "decode");
  const auto lists =
      *read(
           "{name: a, schedule: staged, stages: {moe: [[attention, route, {dispatch: comm}], "
           "[experts, {combine: compute}], []], delta: 3}}")
           .stages;
  const StageList moe = {{{"attention", ""}, {"route", ""}, {"dispatch", "comm"}},
                         {{"experts", ""}, {"combine", "compute"}},
                         {}};
  EXPECT_EQ(lists, (StagesConfig{"", moe, kNoCut, 3}));
  const auto dense = *read(
                          "{name: staged, stages: {moe: [[attention, route, dispatch, experts, "
                          "combine]], dense: [[attention], [mlp]]}}")
                          .stages;
  EXPECT_EQ(dense.dense, (StageList{{{"attention", ""}}, {{"mlp", ""}}}));
  EXPECT_EQ(dense.delta, 0);
}

TEST(PolicyKeys, ReadFilesAndAuto) {
  EXPECT_EQ(read("{name: a, schedule: folder/own.json}").schedule, "folder/own.json");
  const auto policy = read(
      "{name: a, schedule: auto, table: t.json, candidate: staged, stages: decode, ubatches: 4, "
      "split: balanced, thresholds: {prefill: 64}}");
  EXPECT_EQ(policy.table, "t.json");
  EXPECT_EQ(policy.candidate, "staged");
  EXPECT_EQ(policy.stages->preset, "decode");
  EXPECT_EQ(policy.thresholds.prefill, 64);
  EXPECT_EQ(policy.split.kind, "balanced");
  EXPECT_EQ(read("{name: auto, table: t.json}").candidate, "dual_batch");
  EXPECT_EQ(read("{name: auto, table: t.json, candidate: own.json}").candidate, "own.json");
}

TEST(PolicyKeys, AreDumpedAndReadBackEqual) {
  const std::string all_of_staged =
      "{name: a, schedule: staged, stages: {moe: [[attention, route, {dispatch: compute}], [], "
      "[experts, combine, shared_experts], []], dense: [[attention], [], [mlp]], delta: 2}}";
  for (const std::string& text : std::vector<std::string>{
           all_of_staged,
           "{name: staged}",
           "{name: staged, stages: decode, ubatches: 1}",
           "{name: a, schedule: 'a folder/own.json', ubatches: 3}",
           "{name: a, schedule: auto, table: 'a: b.json'}",
           "{name: a, schedule: auto, table: t.json, candidate: staged, stages: prefill}",
           "{name: a, schedule: auto, table: t.json, candidate: x.json}"}) {
    const auto experiment = parse_experiment(kHead + "  - " + text + "\n", "x").experiment;
    const auto dumped = dump(experiment);
    const auto again = parse_experiment(dumped, "dump");
    EXPECT_EQ(again.experiment, experiment) << dumped;
    EXPECT_NO_THROW(validate(again, capabilities())) << dumped;
    EXPECT_EQ(dump(again.experiment), dumped);
  }
}

/// Keys of one overlap policy appear in no other's dump, since they would be refused there.
TEST(PolicyKeys, OfOtherPoliciesAreNotDumped) {
  const auto text = dump(parse_experiment(kHead, "x").experiment);
  for (const char* key : {"stages:", "candidate:", "table:"}) {
    EXPECT_EQ(text.find(key), std::string::npos) << key;
  }
}

TEST(PolicyKeys, DumpsOfDifferentStagesDiffer) {
  std::mt19937_64 random(std::random_device{}());
  std::map<std::string, StagesConfig> seen;
  for (int round = 0; round < 500; ++round) {
    Experiment experiment = parse_experiment(kHead, "x").experiment;
    StagesConfig stages;
    stages.delta = static_cast<int>(random() % 3);
    for (auto lists = random() % 3; lists > 0; --lists) {
      stages.moe.emplace_back();
      for (auto items = random() % 3; items > 0; --items) {
        const std::vector<std::string> words = {"route", "x y", "7", "{", "comm", "~", "a: b"};
        const auto lane = random() % 2 == 0 ? "" : words[random() % words.size()];
        stages.moe.back().push_back({words[random() % words.size()], lane});
      }
    }
    experiment.policies[0].stages = stages;
    const auto text = dump(experiment);
    EXPECT_EQ(parse_experiment(text, "x").experiment, experiment) << text;
    const auto [found, is_new] = seen.emplace(text, stages);
    EXPECT_EQ(found->second, stages);
  }
}

TEST(PolicyKeys, RefuseStagesThatBreakARuleAtTheirPlace) {
  const std::string start = "{name: a, schedule: staged, stages: ";
  EXPECT_EQ(refusal(start + "half}"),
            "6:41: policies[1].stages: unknown preset 'half'; known: prefill, decode, or stage "
            "lists {moe: [...], dense: [...], delta: n}");
  EXPECT_EQ(refusal(start + "{moe: [[attention, route, dispatch], [experts]]}}"),
            "6:47: policies[1].stages.moe: combine is missing; needed, in this order: attention, "
            "route, dispatch, experts, combine");
  EXPECT_EQ(refusal(start + "{moe: [[attention, router, dispatch], [experts, combine]]}}"),
            "6:60: policies[1].stages.moe[0][1]: unknown phase 'router'; allowed: attention, "
            "route, dispatch, experts, combine, shared_experts");
  EXPECT_EQ(refusal(start + "{moe: [[attention, route, dispatch], [{experts: comm}, combine]]}}"),
            "6:79: policies[1].stages.moe[1][0]: experts on the comm lane; allowed there: "
            "dispatch, combine");
  EXPECT_EQ(refusal(start + "{moe: [[attention, route, {dispatch: gpu}], [experts, combine]]}}"),
            "6:67: policies[1].stages.moe[0][2]: unknown lane 'gpu'; allowed: compute, comm");
  EXPECT_EQ(refusal(start + "{moe: [[attention, dispatch, route], [experts, combine]]}}"),
            "6:60: policies[1].stages.moe[0][1]: dispatch comes before route, whose result it "
            "needs");
  EXPECT_EQ(refusal(start + "{moe: [[attention, route, dispatch, route], [experts, combine]]}}"),
            "6:77: policies[1].stages.moe[0][3]: route is there twice; allowed: once");
  EXPECT_EQ(refusal(start + "{moe: [[attention, route, dispatch, experts, combine]], dense: []}}"),
            "6:104: policies[1].stages.dense: attention is missing; needed, in this order: "
            "attention, mlp");
}

TEST(PolicyKeys, RefuseStagesOfAWrongType) {
  const std::string start = "{name: a, schedule: staged, stages: ";
  const auto expect = [&](const std::string& stages, const std::string& what) {
    EXPECT_EQ(refusal(start + stages + "}").find(what), 0U) << refusal(start + stages + "}");
  };
  expect("{dense: [[attention, mlp]]}", "6:41: policies[1].stages: the key 'moe' is missing");
  expect("{moe: attention}",
         "6:47: policies[1].stages.moe: expected a list of stages, each a list");
  expect("{moe: [attention]}",
         "6:48: policies[1].stages.moe[0]: expected a stage: a list of phases, found 'attention'");
  expect("{moe: [[{a: comm, b: comm}]]}",
         "6:49: policies[1].stages.moe[0][0]: expected the name of a phase or {phase: lane}");
  expect("{moe: [[[attention]]]}", "6:49: policies[1].stages.moe[0][0]: expected the name of a");
  expect("{moe: [[{dispatch: 1}]]}",
         "6:60: policies[1].stages.moe[0][0].dispatch: expected a lane (in quotes");
  expect("{moe: [], delta: -1}",
         "6:58: policies[1].stages.delta: expected a whole number from 0 to 1000");
  expect("{moe: [], detla: 1}",
         "6:51: policies[1].stages: unknown key 'detla'; did you mean 'delta'?");
  expect("[[attention]]", "6:41: policies[1].stages: expected the name of a preset or {moe:");
}

TEST(PolicyKeys, RefuseKeysOfAnotherOverlapPolicy) {
  EXPECT_EQ(refusal("{name: dual_batch, stages: decode}"),
            "6:32: policies[1].stages: the overlap policy is 'dual_batch'; allowed: only with "
            "staged");
  EXPECT_EQ(refusal("{name: a, schedule: own.json, stages: decode}")
                .find("6:43: policies[1].stages: the overlap policy is 'own.json'"),
            0U);
  EXPECT_EQ(refusal("{name: auto, table: t.json, stages: decode}")
                .find("6:41: policies[1].stages: the overlap policy is 'dual_batch'"),
            0U);
  EXPECT_EQ(refusal("{name: staged, table: t.json}"),
            "6:27: policies[1].table: the overlap policy is 'staged'; allowed: only with auto");
  EXPECT_EQ(refusal("{name: dual_batch, candidate: dual_batch}"),
            "6:35: policies[1].candidate: the overlap policy is 'dual_batch'; allowed: only with "
            "auto");
}

TEST(PolicyKeys, RefuseAutoWithoutATableOrWithACandidateThatIsNone) {
  EXPECT_EQ(refusal("{name: auto}"),
            "6:5: policies[1]: auto decides by a table of step times; needed: table: FILE");
  for (const std::string bad : {"auto", "sequential", "shared_expert", "dual", "own.jsn"}) {
    const auto message = refusal("{name: auto, table: t.json, candidate: " + bad + "}");
    EXPECT_TRUE(message.starts_with("6:44: policies[1].candidate: auto cannot choose '" + bad +
                                    "' against sequential; allowed: ") &&
                message.ends_with(", or the path of a schedule file (*.json)"))
        << message;
    EXPECT_EQ(message.find(bad + ","), std::string::npos) << message;
  }
}

TEST(PolicyKeys, ReadGroupsOfExpertsWhereTheyAreCut) {
  EXPECT_EQ(read("{name: expert_groups}").groups, 0);
  EXPECT_EQ(read("{name: a, schedule: expert_groups, groups: 8, ubatches: 2}").groups, 8);
  EXPECT_EQ(read("{name: a, schedule: auto, table: t.json, candidate: expert_groups, ubatches: 2, "
                 "groups: 4}")
                .groups,
            4);
  EXPECT_EQ(refusal("{name: dual_batch, groups: 2}"),
            "6:32: policies[1].groups: the overlap policy is 'dual_batch'; allowed: only with "
            "expert_groups, staged");
  EXPECT_EQ(read("{name: staged, stages: prefill, groups: 2}").groups, 2);
  const std::string lists =
      "{moe: [[attention, route, dispatch], [experts g0, combine g0], "
      "[experts g1, {combine g1: compute}]], dense: [[attention, mlp]]}";
  EXPECT_EQ(read("{name: staged, groups: 2, stages: " + lists + "}").stages->moe[2],
            (std::vector<StagePhase>{{"experts g1", ""}, {"combine g1", "compute"}}));
  EXPECT_NE(refusal("{name: staged, stages: " + lists + "}")
                .find("policies[1].stages.moe[2][0]: group 'g1' of experts"),
            std::string::npos);
  EXPECT_NE(refusal("{name: a, schedule: x.json, groups: 2}"), "") << "the file has its own";
  EXPECT_NE(refusal("{name: expert_groups, groups: 9}"), "");
  EXPECT_EQ(refusal("{name: auto, table: t.json, candidate: expert_groups}")
                .find("6:5: policies[1].ubatches: 1 ubatch in expert_groups; allowed: 2 to 8"),
            0U);
}

TEST(PolicyKeys, RefuseUbatchesThatTheScheduleDoesNotTake) {
  EXPECT_EQ(read("{name: staged, ubatches: 1}").ubatches, 1);
  EXPECT_EQ(refusal("{name: auto, table: t.json, candidate: staged, ubatches: 1}"),
            "6:62: policies[1].ubatches: 1 ubatch in staged; allowed: 2 to 8");
  EXPECT_EQ(refusal("{name: auto, table: t.json, ubatches: 1}"),
            "6:43: policies[1].ubatches: 1 ubatch in dual_batch; allowed: 2 to 8");
  EXPECT_EQ(refusal("{name: auto, table: t.json, candidate: x.json, ubatches: 1}"),
            "6:62: policies[1].ubatches: 1 ubatch in x.json; allowed: 2 to 8");
  EXPECT_EQ(read("{name: a, schedule: x.json, ubatches: 1}").ubatches, 1);
  EXPECT_EQ(refusal("{name: staged, ubatches: 4, split: {sizes: [1, 2]}}")
                .find("6:40: policies[1].split: 2 sizes for 4 ubatches"),
            0U);
  EXPECT_EQ(refusal("{name: auto, table: t.json, ubatches: 4, thresholds: {decode: 3}}")
                .find("6:67: policies[1].thresholds.decode: 3 tokens for 4 ubatches"),
            0U);
}

TEST(PolicyKeys, RefuseUnknownOverlapPoliciesAndSplits) {
  EXPECT_EQ(refusal("{name: a, schedule: stages}"),
            "6:25: policies[1].schedule: unknown overlap policy 'stages'; known: " +
                join_names(policies().names()) + ", or the path of a schedule file (*.json)");
  EXPECT_EQ(refusal("{name: mine}").find("6:12: policies[1].name: unknown overlap policy 'mine'"),
            0U);
  EXPECT_EQ(
      refusal("{name: a, schedule: [[attention]]}")
          .find("6:25: policies[1].schedule: expected the name of an overlap policy or the path"),
      0U);
  EXPECT_EQ(refusal("{name: staged, split: even}"),
            "6:27: policies[1].split: unknown split 'even'; known: token_midpoint, request, "
            "balanced, sizes");
}

}  // namespace
}  // namespace dovetail

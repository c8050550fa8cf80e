// --set: what it reaches, and how it fails.
#include <gtest/gtest.h>

#include "framework/config/load.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

Experiment with(const std::vector<std::string>& overrides) {
  return parse_experiment(testing::kSmall, "small.yaml", overrides).experiment;
}

TEST(Override, EqualsTheSameTextInTheFile) {
  struct Case {
    std::string setting, from, to;
  };

  const std::vector<Case> cases = {
      {"experiment=other", "experiment: small", "experiment: other"},
      {"model.weights={checkpoint: a/b}", "{seed: 42}", "{checkpoint: a/b}"},
      {"model.weights.seed=43", "{seed: 42}", "{seed: 43}"},
      {"workload.requests.length=3", "length: 128", "length: 3"},
      {"workload.requests={lengths: [3, 4]}", "{count: 8, length: 128}", "{lengths: [3, 4]}"},
      {"workload.rank_scale[1]=0", "0.75", "0"},
      {"workload.rank_scale=[]", "[1.0, 0.75]", "[]"},
      {"workload.routing={replay: \"a=b\"}",
       "  rank_scale",
       "  routing: {replay: a=b}\n  rank_scale"},
      {"execution.timeout_s=5", "{iterations: 10}", "{iterations: 10, timeout_s: 5}"},
      {"policies[1].ubatches=4", "ubatches: 2", "ubatches: 4"},
      {"policies.dual_batch.ubatches=4", "ubatches: 2", "ubatches: 4"},
      {"policies.sequential.name=plain", "name: sequential", "name: plain"},
      {"policies[0]={name: x}", "{name: sequential}", "{name: x}"},
      {"policies.dual_batch={name: x}", "{name: dual_batch, ubatches: 2}", "{name: x}"},
      {"policies.dual_batch.thresholds.prefill=64",
       "ubatches: 2",
       "ubatches: 2, thresholds: {prefill: 64}"},
      {"record.outputs[1]=routing", "[hidden, logits]", "[hidden, routing]"},
      {"fault.kind=hang", "verify:", "fault: {kind: hang, rank: 1}\nverify:"},
  };
  for (const Case& one : cases) {
    std::vector<std::string> settings = {one.setting};
    if (one.setting.starts_with("fault")) {
      settings.emplace_back("fault.rank=1");
    }
    const Experiment expected =
        parse_experiment(testing::replaced(testing::kSmall, one.from, one.to), "x").experiment;
    EXPECT_EQ(with(settings), expected) << one.setting;
    EXPECT_NE(with(settings), with({})) << one.setting;
  }
}

TEST(Override, LaterOnesWinAndPoliciesInheritTheNewValue) {
  const Experiment experiment = with({"execution.warmup=5", "execution.warmup=6"});
  EXPECT_EQ(experiment.execution.warmup, 6);
  EXPECT_EQ(experiment.policies[1].execution.warmup, 6);
}

TEST(Override, FillsAnEmptySection) {
  const std::string text = testing::replaced(testing::kSmall, "{iterations: 10}", "");
  EXPECT_NE(testing::input_error_of([&] { parse_experiment(text, "x"); }), "");
  EXPECT_EQ(parse_experiment(text, "x", {"execution.warmup=1"}).experiment.execution.warmup, 1);
}

TEST(Override, MarksNameTheSetting) {
  const auto loaded =
      parse_experiment(testing::kSmall, "small.yaml", {"policies.dual_batch.ubatches=4"});
  EXPECT_EQ(find_mark(loaded, "policies[1].ubatches"),
            (SourceMark{"--set policies.dual_batch.ubatches=4", 0, 0}));
  EXPECT_EQ(find_mark(loaded, "policies[1].name"), (SourceMark{"small.yaml", 14, 12}));
  EXPECT_EQ(find_mark(loaded, "policies[1].split.sizes[3]"), (SourceMark{"small.yaml", 14, 5}));
  EXPECT_EQ(find_mark(loaded, "fault.kind"), (SourceMark{"small.yaml", 1, 1}));
}

TEST(Override, ErrorsNameTheSetting) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"execution.warmup", "no '='"},
      {"=5", "not a key path"},
      {"execution.=5", "not a key path"},
      {".execution=5", "not a key path"},
      {"execution..warmup=5", "not a key path"},
      {"policies[x].ubatches=5", "not a key path"},
      {"policies[-1].ubatches=5", "not a key path"},
      {"policies[0.ubatches=5", "not a key path"},
      {"policies[0]ubatches=5", "not a key path"},
      {"[0]=5", "not a key path"},
      {"policies[2].ubatches=5", "policies has 2 items, counted from 0"},
      {"policies[18446744073709551615].ubatches=5", "policies has 2 items"},
      {"model[0]=5", "model is a map, not a list"},
      {"policies.triple.ubatches=5", "unknown policy 'triple'; known: sequential, dual_batch"},
      {"experiment.name=5", "experiment is 'small', not a map"},
      {"workload.rank_scale.a=5", "workload.rank_scale is a list, not a map"},
      {"execution.warmup=", "no YAML document"},
      {"execution.warmup=~",
       "execution.warmup: expected a whole number from 0 to 1000000, found "
       "nothing"},
      {"execution.warmup=1.5", "execution.warmup: expected a whole number"},
      {"execution.warmpu=1", "did you mean 'warmup'?"},
      {"exekution.warmup=1", "unknown key 'exekution'; did you mean 'execution'?"},
      {"execution.warmup=[1", "end of sequence flow not found"},
      {"execution.warmup=1\n--- 2", "a second document"},
      {"model.weights={seed: 1, seed: 2}", "duplicate key 'seed'"},
      {"model.weights.checkpoint=x", "exactly one key of seed, checkpoint"},
  };
  for (const auto& [setting, fragment] : cases) {
    const std::string setting_copy = setting;
    const std::string what = testing::input_error_of([&] { with({setting_copy}); });
    EXPECT_NE(what.find(fragment), std::string::npos) << setting << "\n" << what;
    if (setting != "model.weights.checkpoint=x") {  // the map is the file's
      EXPECT_TRUE(what.starts_with("--set " + setting.substr(0, setting.find('\n')))) << what;
    }
  }
}

TEST(Override, KnownNamesAreQuotedAsReadableText) {
  const auto text = testing::replaced(testing::kSmall, "{name: sequential}", "{name: \"a\\x1bb\"}");
  const auto message =
      testing::input_error_of([&] { parse_experiment(text, "x", {"policies.other.ubatches=2"}); });
  EXPECT_NE(message.find("known: a?b, dual_batch"), std::string::npos) << message;
}

}  // namespace
}  // namespace dovetail

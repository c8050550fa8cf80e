#include "framework/config/sweep.hpp"

#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "framework/config/dump.hpp"
#include "framework/config/yaml_write.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

using Texts = std::vector<std::string>;

/// kSmall has 16 lines, so `sweep:` is line 17 and its keys follow.
Sweep sweep_of(const std::string& axes, const Texts& overrides = {}, const Texts& policies = {}) {
  return {testing::kSmall + "sweep:\n" + axes, "small.yaml", overrides, policies};
}

/// What the constructor, or else reading any point, throws.
std::string error_of(const std::string& axes,
                     const Texts& overrides = {},
                     const Texts& policies = {}) {
  return testing::input_error_of([&] {
    const Sweep sweep = sweep_of(axes, overrides, policies);
    for (std::size_t point = 0; point < sweep.num_points(); ++point) {
      static_cast<void>(sweep.load(point));
    }
  });
}

TEST(Sweep, AFileWithoutAxesIsOnePoint) {
  for (const auto* end : {"", "sweep: none\n"}) {
    const Sweep sweep(testing::kSmall + end, "small.yaml", {"execution.warmup=7"}, {"dual_batch"});
    EXPECT_FALSE(sweep.is_sweep());
    ASSERT_EQ(sweep.num_points(), 1U);
    EXPECT_EQ(sweep.load(0).experiment,
              parse_experiment(testing::kSmall, "x", {"execution.warmup=7"}).experiment);
    EXPECT_EQ(sweep.policies(0), Texts{"dual_batch"});
  }
}

TEST(Sweep, PointsAreAllCombinationsTheLastAxisFastest) {
  const Sweep sweep = sweep_of(
      "  workload.requests.count: [1, 2, 4]\n"
      "  execution.exchange: [gather, ragged]\n");
  ASSERT_EQ(sweep.num_points(), 6U);
  EXPECT_EQ(sweep.values(0), (Texts{"1", "gather"}));
  EXPECT_EQ(sweep.values(1), (Texts{"1", "ragged"}));
  EXPECT_EQ(sweep.values(5), (Texts{"4", "ragged"}));
  EXPECT_EQ(sweep.describe(3),
            "point 3 of the sweep (workload.requests.count = 2, execution.exchange = ragged)");
}

// The oracle: each value set from the command line.
TEST(Sweep, APointIsTheFileWithItsValuesSet) {
  const std::vector<std::pair<std::string, Texts>> axes = {
      {"workload.requests", {"{count: 3, length: 5}", "{lengths: [1, 2, 3]}"}},
      {"workload.rank_scale[1]", {"0", "0.5"}},
      {"policies.dual_batch.ubatches", {"2", "3", "8"}},
      {"execution", {"{link: {latency_us: 20, gbytes_per_s: 1}}", "{link: none, warmup: 0}"}},
      {"verify.routing", {"natural", "\"replay\""}}};
  std::string text;
  for (const auto& [key, values] : axes) {
    text += "  \"" + key + "\":\n";
    for (const std::string& value : values) {
      text += "    - " + value + "\n";
    }
  }
  const Sweep sweep = sweep_of(text, {"workload.seed=77"});
  ASSERT_EQ(sweep.num_points(), 48U);
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    Texts settings = {"workload.seed=77"};
    std::size_t rest = point;
    for (std::size_t axis = axes.size(); axis-- > 0;) {
      const Texts& values = axes[axis].second;
      settings.push_back(axes[axis].first + "=" + values[rest % values.size()]);
      rest /= values.size();
    }
    EXPECT_EQ(sweep.load(point).experiment,
              parse_experiment(testing::kSmall, "x", settings).experiment)
        << sweep.describe(point);
  }
}

TEST(Sweep, PoliciesAreChosenByNameOrByAList) {
  const Sweep sweep = sweep_of("  policies: [dual_batch, [sequential, dual_batch]]\n");
  EXPECT_EQ(sweep.policies(0), Texts{"dual_batch"});
  EXPECT_EQ(sweep.policies(1), (Texts{"sequential", "dual_batch"}));
  EXPECT_EQ(sweep.load(0).experiment.policies.size(), 2U) << "all; which of them run is apart";
  const Sweep both = sweep_of("  policies: [dual_batch]\n  policies.dual_batch.ubatches: [2, 3]\n");
  EXPECT_EQ(both.load(1).experiment.policies[1].ubatches, 3) << "choosing is not changing";
}

TEST(Sweep, AnAxisThatChoosesPoliciesLeavesSettingThem) {
  for (const auto* setting : {"policies.dual_batch.ubatches=4", "policies[1].ubatches=4"}) {
    const Sweep sweep = sweep_of("  policies: [sequential, dual_batch]\n", {setting});
    EXPECT_EQ(sweep.load(1).experiment.policies[1].ubatches, 4);
  }
  const Sweep others =
      sweep_of("  \"policies[1].ubatches\": [2]\n  policies.sequential.page_size: [4]\n",
               {"policies[0].exchange=gather"});
  EXPECT_EQ(others.num_points(), 1U) << "other keys, and another policy";
}

TEST(Sweep, ThePolicyOptionIsAnAxisOfOneValue) {
  const Sweep sweep = sweep_of("  workload.seed: [1, 2]\n", {}, {"dual_batch"});
  EXPECT_EQ(sweep.num_points(), 2U);
  EXPECT_EQ(sweep.policies(1), Texts{"dual_batch"});
  EXPECT_NE(sweep.text(), sweep_of("  workload.seed: [1, 2]\n").text());
  EXPECT_EQ(sweep.text(), sweep_of("  workload.seed: [1, 2]\n  policies: [[dual_batch]]\n").text());
}

TEST(Sweep, TheTextReadsBackAsTheSameSweep) {
  const Sweep sweep = sweep_of(
      "  workload.requests.count: [1, 2]\n"
      "  \"policies[1].ubatches\": [2, 3]  # a comment\n"
      "  policies: [[sequential, dual_batch], dual_batch]\n",
      {"execution.iterations=3"});
  const Sweep again(sweep.text(), "again.yaml");
  EXPECT_EQ(again.text(), sweep.text());
  ASSERT_EQ(again.num_points(), sweep.num_points());
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    EXPECT_EQ(again.load(point).experiment, sweep.load(point).experiment);
    EXPECT_EQ(again.policies(point), sweep.policies(point));
  }
  EXPECT_EQ(again.load(0).experiment.execution.iterations, 3);
  EXPECT_NE(sweep_of("  workload.seed: [1]\n").text(), sweep_of("  workload.seed: [2]\n").text());
}

TEST(Sweep, ADumpedExperimentKeepsItsAxes) {
  const std::string text = testing::kSmall +
                           "sweep: {workload.requests.count: [1, 2], policies: [[sequential], "
                           "dual_batch], \"policies[1].ubatches\": [2]}\n";
  const Experiment experiment = parse_experiment(text, "x").experiment;
  EXPECT_EQ(experiment.sweep,
            (std::vector<SweepAxis>{{"workload.requests.count", {"1", "2"}},
                                    {"policies", {"[sequential]", "dual_batch"}},
                                    {"policies[1].ubatches", {"2"}}}));
  EXPECT_EQ(parse_experiment(dump(experiment), "dump").experiment, experiment);
}

TEST(Sweep, ErrorsOfAPointNameTheValuesPlaceAndThePoint) {
  EXPECT_EQ(error_of("  execution.exchange: [gather, ragged]\n"
                     "  workload.requests.count: [1, 2, many]\n"),
            "small.yaml:19:35: workload.requests.count: expected a whole number from 1 to 1000000, "
            "found 'many' (point 2 of the sweep (execution.exchange = gather, "
            "workload.requests.count = many))");
  const std::string unknown = error_of("  execution.iteration: [1]\n");
  EXPECT_EQ(unknown.find("small.yaml:18:3: execution: unknown key 'iteration'"), 0U) << unknown;
  EXPECT_NE(unknown.find("(point 0 of the sweep (execution.iteration = 1))"), std::string::npos);
  EXPECT_EQ(error_of("  policies.triple.ubatches: [3]\n"),
            "small.yaml:18:3: unknown policy 'triple'; known: sequential, dual_batch "
            "(point 0 of the sweep (policies.triple.ubatches = 3))");
  EXPECT_EQ(error_of("  policies: [sequential, [dual_batch, triple]]\n"),
            "small.yaml:18:26: unknown policy 'triple'; the experiment has: sequential, dual_batch "
            "(point 1 of the sweep (policies = [dual_batch, triple]))");
}

struct BadSweep {
  std::string axes;
  std::string message;
  Texts overrides;
  Texts policies;
};

TEST(Sweep, MalformedAxesAreRefusedAtTheirPlace) {
  const std::vector<BadSweep> cases = {
      {"  workload.seed: []\n",
       "small.yaml:18:18: sweep.workload.seed: expected a list of at least one value, found",
       {},
       {}},
      {"  workload.seed: 4\n",
       "small.yaml:18:18: sweep.workload.seed: expected a list of at least one value, found '4'",
       {},
       {}},
      {"  workload.seed: [1]\n  workload.seed: [2]\n", "small.yaml:19:3: ", {}, {}},
      {"  workload.requests.count: [1]\n  workload.requests: [{lengths: [2]}]\n",
       "small.yaml:19:3: sweep.workload.requests: is swept already, by 'workload.requests.count'",
       {},
       {}},
      {"  experiment: [a, b]\n",
       "small.yaml:18:3: sweep.experiment: cannot be swept; allowed: any other key",
       {},
       {}},
      {"  sweep.workload.seed: [[1]]\n",
       "small.yaml:18:3: sweep.sweep.workload.seed: cannot",
       {},
       {}},
      {"  policies: [[]]\n",
       "small.yaml:18:14: sweep.policies: expected the name of a policy",
       {},
       {}},
      {"  policies: [[dual_batch, dual_batch]]\n",
       "small.yaml:18:27: sweep.policies[1]: 'dual_batch' is there twice",
       {},
       {}},
      {"  policies: [dual_batch]\n",
       "--policy: the sweep has an axis 'policies'; choose there",
       {},
       {"sequential"}},
      {"  workload.seed: [1]\n",
       "--policy: unknown policy 'triple'; the experiment",
       {},
       {"triple"}},
      {"  workload.seed: [1]\n",
       "--set workload.seed=4: 'workload.seed' is swept",
       {"workload.seed=4"},
       {}},
      {"  workload.requests.count: [1]\n",
       "--set workload.requests={count: 4, length: 1}: 'workload.requests.count' is swept",
       {"workload.requests={count: 4, length: 1}"},
       {}},
      {"  workload.requests: [{lengths: [2]}]\n",
       "--set workload.requests.count=4: 'workload.requests' is swept",
       {"workload.requests.count=4"},
       {}},
      {"  \"policies[1].ubatches\": [2]\n",
       "--set policies.dual_batch.ubatches=4: 'policies[1].ubatches' is swept",
       {"policies.dual_batch.ubatches=4"},
       {}},
      {"  policies.dual_batch.ubatches: [2]\n",
       "--set policies[1].ubatches=4: 'policies.dual_batch.ubatches' is swept",
       {"policies[1].ubatches=4"},
       {}},
      {"  policies.dual_batch.ubatches: [2]\n  \"policies[1].ubatches\": [3]\n",
       "small.yaml:19:3: sweep.policies[1].ubatches: is swept already, by "
       "'policies.dual_batch.ubatches'",
       {},
       {}},
      {"  \"policies[1]\": [{name: dual_batch}]\n  policies.dual_batch.ubatches: [3]\n",
       "small.yaml:19:3: sweep.policies.dual_batch.ubatches: is swept already, by 'policies[1]'",
       {},
       {}},
      {"  workload..seed: [1]\n", "small.yaml:18:3: not a key path", {}, {}},
  };
  for (const BadSweep& one : cases) {
    const std::string error = error_of(one.axes, one.overrides, one.policies);
    EXPECT_EQ(error.find(one.message), 0U) << one.axes << "said: " << error;
  }
  EXPECT_EQ(testing::input_error_of([] {
              Sweep(testing::kSmall + "sweep: [1]\n", "x");
            }).find("x:17:8: sweep: expected none, or a map of keys"),
            0U);
  EXPECT_EQ(testing::input_error_of([] {
              Sweep(testing::kSmall + "sweep: {}\n", "x");
            }).find("x:17:8: sweep: expected none, or a map of keys"),
            0U);
  EXPECT_EQ(error_of("  workload.seed: [1]\n", {"workload.seeds=4"}).find("--set workload.seeds=4"),
            0U)
      << "other settings are taken, and judged with the points";
}

TEST(Sweep, KeysThatOnlyBeginAlikeDoNotOverlap) {
  EXPECT_TRUE(keys_overlap("a.b", "a.b"));
  EXPECT_TRUE(keys_overlap("a.b", "a.b.c"));
  EXPECT_TRUE(keys_overlap("a.b[1]", "a.b"));
  EXPECT_FALSE(keys_overlap("a.b", "a.bc"));
  EXPECT_FALSE(keys_overlap("a.b", "a.c"));
  EXPECT_EQ(error_of("  execution.warmup: [1]\n  execution.iterations: [2]\n"), "");
}

TEST(Sweep, ThePointsAreBounded) {
  std::string hundred;
  for (int i = 0; i < 100; ++i) {
    hundred += (i == 0 ? "[" : ", ") + std::to_string(i);
  }
  const std::string axes =
      "  workload.seed: " + hundred + "]\n  execution.warmup: " + hundred + "]\n";
  EXPECT_EQ(sweep_of(axes).num_points(), Sweep::kMaxPoints);
  EXPECT_EQ(testing::input_error_of([&] {
              sweep_of(axes + "  execution.iterations: [1, 2]\n");
            }).find("small.yaml:20:3: the sweep has more than 10000 points"),
            0U);
}

/// A random tree of values whose texts tempt a YAML reader.
YamlNode random_node(std::mt19937_64& random, int depth) {
  static const Texts texts = {"a",    "7",      "-1.5e3", "true", "null",  "none",  "a b",  "x: y",
                              "[",    "{a}",    "#",      "'",    "\"",    "\\",    "",     "~",
                              "0x1f", "- item", "& a",    "a,b",  "1e400", "a/b.c", "日本", "---"};
  const auto draw = [&](int most) {
    return static_cast<std::size_t>(std::uniform_int_distribution<int>(0, most)(random));
  };
  YamlNode node;
  const std::size_t kind = depth == 0 ? 0 : draw(2);
  if (kind == 0) {
    node.kind = YamlNode::Kind::scalar;
    node.text = texts[draw(static_cast<int>(texts.size()) - 1)];
    node.quoted = draw(1) == 1;
    if (!node.quoted) {  // plain only where such text can be plain
      node.text = std::vector<std::string>{"a", "7", "-1.5e3", "true", "none", "a/b.c"}[draw(5)];
    }
  } else if (kind == 1) {
    node.kind = YamlNode::Kind::sequence;
    for (std::size_t left = draw(3); left > 0; --left) {
      node.items.push_back(random_node(random, depth - 1));
    }
  } else {
    node.kind = YamlNode::Kind::map;
    for (std::size_t left = draw(3); left > 0; --left) {
      const std::string key = "k" + std::to_string(left) + texts[draw(15)];
      node.entries.push_back({key, {}, random_node(random, depth - 1)});
    }
  }
  return node;
}

bool equal_but_for_marks(const YamlNode& a, const YamlNode& b) {
  if (a.kind != b.kind || a.text != b.text || a.quoted != b.quoted ||
      a.items.size() != b.items.size() || a.entries.size() != b.entries.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.items.size(); ++i) {
    if (!equal_but_for_marks(a.items[i], b.items[i])) {
      return false;
    }
  }
  for (std::size_t i = 0; i < a.entries.size(); ++i) {
    if (a.entries[i].key != b.entries[i].key ||
        !equal_but_for_marks(a.entries[i].value, b.entries[i].value)) {
      return false;
    }
  }
  return true;
}

TEST(WriteYaml, ATreeReadsBackAsItself) {
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    YamlNode root;
    root.kind = YamlNode::Kind::map;
    root.entries.push_back({"first", {}, random_node(random, 3)});
    root.entries.push_back({"second", {}, random_node(random, 3)});
    const std::string document = write_yaml_document(root);
    ASSERT_TRUE(equal_but_for_marks(parse_yaml(document, "document"), root)) << document;
    const std::string line = write_yaml(root);
    ASSERT_EQ(line.find('\n'), std::string::npos);
    ASSERT_TRUE(equal_but_for_marks(parse_yaml(line, "line"), root)) << line;
  }
}

}  // namespace
}  // namespace dovetail

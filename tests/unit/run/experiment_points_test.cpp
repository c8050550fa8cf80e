// Which policies a point runs, and in which order.
#include "framework/run/experiment_points.hpp"

#include <gtest/gtest.h>

#include "framework/run/capabilities.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

constexpr const char* kFile = R"(
experiment: points
model: {architecture: fake, config: c.json}
workload: {requests: {count: 1, length: 1}}
policies: [{name: sequential}, {name: dual_batch}, {name: staged}]
verify: {baseline: dual_batch, mode: tolerance, routing: natural}
record: {outputs: [hidden, routing]}
sweep: {workload.requests.count: [1, 2]}
)";

std::vector<std::string> names_of(const Experiment& experiment) {
  std::vector<std::string> names;
  for (const auto& policy : experiment.policies) {
    names.push_back(policy.name);
  }
  return names;
}

Experiment point_of(const std::vector<std::string>& overrides,
                    const std::vector<std::string>& policies,
                    std::size_t point = 0) {
  const Sweep sweep(kFile, "points.yaml", overrides, policies);
  return point_experiment(sweep, point, 1, build_capabilities({"fake"}));
}

using Names = std::vector<std::string>;

TEST(PointExperiment, RunsAllPoliciesInTheFilesOrder) {
  EXPECT_EQ(names_of(point_of({}, {})), (Names{"sequential", "dual_batch", "staged"}));
}

TEST(PointExperiment, RunsTheBaselineBesideChosenPolicies) {
  EXPECT_EQ(names_of(point_of({}, {"staged"})), (Names{"dual_batch", "staged"}));
  EXPECT_EQ(names_of(point_of({"verify={mode: none}"}, {"staged"})), Names{"staged"});
}

TEST(PointExperiment, RunsTheBaselineFirstWhereOthersTakeItsRouting) {
  EXPECT_EQ(names_of(point_of({"verify.routing=replay"}, {})),
            (Names{"dual_batch", "sequential", "staged"}));
}

TEST(PointExperiment, NamesThePointInErrors) {
  const auto message =
      testing::input_error_of([] { point_of({"workload.rank_scale=[0.0]"}, {}, 1); });
  EXPECT_NE(message.find("point 1 of the sweep"), std::string::npos) << message;
}

TEST(RequireStartedRanks, SaysHowToStartThem) {
  const auto refusal = [](const std::string& setting, int num_ranks) {
    const Sweep sweep(kFile, "points.yaml", {setting});
    RunOptions options;
    options.program = "build/bin/dovetail";
    options.command_line = "build/bin/dovetail run points.yaml --out 'my run'";
    return testing::input_error_of([&] { require_started_ranks(sweep, num_ranks, options); });
  };
  EXPECT_EQ(refusal("parallel.expert_parallel=4", 1),
            "--set parallel.expert_parallel=4: parallel.expert_parallel: 4 ranks, or a multiple, "
            "are needed, and one was started; start them with launch/run_local.sh 4 run "
            "points.yaml --out 'my run', or mpirun -np 4 build/bin/dovetail run points.yaml --out "
            "'my run'");
  EXPECT_NE(refusal("sweep={parallel.expert_parallel: [1, 4, 2]}", 1).find("run_local.sh 4"),
            std::string::npos)
      << "enough for every point";
  EXPECT_EQ(refusal("parallel.expert_parallel=1", 1), "");
  EXPECT_EQ(refusal("parallel.expert_parallel=4", 3), "") << "validation says what is wrong";
}

TEST(FindPolicy, ListsWhatThereIs) {
  const auto experiment = point_of({}, {});
  EXPECT_EQ(find_policy(experiment, "staged").name, "staged");
  const auto message = testing::input_error_of([&] { find_policy(experiment, "stage"); });
  EXPECT_NE(message.find("sequential, dual_batch, staged"), std::string::npos) << message;
}

TEST(RequirePoint, OnlyAPointThatIsThereInAFolderForAll) {
  const auto refusal = [](std::optional<std::size_t> point,
                          const std::string& out,
                          const std::vector<std::string>& overrides = {}) {
    const Sweep sweep(kFile, "points.yaml", overrides, {});
    RunOptions options;
    options.file = "points.yaml";
    options.point = point;
    options.out = out;
    return testing::input_error_of([&] { require_point(sweep, options); });
  };
  EXPECT_EQ(refusal({}, ""), "");
  EXPECT_EQ(refusal(0, "out"), "");
  EXPECT_EQ(refusal(1, "out"), "");
  EXPECT_EQ(refusal(2, "out"), "--point 2: the sweep has 2 points; allowed: 0 to 1");
  EXPECT_EQ(refusal(1, ""),
            "--point needs --out DIR: the folder that all points of the sweep share");
  EXPECT_EQ(refusal(0, "out", {"sweep=none"}),
            "points.yaml: --point is for a file with sweep: this one has none");
}

}  // namespace
}  // namespace dovetail

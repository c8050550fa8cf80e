// Routing and hidden states of an earlier run on another grid land at the tokens that they were
// recorded of: every number names its request, position and column.
#include "framework/run/recorded_inputs.hpp"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/config/dump.hpp"
#include "framework/record/recorder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/schema.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_experiment;

constexpr std::int64_t kHidden = 16;
constexpr std::int64_t kLayers = 2;
constexpr std::int64_t kTopK = 2;

Experiment experiment_of(const std::string& layers = "", const std::string& lengths = "3, 1, 4") {
  auto experiment = fake_experiment("workload: {phase: prefill, requests: {lengths: [" + lengths +
                                    "]}, steps: 2}\n" + "policies: [{name: sequential}]\n");
  if (!layers.empty()) {
    experiment.model.layers = LayerRange{layers[0] - '0', layers[2] - '0'};
  }
  return experiment;
}

RankWorkload workload_of(const Experiment& experiment, int world_size, int rank) {
  return make_workload(experiment.workload, nullptr, 100, world_size, Rank(rank));
}

/// Different for all layers, tokens and k of these tests, but for the modulus.
std::int32_t expert_of(std::int64_t layer, std::int64_t request, std::int64_t position, int k) {
  return static_cast<std::int32_t>((layer + 2 * request + 3 * position + std::int64_t{5} * k) % 8);
}

float hidden_of(std::int64_t request, std::int64_t position, std::int64_t column) {
  return static_cast<float>(request * 1000 + position * 20 + column);
}

/// The rank files of a run of `experiment` on `world_size` ranks.
class RecordedRun {
 public:
  RecordedRun(const Experiment& experiment,
              int world_size,
              std::int64_t top_k = kTopK,
              std::int64_t hidden = kHidden,
              std::int32_t first_expert = 0,
              bool is_one_expert = false) {
    for (int rank = 0; rank < world_size; ++rank) {
      write(experiment, world_size, rank, top_k, hidden, first_expert, is_one_expert);
    }
  }

  std::string path() const { return folder_.path().string(); }

  std::string file(int rank) const { return (folder_.path() / rank_file_name(rank)).string(); }

 private:
  void write(const Experiment& experiment,
             int world_size,
             int rank,
             std::int64_t top_k,
             std::int64_t hidden,
             std::int32_t first_expert,
             bool is_one_expert) {
    std::vector<std::int64_t> requests;
    std::vector<std::int64_t> positions;
    for (const auto& step : workload_of(experiment, world_size, rank).steps) {
      requests.insert(requests.end(), step.request_ids.begin(), step.request_ids.end());
      positions.insert(positions.end(), step.positions.begin(), step.positions.end());
    }
    const auto tokens = static_cast<std::int64_t>(requests.size());
    RankFileSpec spec;
    spec.experiment = "fake";
    spec.policy = "sequential";
    spec.rank = rank;
    spec.world_size = world_size;
    spec.config = dump(experiment);
    spec.schedules = {{"sequential", 1, "01", {{-1, 0, "embed", "compute", {}}}}};
    spec.tokens = tokens;
    spec.outputs = {{"hidden", DType::float32, {tokens, hidden}}};
    spec.route_layers = kLayers;
    spec.route_top_k = top_k;
    spec.experts_per_rank = 1;
    std::vector<std::int32_t> ids;
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      for (std::size_t i = 0; i < requests.size(); ++i) {
        for (int k = 0; k < top_k; ++k) {
          ids.push_back(first_expert +
                        expert_of(layer, requests[i], positions[i], is_one_expert ? 0 : k));
        }
      }
    }
    std::vector<float> rows;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      for (std::int64_t column = 0; column < hidden; ++column) {
        rows.push_back(hidden_of(requests[i], positions[i], column));
      }
    }
    RankRecorder recorder(folder_.path() / rank_file_name(rank), spec);
    recorder.write(path::kRequestId, requests);
    recorder.write(path::kPositions, positions);
    recorder.write(path::kExpertIds, ids);
    recorder.write(std::string(path::kOutput) + "/hidden", rows);
    recorder.finish(RunStatus::complete);
  }

  ScratchFolder folder_;
};

TEST(ReadRouting, MatchesTokensOfAnotherGrid) {
  const auto experiment = experiment_of();
  const RecordedRun source(experiment, 3);
  const auto model = testing::make_fake_model();
  std::int64_t tokens = 0;
  for (int rank = 0; rank < 2; ++rank) {
    const auto workload = workload_of(experiment, 2, rank);
    const auto ids =
        read_routing(source.path(), workload.steps, kStepRouting, model->shape(), model->dims());
    ASSERT_EQ(ids.size(), 2U);
    for (std::size_t step = 0; step < ids.size(); ++step) {
      const auto& rows = workload.steps[step];
      ASSERT_EQ(ids[step].sizes(),
                (std::vector<std::int64_t>{kLayers, rows.batch.num_tokens(), kTopK}));
      const auto* values = ids[step].const_data_ptr<std::int64_t>();
      for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        for (std::size_t row = 0; row < rows.positions.size(); ++row) {
          for (int k = 0; k < kTopK; ++k) {
            EXPECT_EQ(*values++, expert_of(layer, rows.request_ids[row], rows.positions[row], k));
          }
        }
      }
      tokens += rows.batch.num_tokens();
    }
  }
  EXPECT_EQ(tokens, 32) << "3 + 1 + 4 tokens on two ranks in two steps";
}

TEST(ReadRouting, RefusesWhatDoesNotFit) {
  const auto experiment = experiment_of();
  const auto model = testing::make_fake_model();
  const auto all = workload_of(experiment, 1, 0);
  const RecordedRun others(experiment_of("", "3, 1"), 1);
  EXPECT_EQ(testing::input_error_of([&] {
              read_routing(others.path(), all.steps, kStepRouting, model->shape(), model->dims());
            }),
            others.path() +
                ": holds the routing of 8 of this rank's 16 tokens; the run must have had the same "
                "requests and steps");
  const RecordedRun three(experiment, 1, 3);
  EXPECT_EQ(testing::input_error_of([&] {
              read_routing(three.path(), all.steps, kStepRouting, model->shape(), model->dims());
            }),
            three.file(0) +
                ": /route/expert_ids is [2, 16, 3]; the model has 2 layers and chooses 2 experts");
  const RecordedRun many(experiment, 1, kTopK, kHidden, 1);
  EXPECT_EQ(testing::input_error_of([&] {
              read_routing(many.path(), all.steps, kStepRouting, model->shape(), model->dims());
            }),
            many.file(0) + ": /route/expert_ids holds expert 8; the model has experts 0 to 7");
  const RecordedRun twice(experiment, 1, kTopK, kHidden, 0, true);
  EXPECT_EQ(testing::input_error_of([&] {
              read_routing(twice.path(), all.steps, kStepRouting, model->shape(), model->dims());
            }),
            twice.file(0) +
                ": /route/expert_ids gives a token expert 0 twice; the experts of a "
                "token are different ones");
}

TEST(ReadRouting, RefusesAnUnfinishedRun) {
  const auto experiment = experiment_of();
  const RecordedRun source(experiment, 2);
  std::filesystem::remove(source.file(1));
  const auto model = testing::make_fake_model();
  const auto workload = workload_of(experiment, 1, 0);
  const auto refusal = testing::input_error_of([&] {
    read_routing(source.path(), workload.steps, kStepRouting, model->shape(), model->dims());
  });
  EXPECT_NE(refusal.find("rank 1"), std::string::npos) << refusal;
}

TEST(ReadHidden, MatchesTokensOfAnotherGrid) {
  const RecordedRun source(experiment_of("0,2"), 3);
  const auto experiment = experiment_of("2,4");
  const auto model = testing::make_fake_model();
  for (int rank = 0; rank < 2; ++rank) {
    const auto workload = workload_of(experiment, 2, rank);
    const auto hidden = read_hidden(source.path(), workload, model->dims(), experiment);
    ASSERT_EQ(hidden.size(), 2U);
    for (std::size_t step = 0; step < hidden.size(); ++step) {
      const auto& rows = workload.steps[step];
      ASSERT_EQ(hidden[step].sizes(),
                (std::vector<std::int64_t>{rows.batch.num_tokens(), kHidden}));
      const auto* values = hidden[step].const_data_ptr<float>();
      for (std::size_t row = 0; row < rows.positions.size(); ++row) {
        for (std::int64_t column = 0; column < kHidden; ++column) {
          EXPECT_EQ(*values++, hidden_of(rows.request_ids[row], rows.positions[row], column));
        }
      }
    }
  }
}

TEST(ReadHidden, RefusesWhatIsNotTheStageBefore) {
  const auto experiment = experiment_of("2,4");
  const auto model = testing::make_fake_model();
  const auto workload = workload_of(experiment, 1, 0);
  const RecordedRun same(experiment, 1);
  EXPECT_EQ(testing::input_error_of(
                [&] { read_hidden(same.path(), workload, model->dims(), experiment); }),
            same.file(0) +
                ": is of layers [2, 4]; allowed for layers from 2 on: a run of the layers up to 2");
  const RecordedRun others(experiment_of("0,2", "3, 1, 5"), 1);
  const auto refusal = testing::input_error_of(
      [&] { read_hidden(others.path(), workload, model->dims(), experiment); });
  EXPECT_NE(refusal.find("was run with another workload.requests"), std::string::npos) << refusal;
  const RecordedRun narrow(experiment_of("0,2"), 1, kTopK, 8);
  EXPECT_EQ(testing::input_error_of(
                [&] { read_hidden(narrow.path(), workload, model->dims(), experiment); }),
            narrow.file(0) + ": /output/hidden is [16, 8]; the model's hidden size is 16");
}

/// What `dovetail check` looks at, over all ranks at once.
TEST(CheckRecordedInputs, RefusesWhatAnyRankWouldRefuse) {
  auto experiment = experiment_of();
  const auto model = testing::make_fake_model();
  const auto refusal = [&](int world_size) {
    std::vector<RankWorkload> ranks;
    ranks.reserve(static_cast<std::size_t>(world_size));
    for (int rank = 0; rank < world_size; ++rank) {
      ranks.push_back(workload_of(experiment, world_size, rank));
    }
    return testing::input_error_of(
        [&] { check_recorded_inputs(experiment, ranks, model->shape(), model->dims()); });
  };
  EXPECT_EQ(refusal(2), "") << "nothing is recorded";
  const RecordedRun source(experiment, 3);
  experiment.workload.routing = ReplayRouting{source.path()};
  EXPECT_EQ(refusal(2), "");
  const RecordedRun few(experiment_of(), 1);  // the requests of one rank of two
  experiment.workload.routing = ReplayRouting{few.path()};
  EXPECT_EQ(refusal(1), "");
  EXPECT_EQ(refusal(2),
            few.path() +
                ": holds the routing of 0 of rank 1's 16 tokens; the run must have had the same "
                "requests and steps");
  experiment.workload.routing = ReplayRouting{few.path() + "/none"};
  EXPECT_NE(refusal(1).find("no such folder"), std::string::npos);

  experiment = experiment_of("2,4");
  const RecordedRun before(experiment_of("0,2"), 3);
  experiment.workload.inputs = {InputKind::hidden, before.path()};
  EXPECT_EQ(refusal(2), "");
  experiment.workload.inputs.folder = few.path();
  EXPECT_NE(refusal(2).find("allowed for layers from 2 on"), std::string::npos) << refusal(2);
}

TEST(CheckLayers, AreThoseOfTheRecordedRun) {
  const RecordedRun source(experiment_of("0,2"), 1);
  EXPECT_NO_THROW(check_layers(source.path(), experiment_of("0,2").model));
  EXPECT_EQ(testing::input_error_of([&] { check_layers(source.path(), experiment_of().model); }),
            source.path() + ": has the routing of layers [0, 2]; this run is of layers all");
}

}  // namespace
}  // namespace dovetail

// Whole runs of a model that errs in one step of one iteration of twenty: verify names the
// iteration, the step, the rank and what is wrong. The twin without a fault is verified.
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/compare/verify.hpp"
#include "framework/config/load.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/policy_loop.hpp"
#include "framework/run/set_up.hpp"
#include "models/registry.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

constexpr const char* kExperiment = R"(
experiment: iterations
model: {architecture: qwen3_moe, config: ')" DOVETAIL_SOURCE_DIR
                                    R"(/models/configs/qwen3-moe-tiny.json', weights: {seed: 3}}
parallel: {expert_parallel: RANKS}
workload: {phase: mixed, requests: {lengths: [5, 1], context_lengths: [3, 6]}, seed: 5, steps: 2,
           variants: 3}
execution: {warmup: 2, iterations: 20, rounds: 1, timeout_s: 30}
policies: [{name: sequential}, {name: dual, schedule: dual_batch, ubatches: 2, hand_off: inline}]
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, kv]}
)";

constexpr int kWarmUps = 2;
constexpr int kIterations = 20;
constexpr int kSteps = 2;
constexpr int kUbatches = 2;

/// Where a model errs: behind the last phase that reads or writes what it changes.
struct Wrong {
  int iteration = 0;  ///< timed
  int step = 0;
  int ubatch = 0;
  std::function<void(at::Tensor& normed)> output;                         ///< may be empty
  std::function<void(const UbatchInputs& inputs, KvCache& cache)> cache;  ///< likewise
};

/// Another model with one error.
class WrongModel final : public Model {
 public:
  WrongModel(const Model& model, std::optional<Wrong> wrong)
      : model_(model), wrong_(std::move(wrong)) {}

  const ModelShape& shape() const override { return model_.shape(); }

  const ModelDims& dims() const override { return model_.dims(); }

  WeightsDigest weights_digest() const override { return model_.weights_digest(); }

  std::int64_t weight_bytes() const override { return model_.weight_bytes(); }

  std::unique_ptr<Model> with_numerics(Numerics /*numerics*/) const override {
    return std::make_unique<WrongModel>(model_, wrong_);
  }

  void embed(UbatchState& state) const override { model_.embed(state); }

  void attention(int layer, UbatchState& state, KvCache& cache) const override {
    model_.attention(layer, state, cache);
    if (layer + 1 == shape().num_layers() && is_wrong(attentions_++) && wrong_->cache) {
      wrong_->cache(state.inputs, cache);
    }
  }

  void route(int layer, UbatchState& state, const at::Tensor& replay_ids) const override {
    model_.route(layer, state, replay_ids);
  }

  at::Tensor experts(int layer, const ExpertRows& rows) const override {
    return model_.experts(layer, rows);
  }

  void shared_experts(int layer, UbatchState& state) const override {
    model_.shared_experts(layer, state);
  }

  void mlp(int layer, UbatchState& state) const override { model_.mlp(layer, state); }

  void add_moe(int layer, UbatchState& state, const at::Tensor& combined) const override {
    model_.add_moe(layer, state, combined);
  }

  at::Tensor output(const UbatchState& state) const override {
    auto normed = model_.output(state).clone();
    if (is_wrong(outputs_++) && wrong_->output) {
      wrong_->output(normed);
    }
    return normed;
  }

  at::Tensor logits(const at::Tensor& normed) const override { return model_.logits(normed); }

 private:
  /// Each ubatch of each step makes one such call, in order of ubatches; the context before the
  /// first iteration another one.
  bool is_wrong(int call) const {
    return wrong_ &&
           call == 1 + ((kWarmUps + wrong_->iteration) * kSteps + wrong_->step) * kUbatches +
                       wrong_->ubatch;
  }

  const Model& model_;
  std::optional<Wrong> wrong_;
  mutable int attentions_ = 0;  ///< of the last layer
  mutable int outputs_ = 0;
};

std::string experiment_text() {
  std::string text = kExperiment;
  return text.replace(text.find("RANKS"), 5, std::to_string(world_size()));
}

class Iterations : public ::testing::Test {
 protected:
  Iterations()
      : experiment_(parse_experiment(experiment_text(), "iterations.yaml").experiment),
        grid_(make_grid(world_size(), world_size())),
        groups_(make_rank_groups(session(), grid_)),
        failures_(groups_.control) {}

  /// Both policies, the second with the error on the last rank; what verify says is the same on all
  /// ranks.
  VerifyReport run(const std::optional<Wrong>& wrong) {
    const RunContext context = {.ranks = {.session = session(),
                                          .grid = grid_,
                                          .groups = groups_,
                                          .wait = {.on_poll = [] {}}},
                                .signals = signals_,
                                .failures = failures_,
                                .experiment = experiment_};
    const auto catalog = model_catalog();
    const auto architecture = read_architecture(context, catalog);
    const auto workload = read_workload(context, *architecture);
    RankDevice device(context.ranks, {});
    const auto model = load_model(context, catalog, *architecture, device);
    const auto digests = agree_on_digests(context, *model, workload);
    const auto clock = estimate_clock_offset(groups_.world, context.ranks.wait);
    const RunOptions options;
    std::string folder = scratch_.path().string();
    broadcast_text(groups_.world, folder, context.ranks.wait);
    const std::filesystem::path run_folder = folder + "/" + std::to_string(++runs_);
    for (const auto& policy : experiment_.policies) {
      std::filesystem::create_directories(run_folder / policy.name);
      const bool errs = policy.name == "dual" && world_rank() + 1 == world_size();
      const WrongModel wrapped(*model, errs ? wrong : std::nullopt);
      auto own = experiment_;
      own.policies = {policy};
      const RunContext of_policy = {context.ranks, signals_, failures_, own};
      const auto policies = resolve_policies(of_policy,
                                             *architecture,
                                             {DeviceKind::cpu, "cpu", world_size()},
                                             workload,
                                             build_capabilities({"qwen3_moe"}));
      EXPECT_FALSE(run_policies({.run = of_policy,
                                 .identity = {options, digests, clock, device.description()},
                                 .policies = policies,
                                 .device = device,
                                 .model = wrapped,
                                 .workload = workload,
                                 .given = given_,
                                 .folder = run_folder})
                       .stopped);
    }
    run_on_all_ranks(groups_.world, context.ranks.wait, [] {});  // all files are closed
    auto report = verify_policies(run_folder / "sequential", run_folder / "dual", {});
    run_on_all_ranks(groups_.world, context.ranks.wait, [] {});
    return report;
  }

  void expect_one_problem(const Wrong& wrong, const std::string& what) {
    const auto report = run(wrong);
    EXPECT_EQ(report.verdict, Verdict::mismatch);
    ASSERT_EQ(report.problems.size(), 1U) << to_text(report);
    EXPECT_NE(report.problems.front().find(what), std::string::npos) << to_text(report);
  }

  std::string last_rank() const { return std::to_string(world_size() - 1); }

  Experiment experiment_;
  RankGrid grid_;
  RankGroups groups_;
  FailureChannel failures_;
  SignalWatch signals_;
  GivenInputs given_;
  ScratchFolder scratch_;
  int runs_ = 0;
};

void flip_first_bit(at::Tensor element) {
  static_cast<unsigned char*>(element.mutable_data_ptr())[0] ^= 1U;
}

/// The slot of the ubatch's last token, in the values of the last layer.
void flip_last_value(const UbatchInputs& inputs, KvCache& cache) {
  const auto slot = inputs.slot_mapping[-1].item<std::int64_t>();
  flip_first_bit(cache.values.back().flatten(0, 1)[slot]);
}

TEST_F(Iterations, WithoutAFaultAllAreJudgedAndRight) {
  const auto report = run(std::nullopt);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  ASSERT_TRUE(report.iterations.has_value());
  EXPECT_EQ(report.iterations->num_steps, (kIterations + 3) * kSteps);
  EXPECT_EQ(report.iterations->num_as_recorded, report.iterations->num_steps);
  EXPECT_EQ(report.iterations->num_variants, 3);
  EXPECT_EQ(report.tensors.size(), 1U + 2 * 4);
}

/// Iteration 7 of 20, counted with two warm-ups the ninth: of variant 0.
TEST_F(Iterations, ABitOfAnOutputIsNamed) {
  expect_one_problem({.iteration = 7,
                      .step = 1,
                      .ubatch = 1,
                      .output = [](at::Tensor& normed) { flip_first_bit(normed[-1]); }},
                     "iterations: timed iteration 7, step 1 (variant 0): outputs on rank " +
                         last_rank() + " differ");
}

TEST_F(Iterations, AStaleOutputIsNamed) {
  expect_one_problem({.iteration = 4, .output = [](at::Tensor& normed) { normed.fill_(0.5); }},
                     "iterations: timed iteration 4, step 0 (variant 0): outputs on rank " +
                         last_rank() + " differ");
}

TEST_F(Iterations, ABitOfAValueThatNobodyReadsIsNamed) {
  expect_one_problem({.iteration = 9, .step = 1, .ubatch = 1, .cache = flip_last_value},
                     "iterations: timed iteration 9, step 1 (variant 2): keys and values on rank " +
                         last_rank() + " differ");
}

/// What is recorded is what differs: the last iteration of its variant.
TEST_F(Iterations, ABitOfARecordedValueIsComparedAndNamed) {
  const auto report = run(Wrong{.iteration = 19,
                                .step = 1,
                                .ubatch = 1,
                                .cache = [](const UbatchInputs& inputs, KvCache& cache) {
                                  const auto slot = inputs.slot_mapping[-1].item<std::int64_t>();
                                  cache.keys.front().flatten(0, 1)[slot].fill_(0.25);
                                }});
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  ASSERT_EQ(report.problems.size(), 2U) << to_text(report);
  EXPECT_EQ(report.problems[0].find("key_0: row error"), 0U) << to_text(report);
  EXPECT_NE(report.problems[1].find("timed iteration 19, step 1 (variant 0), which is recorded"),
            std::string::npos)
      << to_text(report);
}

TEST_F(Iterations, AWriteIntoAContextIsNamed) {
  const auto report = run(Wrong{.iteration = 19,
                                .step = 1,
                                .ubatch = 1,
                                .cache = [](const UbatchInputs& inputs, KvCache& cache) {
                                  // The first page of the ubatch's last request begins its context.
                                  const auto page = inputs.block_tables[-1][0].item<std::int64_t>();
                                  flip_first_bit(cache.values.back()[page][0]);
                                }});
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  // The context is read in the step itself and in later ones, which differ then as well.
  bool is_named = false;
  for (const auto& problem : report.problems) {
    is_named = is_named || problem.find("rank " + last_rank() +
                                        ": keys and values that no step may write have changed") !=
                               std::string::npos;
  }
  EXPECT_TRUE(is_named) << to_text(report);
}

}  // namespace
}  // namespace dovetail::test

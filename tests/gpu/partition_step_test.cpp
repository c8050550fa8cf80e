// Steps whose lanes have SMs of their own: what their ops launch keeps to them, by threads and
// inline, eagerly and in graphs; the same runner's other steps share all SMs.
#include <algorithm>
#include <iterator>
#include <set>
#include <string>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/cuda/num_sms.hpp"
#include "framework/plan/policy.hpp"
#include "framework/step/cuda/step_runner.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/gpu/sm_probe_result.hpp"

namespace dovetail::test {
namespace {

constexpr int kCommSms = 16;
constexpr std::int64_t kSpinNs = 20'000;

/// Each op is a kernel with blocks enough for all SMs.
class ProbeStep final : public StepBody {
 public:
  void run(const Op& op) override {
    const auto& lane = op.lane == Lane::comm ? comm_ : compute_;
    launch_sm_probe(
        lane.probe(), blocks_of_an_op(), kSpinNs, c10::cuda::getCurrentCUDAStream().stream());
  }

  static int blocks_of_an_op() { return 8 * num_sms(); }

  /// While nothing runs.
  void forget() {
    compute_.forget();
    comm_.forget();
    ASSERT_EQ(cudaStreamSynchronize(c10::cuda::getCurrentCUDAStream()), cudaSuccess);
  }

  std::set<int> compute_sms() const { return compute_.sms(); }

  std::set<int> comm_sms() const { return comm_.sms(); }

  std::int64_t num_blocks() const { return compute_.num_blocks() + comm_.num_blocks(); }

 private:
  SmProbeResult compute_;
  SmProbeResult comm_;
};

Schedule dual_batch() {
  return policies()
      .at("dual_batch")
      .make_schedule({ModelShape{std::vector<LayerShape>(2)}, WorkPhase::prefill, 2});
}

/// What the last step has run, all of it there, and where.
void expect_where(const ProbeStep& body, const Schedule& schedule, bool is_cut) {
  EXPECT_EQ(body.num_blocks(), std::ssize(schedule.ops) * ProbeStep::blocks_of_an_op());
  const auto compute = body.compute_sms();
  const auto comm = body.comm_sms();
  std::set<int> shared;
  std::ranges::set_intersection(compute, comm, std::inserter(shared, shared.end()));
  EXPECT_EQ(std::ssize(compute), is_cut ? num_sms() - kCommSms : num_sms());
  EXPECT_EQ(std::ssize(comm), is_cut ? kCommSms : num_sms());
  EXPECT_EQ(std::ssize(shared), is_cut ? 0 : num_sms());
}

/// In order, and ahead of the host's next look at the clock.
void expect_times(const OpTimes& times, const Schedule& schedule) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    EXPECT_GT(times.start_ns[i], 0) << i;
    EXPECT_GT(times.end_ns[i] - times.start_ns[i], kSpinNs) << i;
  }
}

TEST(PartitionStep, LanesKeepToTheirSmsWhereStepsAskForIt) {
  DOVETAIL_REQUIRE_GPU();
  const GreenPartition partition(kCommSms);
  const auto schedule = dual_batch();
  for (const auto hand_off : kHandOffs) {
    ProbeStep body;
    auto options = own_gpu();
    options.partition = &partition;
    CudaStepRunner runner(options, walk_by(hand_off));
    for (const bool is_cut : {false, true, false, true}) {
      SCOPED_TRACE(std::string(to_string(hand_off)) + (is_cut ? ", hard" : ", soft"));
      runner.use_partition(is_cut);
      OpTimes times;
      for (auto* wanted : {static_cast<OpTimes*>(nullptr), &times}) {
        body.forget();
        runner.run_eager(schedule, body, PassKind::full, wanted);
        expect_where(body, schedule, is_cut);
      }
      expect_times(times, schedule);
      for (const auto mode : kGraphModes) {
        SCOPED_TRACE(to_string(mode));
        const auto step = runner.capture(schedule, body, PassKind::full, mode, true);
        runner.use_partition(!is_cut);  // a replay takes the lanes of its capture
        for (int replay = 0; replay < 2; ++replay) {
          body.forget();
          runner.replay(*step, &times);
          expect_where(body, schedule, is_cut);
          expect_times(times, schedule);
        }
        runner.use_partition(is_cut);
      }
    }
  }
}

/// The twin: without a partition there is nothing to ask for.
TEST(PartitionStep, WithoutAPartitionLanesShareAllSms) {
  DOVETAIL_REQUIRE_GPU();
  const auto schedule = dual_batch();
  ProbeStep body;
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  runner.use_partition(true);
  body.forget();
  runner.run_eager(schedule, body, PassKind::full, nullptr);
  expect_where(body, schedule, false);
}

}  // namespace
}  // namespace dovetail::test

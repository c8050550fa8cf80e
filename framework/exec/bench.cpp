#include "framework/exec/bench.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/op_board.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/exec/runner.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_json.hpp"

namespace dovetail {
namespace {

class EmptyBody final : public StepBody {
 public:
  void run(const Op& /*op*/) override {}
};

/// Not a model: compute ops that go round the ubatches, so that each hands over to the next thread.
Schedule ring(int num_ubatches, int num_rounds) {
  Schedule schedule{"ring", num_ubatches, {}, {}};
  for (int i = 0; i < num_rounds * num_ubatches; ++i) {
    schedule.ops.push_back({kNoLayer, i % num_ubatches, Phase::embed, Lane::compute, {}});
  }
  return schedule;
}

Schedule everything_on_compute(Schedule schedule) {
  for (auto& op : schedule.ops) {
    op.lane = Lane::compute;
    op.waits.clear();
  }
  return schedule;
}

BenchResult time_steps(const Schedule& schedule,
                       const RunnerOptions& options,
                       PassKind pass,
                       const std::string& variant,
                       int num_steps,
                       OpBoard* board = nullptr) {
  HostExecutor executor(
      {.timeout = options.timeout, .may_spin = options.next_spin.count() > 0, .board = board});
  Runner runner(executor, options);
  EmptyBody body;
  const auto num_ops = static_cast<double>(schedule.ops.size());
  std::vector<double> samples;
  for (int i = -num_steps / 10; i < num_steps; ++i) {
    const std::int64_t start = now_ns();
    runner.run(schedule, body, pass);
    const std::int64_t elapsed = now_ns() - start;
    if (i >= 0) {
      samples.push_back(static_cast<double>(elapsed) / num_ops);
    }
  }
  return summarize("runner", variant, "ns per op", std::move(samples));
}

template <class Work>
BenchResult time_work(const std::string& variant, int num_samples, const Work& work) {
  std::vector<double> samples;
  for (int i = -3; i < num_samples; ++i) {
    const std::int64_t start = now_ns();
    work();
    const std::int64_t elapsed = now_ns() - start;
    if (i >= 0) {
      samples.push_back(static_cast<double>(elapsed));
    }
  }
  return summarize("plan", variant, "ns", std::move(samples));
}

}  // namespace

BenchResult summarize(std::string name,
                      std::string variant,
                      std::string quantity,
                      std::vector<double> samples) {
  const double middle = median(samples);
  std::sort(samples.begin(), samples.end());
  const std::size_t count = samples.size();
  const auto rank99 = static_cast<std::size_t>(std::ceil(0.99 * static_cast<double>(count)));
  return {std::move(name),
          std::move(variant),
          std::move(quantity),
          count,
          middle,
          has_percentile(static_cast<std::int64_t>(count), 99) ? std::optional(samples[rank99 - 1])
                                                               : std::nullopt,
          samples.front(),
          samples.back()};
}

std::vector<BenchResult> bench_handoff(bool next_may_spin, int num_rounds) {
  std::vector<BenchResult> results;
  for (int num_threads = 2; num_threads <= 4; ++num_threads) {
    RunnerOptions options;
    options.next_spin = next_may_spin ? kShortSpin : std::chrono::nanoseconds{0};
    HostExecutor executor({options.timeout, {}, {}, next_may_spin});
    Runner runner(executor, options);
    EmptyBody body;
    OpTimes times;
    runner.run(ring(num_threads, num_rounds / 10 + 1), body);
    const Schedule schedule = ring(num_threads, num_rounds);
    runner.run(schedule, body, PassKind::full, &times);
    std::vector<double> samples;
    for (std::size_t i = 1; i < schedule.ops.size(); ++i) {
      samples.push_back(static_cast<double>(times.hand_off_wait_ns[i]));
    }
    results.push_back(summarize("handoff",
                                std::to_string(num_threads) + " threads",
                                "ns per hand-off",
                                std::move(samples)));
  }
  return results;
}

std::vector<BenchResult> bench_runner(bool next_may_spin, int num_steps) {
  const ModelShape model{std::vector<LayerShape>(8, {true, true})};
  const Schedule schedule =
      policies().at("dual_batch").make_schedule({model, WorkPhase::prefill, 2});
  const Schedule one_lane = everything_on_compute(schedule);
  OpBoard board;
  std::vector<BenchResult> results;
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    RunnerOptions options;
    options.hand_off = hand_off;
    options.next_spin = next_may_spin ? kShortSpin : std::chrono::nanoseconds{0};
    const std::string name(to_string(hand_off));
    results.push_back(
        time_steps(schedule, options, PassKind::full, name + ", with comm ops", num_steps));
    results.push_back(time_steps(
        schedule, options, PassKind::compute_only, name + ", comm ops left out", num_steps));
    results.push_back(
        time_steps(one_lane, options, PassKind::full, name + ", one lane", num_steps));
    results.push_back(time_steps(
        one_lane, options, PassKind::full, name + ", one lane, op board", num_steps, &board));
  }
  return results;
}

std::vector<BenchResult> bench_plan(int num_samples) {
  ModelShape model{std::vector<LayerShape>(61, {true, true})};
  std::fill_n(model.layers.begin(), 3, LayerShape{false, false});
  const PolicyInput input{model, WorkPhase::prefill, kMaxUbatches};
  const PolicyFunction make = policies().at("dual_batch").make_schedule;
  const std::string text = schedule_to_json(make(input));
  return {time_work("make, check and digest, 61 layers, 8 ubatches",
                    num_samples,
                    [&] {
                      const Schedule schedule = make(input);
                      check_schedule(schedule);
                      static_cast<void>(schedule_digest(schedule));
                    }),
          time_work("read from JSON and check, 61 layers, 8 ubatches", num_samples, [&] {
            check_schedule(schedule_from_json(text, "bench"));
          })};
}

void to_json(nlohmann::json& json, const BenchResult& result) {
  json = {{"name", result.name},
          {"variant", result.variant},
          {"quantity", result.quantity},
          {"samples", result.num_samples},
          {"median", result.median},
          {"p99", result.p99 ? nlohmann::json(*result.p99) : nlohmann::json(nullptr)},
          {"min", result.min},
          {"max", result.max}};
}

}  // namespace dovetail

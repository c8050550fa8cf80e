#include "framework/step/cuda/graph_bench.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/cuda/marker_kernel.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/plan/policy.hpp"
#include "framework/step/cuda/step_runner.hpp"

namespace dovetail {
namespace {

/// As many kernels as a phase of a model has, roughly; an exchange has one.
constexpr int kKernelsPerComputeOp = 5;

class TinyKernels final : public StepBody {
 public:
  explicit TinyKernels(const Schedule& schedule)
      : memory_(at::zeros({static_cast<std::int64_t>(schedule.ops.size()) + 1},
                          at::TensorOptions().device(at::kCUDA).dtype(at::kLong))) {}

  static int num_kernels(const Op& op) { return is_exchange(op.phase) ? 1 : kKernelsPerComputeOp; }

  /// Whether its kernels write time stamps that are offered.
  bool takes_time_stamps = false;

  void run(const Op& op) override {
    auto* data = static_cast<std::uint64_t*>(memory_.data_ptr());
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
    for (int i = 0; i < num_kernels(op); ++i) {
      auto* stamp = takes_time_stamps ? take_time_stamp(stream) : nullptr;
      launch_marker_sum(0, data + 1, 1, data, stream, stamp);
    }
  }

 private:
  at::Tensor memory_;
};

/// Times of one way to run steps: until all is enqueued, and to the end.
struct Samples {
  std::vector<double> enqueue_ns;
  std::vector<double> step_ns;
};

Samples time_steps(const CudaStepRunner& runner,
                   int num_samples,
                   const std::function<void()>& take_step) {
  Samples samples;
  for (int i = -num_samples / 10; i < num_samples; ++i) {
    const std::int64_t start = now_ns();
    take_step();
    const std::int64_t elapsed = now_ns() - start;
    if (i >= 0) {
      samples.enqueue_ns.push_back(static_cast<double>(runner.last_enqueue_ns()));
      samples.step_ns.push_back(static_cast<double>(elapsed));
    }
  }
  return samples;
}

std::vector<double> divided(std::vector<double> values, int by) {
  for (auto& value : values) {
    value /= by;
  }
  return values;
}

/// Rows of one schedule and one way to walk it.
class ScheduleBench {
 public:
  ScheduleBench(const Schedule& schedule, HandOff hand_off, int num_samples)
      : schedule_(schedule),
        num_samples_(num_samples),
        runner_({}, {.hand_off = hand_off}),
        body_(schedule) {
    for (const auto& op : schedule.ops) {
      num_kernels_ += TinyKernels::num_kernels(op);
    }
    name_ = schedule.name + ", " + counted(std::ssize(schedule.layers), "layer") + ", " +
            counted(num_kernels_, "kernel") + ", " + std::string(to_string(hand_off));
  }

  std::vector<BenchResult> take() {
    add_steps("eager", [this] { runner_.run_eager(schedule_, body_, PassKind::full, nullptr); });
    for (const GraphMode mode : {GraphMode::piecewise, GraphMode::full}) {
      const auto step = capture(mode);
      add_steps(std::string(to_string(mode)) + " replay", [&] { runner_.replay(*step, nullptr); });
    }
    add_recording();
    return std::move(results_);
  }

 private:
  void add(const std::string& what, const std::string& quantity, std::vector<double> samples) {
    results_.push_back(summarize("graph", name_ + ": " + what, quantity, std::move(samples)));
  }

  void add_steps(const std::string& what, const std::function<void()>& take_step) {
    auto samples = time_steps(runner_, num_samples_, take_step);
    add(what + ", enqueued by the host", "ns", samples.enqueue_ns);
    add(what + ", enqueued by the host",
        "ns per kernel",
        divided(std::move(samples.enqueue_ns), num_kernels_));
    add(what + ", to its end", "ns per kernel", divided(std::move(samples.step_ns), num_kernels_));
  }

  /// What start and end of each op cost: the same graph without them, with events, and with time
  /// stamps in place of events where ops can write them; in turn.
  void add_recording() {
    const auto capture_full = [&](bool instrumented, bool takes_time_stamps) {
      body_.takes_time_stamps = takes_time_stamps;
      return runner_.capture(schedule_, body_, PassKind::full, GraphMode::full, instrumented);
    };
    const std::array steps = {
        capture_full(false, false), capture_full(true, false), capture_full(true, true)};
    std::array<std::vector<double>, 3> step_ns;
    for (int i = -num_samples_ / 10; i < num_samples_; ++i) {
      for (std::size_t which = 0; which < steps.size(); ++which) {
        const std::int64_t start = now_ns();
        runner_.replay(*steps[which], nullptr);
        const auto elapsed_ns = static_cast<double>(now_ns() - start);
        if (i >= 0) {
          step_ns[which].push_back(elapsed_ns);
        }
      }
    }
    const int num_ops = static_cast<int>(schedule_.ops.size());
    for (std::size_t which = 1; which < steps.size(); ++which) {
      const int num_added = steps[which]->num_nodes() - steps[0]->num_nodes();
      const std::string what = "times of " + counted(num_ops, "op") + " recorded by " +
                               (which == 2 ? "time stamps and " : "") + counted(num_added, "node") +
                               " of their own, added to a step";
      std::vector<double> added_ns;
      std::vector<double> share;
      for (std::size_t i = 0; i < step_ns[0].size(); ++i) {
        added_ns.push_back(step_ns[which][i] - step_ns[0][i]);
        share.push_back(100 * (step_ns[which][i] / step_ns[0][i] - 1));
      }
      add(what, "ns per op", divided(std::move(added_ns), num_ops));
      add(what, "%", std::move(share));
    }
  }

  std::unique_ptr<CapturedStep> capture(GraphMode mode) {
    const int num_captures = std::max(5, num_samples_ / 10);
    std::vector<double> capture_ns;
    std::vector<double> instantiate_ns;
    std::unique_ptr<CapturedStep> step;
    for (int i = 0; i < num_captures; ++i) {
      step.reset();
      step = runner_.capture(schedule_, body_, PassKind::full, mode, false);
      capture_ns.push_back(static_cast<double>(step->capture_ns()));
      instantiate_ns.push_back(static_cast<double>(step->instantiate_ns()));
    }
    const std::string what = std::string(to_string(mode)) + ", " +
                             counted(step->num_pieces(), "graph") + " of " +
                             counted(step->num_nodes(), "node");
    add(what + ", capture", "ns", std::move(capture_ns));
    add(what + ", instantiate", "ns", std::move(instantiate_ns));
    return step;
  }

  const Schedule& schedule_;
  const int num_samples_;
  CudaStepRunner runner_;
  TinyKernels body_;
  int num_kernels_ = 0;
  std::string name_;
  std::vector<BenchResult> results_;
};

}  // namespace

std::vector<BenchResult> bench_graph(int num_layers, int num_samples) {
  if (visible_gpus().empty()) {
    throw InputError("bench graph needs a GPU, and this machine has none");
  }
  const ModelShape model{std::vector<LayerShape>(static_cast<std::size_t>(num_layers))};
  std::vector<BenchResult> results;
  for (const auto& [policy, num_ubatches] : {std::pair{"sequential", 1}, {"dual_batch", 2}}) {
    const Schedule schedule =
        policies().at(policy).make_schedule({model, WorkPhase::decode, num_ubatches});
    for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
      for (auto& result : ScheduleBench(schedule, hand_off, num_samples).take()) {
        results.push_back(std::move(result));
      }
    }
  }
  return results;
}

}  // namespace dovetail

// `sm_partition: hard` in a rank's driver: in force in steps that overlap, and in no others. GEMMs
// of a step are found by LibTorch's observers; a probe ahead of each says on which SMs its stream
// may run.
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <ATen/record_function.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "models/registry.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/sm_probe_result.hpp"
#include "tests/gpu/tensor_bits.hpp"
#include "tests/mpi/policy_case.hpp"

namespace dovetail::test {
namespace {

std::string experiment(const std::string& execution,
                       const std::string& policy,
                       const std::string& more = "") {
  return "experiment: partition\nmodel: {architecture: qwen3_moe, config: '" DOVETAIL_SOURCE_DIR
         "/models/configs/qwen3-moe-tiny.json'}\nparallel: {expert_parallel: " +
         std::to_string(world_size()) +
         "}\nworkload: {requests: {lengths: [90, 70]}, seed: 5}\nexecution: {device: cuda, dtype: "
         "bfloat16, timeout_s: 20, " +
         execution + "}\npolicies: [{name: one, " + policy +
         "}]\nrecord: {outputs: [hidden, logits, layers], timing: steps}\n" + more;
}

constexpr const char* kDual = "schedule: dual_batch, ubatches: 2";

/// Scope in which a probe is launched ahead of each GEMM, on its stream, by any thread, also in a
/// capture. One at a time; what was captured runs later, too.
class GemmProbe {
 public:
  explicit GemmProbe(const SmProbeResult& result)
      : handle_(at::addGlobalCallback(at::RecordFunctionCallback(launch))) {
    probe_ = result.probe();
  }

  ~GemmProbe() { at::removeCallback(handle_); }

  GemmProbe(const GemmProbe&) = delete;
  GemmProbe& operator=(const GemmProbe&) = delete;
  GemmProbe(GemmProbe&&) = delete;
  GemmProbe& operator=(GemmProbe&&) = delete;

 private:
  static std::unique_ptr<at::ObserverContext> launch(const at::RecordFunction& function) {
    const std::string_view name = function.name();
    if (name == "aten::linear" || name == "aten::_grouped_mm") {
      const std::scoped_lock lock(mutex_);
      launch_sm_probe(probe_, 8 * num_sms(), 20'000, c10::cuda::getCurrentCUDAStream().stream());
    }
    return nullptr;
  }

  static inline std::mutex mutex_;
  static inline SmProbe probe_;
  at::CallbackHandle handle_;
};

/// The number of SMs that the GEMMs of a step have seen, as a graph where it is one; its outputs in
/// `outputs`.
std::int64_t sms_of_gemms(PolicyCase& step,
                          SmProbeResult& result,
                          int iteration,
                          std::vector<at::Tensor>& outputs) {
  step.driver();
  {
    const GemmProbe probe(result);
    step.prepare(iteration);
    result.forget();  // of warm-ups
    EXPECT_EQ(cudaStreamSynchronize(c10::cuda::getCurrentCUDAStream()), cudaSuccess);
    step.driver().run(nullptr);
  }
  step.driver().finish();
  EXPECT_EQ(SmPartition::left_out(), 0);
  outputs.clear();
  for (const auto& output : step.outputs_written()) {
    outputs.push_back(output.clone());
  }
  EXPECT_GT(result.num_blocks(), 0);
  return std::ssize(result.sms());
}

/// Soft is the twin: a probe takes no heed of what GEMMs leave out.
TEST(DriverPartition, IsInForceWhereAStepOverlapsAndChangesNoBit) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = model_catalog().open_weights(SeedWeights{.seed = 3});
  for (const std::string schedule : {"schedule: sequential, comm_sms: 16", kDual}) {
    for (const std::string exchange : {"gather", "auto"}) {
      if (exchange == "auto" && are_ranks_apart()) {
        continue;  // a PolicyCase takes them for neighbours
      }
      for (const std::string graph : {"none", "piecewise", "full"}) {
        std::vector<at::Tensor> soft_outputs;
        for (const std::string kind : {"soft", "hard"}) {
          SCOPED_TRACE(schedule + ", " + exchange + ", " + graph + ", " + kind);
          SmProbeResult result;  // outlives the graphs that name it
          PolicyCase step(experiment("exchange: " + exchange + ", graph: " + graph,
                                     schedule + ", sm_partition: " + kind),
                          *weights);
          const bool is_cut = kind == "hard" && schedule == kDual && world_size() > 1;
          std::vector<at::Tensor> outputs;
          for (int iteration = 0; iteration < 3; ++iteration) {
            EXPECT_EQ(sms_of_gemms(step, result, iteration, outputs),
                      is_cut ? num_sms() - 8 : num_sms());
          }
          if (kind == "soft") {
            soft_outputs = outputs;
          }
          ASSERT_EQ(outputs.size(), soft_outputs.size());
          for (std::size_t i = 0; i < outputs.size(); ++i) {
            EXPECT_EQ(bit_difference(outputs[i], soft_outputs[i]), "") << "output " << i;
          }
        }
      }
    }
  }
}

/// A vetoed step of the same policy has the whole GPU.
TEST(DriverPartition, AVetoedStepIsNotCut) {
  DOVETAIL_REQUIRE_GPU();
  const auto weights = model_catalog().open_weights(SeedWeights{.seed = 3});
  for (const std::string graph : {"none", "full"}) {
    SCOPED_TRACE(graph);
    SmProbeResult result;
    PolicyCase step(
        experiment("exchange: gather, graph: " + graph,
                   std::string(kDual) + ", sm_partition: hard",
                   "fault: {kind: veto, rank: 0, ubatch: 0, layer: 0, phase: route, iteration: "
                   "1}\n"),
        *weights);
    const auto cut = world_size() > 1 ? num_sms() - 8 : num_sms();
    std::vector<at::Tensor> outputs;
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(sms_of_gemms(step, result, 0, outputs), cut);
      EXPECT_EQ(sms_of_gemms(step, result, 1, outputs), num_sms());
    }
  }
}

}  // namespace
}  // namespace dovetail::test

// A whole step of one rank on a GPU, for tests: every phase of every ubatch on padded inputs, and
// an exchange that is a plain loop on the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework/step/weight_source.hpp"
#include "models/decoder/config.hpp"
#include "tests/unit/models/serial_step.hpp"

namespace dovetail::test {

/// Reads through another source into host memory, then copies to where the tensor lies.
class HostStagedSource final : public WeightSource {
 public:
  explicit HostStagedSource(WeightSource& source) : source_(source) {}

  bool has(const std::string& name) const override { return source_.has(name); }

  void read(const WeightRequest& request) override;

 private:
  WeightSource& source_;
};

/// The whole model, on the current GPU.
std::unique_ptr<Model> make_gpu_model(const MoeDecoderConfig& config,
                                      WeightSource& source,
                                      at::ScalarType dtype);

/// What the frame of a step adds to a ubatch, besides SerialStep's padding rows.
struct FramePadding {
  std::int64_t segments = 0;
  std::int64_t dead_expert_rows = 0;  ///< NaN, behind the rows of the experts
};

/// A poisoned cache on the GPU; see make_serial_cache.
SerialCache make_gpu_cache(const Model& model,
                           const std::vector<std::int64_t>& kv_tokens,
                           int page_size);

/// As run_step of serial_step.hpp, for one rank on the GPU; results on the CPU.
SerialResult run_gpu_step(const Model& model,
                          const SerialStep& step,
                          SerialCache& cache,
                          const FramePadding& padding);

}  // namespace dovetail::test

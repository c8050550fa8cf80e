// The tensors that a step on a GPU works on: inputs and outputs in fixed places, padded to the
// sizes that all ranks have agreed on, so that a captured step can be replayed with another batch.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/step_bounds.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// What a frame is made for, beside the bounds; constant over a policy.
struct FrameShape {
  ModelDims dims;
  int num_layers = 0;
  std::int64_t max_pages = 0;  ///< columns of the block tables
  bool has_embeds = false;     ///< activations are given, instead of input ids
  bool is_mrope = false;       ///< positions are [3, tokens]
  bool replays_routing = false;
  OutputSelection selection;
};

/// Owns its tensors; their addresses never change. Rows of ubatch u follow those of ubatch u - 1;
/// each ubatch has bounds.tokens[u] rows and bounds.segments[u] segments. Rows behind the real ones
/// are padding: slot -1, input id 0, position 0; segments behind the real ones are empty. All calls
/// from the main thread, on its current stream, while no step runs.
class StepFrame {
 public:
  StepFrame(const StepBounds& bounds, const FrameShape& shape, at::Device device);

  /// Puts a batch in place. `expert_ids` [layers, tokens, k] int64, any device, or undefined; must
  /// be there where the shape replays routing. ContractError where the slices do not fit.
  void load(const StepInputs& inputs,
            const std::vector<UbatchSlice>& slices,
            const at::Tensor& expert_ids);

  /// Copies the real rows of what was loaded last into outputs of the same selection.
  void store(StepOutputs& outputs) const;

  /// The ubatches as a step takes them: views of the frame, and this batch's segments.
  const std::vector<UbatchWork>& work() const { return work_; }

  StepOutputs& outputs() { return outputs_; }

  const at::Tensor& expert_ids() const { return expert_ids_; }

  const StepBounds& bounds() const { return bounds_; }

 private:
  void load_tokens(const StepInputs& inputs, const UbatchSlice& slice, std::size_t ubatch);
  void load_segments(const StepInputs& inputs, const UbatchSlice& slice, std::size_t ubatch);
  UbatchWork make_work(std::size_t ubatch, const FrameShape& shape) const;

  StepBounds bounds_;
  std::vector<std::int64_t> token_begin_;    ///< [ubatches + 1]
  std::vector<std::int64_t> segment_begin_;  ///< [ubatches + 1]
  at::Tensor input_ids_;                     ///< [tokens] int64
  at::Tensor embeds_;                        ///< [tokens, H]
  at::Tensor positions_;                     ///< of each ubatch its own tensor's rows
  at::Tensor slot_mapping_;                  ///< [tokens] int64
  at::Tensor expert_ids_;                    ///< [layers, tokens, k] int64
  StepOutputs outputs_;
  std::vector<UbatchWork> work_;

  /// Where the real rows go.
  struct Stored {
    UbatchSlice slice;
    at::Tensor segment_rows;  ///< rows of the frame's logits, of segments that end their request
    at::Tensor requests;      ///< rows of the outputs' logits
  };

  std::vector<Stored> stored_;
};

}  // namespace dovetail

// A batch on a GPU: inputs and outputs in fixed places, padded to the sizes that all ranks have
// agreed on, so that a captured step can be replayed with another batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/step_bounds.hpp"
#include "framework/step/model_step.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// What a padded batch is made for, beside the bounds; constant over a policy.
struct PaddedShape {
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
class PaddedBatch {
 public:
  PaddedBatch(const StepBounds& bounds, const PaddedShape& shape, at::Device device);

  /// Puts a batch in place. `expert_ids` [layers, tokens, k] int64, any device, or undefined; must
  /// be there where the shape replays routing. ContractError where the slices do not fit.
  void load(const StepInputs& inputs,
            const std::vector<UbatchSlice>& slices,
            const at::Tensor& expert_ids);

  /// Copies the real rows of what was loaded last into outputs of the same selection.
  void store(StepOutputs& outputs) const;

  /// What a step does: the ubatches as views of these tensors with this batch's segments, the
  /// outputs, the routing. num_groups: of the step's schedule.
  StepWork work(int num_groups) { return {ubatches_, &outputs_, expert_ids_, num_groups}; }

  const std::vector<UbatchWork>& ubatches() const { return ubatches_; }

  const at::Tensor& expert_ids() const { return expert_ids_; }

  StepOutputs& outputs() { return outputs_; }

  const StepBounds& bounds() const { return bounds_; }

  /// The tokens of each ubatch, padding included.
  std::span<const std::int64_t> tokens() const {
    return std::span(bounds_.tokens).first(ubatches_.size());
  }

 private:
  void load_tokens(const StepInputs& inputs, const UbatchSlice& slice, std::size_t ubatch);
  void load_segments(const StepInputs& inputs, const UbatchSlice& slice, std::size_t ubatch);
  UbatchWork make_work(std::size_t ubatch, const PaddedShape& shape) const;

  StepBounds bounds_;
  std::vector<std::int64_t> token_begin_;    ///< [ubatches + 1]
  std::vector<std::int64_t> segment_begin_;  ///< [ubatches + 1]
  at::Tensor input_ids_;                     ///< [tokens] int64
  at::Tensor embeds_;                        ///< [tokens, H]
  at::Tensor positions_;                     ///< of each ubatch its own tensor's rows
  at::Tensor slot_mapping_;                  ///< [tokens] int64
  at::Tensor expert_ids_;                    ///< [layers, tokens, k] int64
  StepOutputs outputs_;
  std::vector<UbatchWork> ubatches_;

  /// Where the real rows go.
  struct Stored {
    UbatchSlice slice;
    at::Tensor segment_rows;  ///< rows of the padded logits, of segments that end their request
    at::Tensor requests;      ///< rows of the outputs' logits
  };

  std::vector<Stored> stored_;
};

}  // namespace dovetail

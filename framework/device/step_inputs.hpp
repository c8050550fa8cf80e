// A rank's batch as tensors, and the buffers that a step writes its outputs to. Both live as long
// as the steps that use them.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/device/model.hpp"
#include "framework/plan/batch.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {

/// Inputs of one rank's whole batch, on the model's device. Keys and values of a request lie in
/// consecutive cache slots.
struct StepInputs {
  Batch batch;
  at::Tensor input_ids;                ///< [tokens] int64
  at::Tensor positions;                ///< [tokens] int64, or [3, tokens]
  at::Tensor slot_mapping;             ///< [tokens] int64: cache slot of each token
  std::vector<std::int64_t> kv_start;  ///< first cache slot of each request
  std::int64_t num_slots = 0;
};

/// Which outputs a step keeps.
struct OutputSelection {
  bool logits = true;       ///< of each request's last token
  bool logits_all = false;  ///< of all tokens
  bool layers = false;      ///< hidden states after each layer
  bool routing = false;     ///< expert ids and margins
};

/// Outputs of one rank's whole batch; ubatches write slices of these, nothing is concatenated.
/// Undefined tensors are not kept.
struct StepOutputs {
  at::Tensor hidden;               ///< [tokens, hidden] after the final norm
  at::Tensor logits;               ///< [requests, vocabulary] of each request's last token
  at::Tensor logits_all;           ///< [tokens, vocabulary]
  std::vector<at::Tensor> layers;  ///< [tokens, hidden] after each layer
  at::Tensor expert_ids;           ///< [layers, tokens, k] int32, -1 in dense layers
  at::Tensor margin;               ///< [layers, tokens] float32, NaN in dense layers

  /// Sets all to NaN or -1, so that what a step does not write is seen.
  void poison();
};

StepInputs make_step_inputs(const RankWorkload& workload, at::Device device);

StepOutputs make_step_outputs(const StepInputs& inputs,
                              const ModelDims& dims,
                              int num_layers,
                              const OutputSelection& selection,
                              at::Device device);

KvCache make_kv_cache(std::int64_t num_slots,
                      const ModelDims& dims,
                      int num_layers,
                      at::Device device);

/// The inputs of one ubatch: views of the batch's tensors, each sliced along its token dimension
/// (the last one of positions).
UbatchInputs slice_inputs(const StepInputs& inputs, const UbatchSlice& slice);

}  // namespace dovetail

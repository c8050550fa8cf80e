// A rank's batch as tensors, and the buffers that a step writes its outputs to. Both live as long
// as the steps that use them.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/batch.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/workload.hpp"
#include "framework/step/kv_cache.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// Inputs of one forward pass of one rank's whole batch, on the model's device.
struct StepInputs {
  Batch batch;
  at::Tensor input_ids;     ///< [tokens] int64
  at::Tensor embeds;        ///< [tokens, H], or undefined = input_ids are looked up
  at::Tensor positions;     ///< [tokens] int64, or [3, tokens]
  at::Tensor slot_mapping;  ///< [tokens] int64: cache slot of each token
  at::Tensor block_tables;  ///< [requests, max pages] int32: pages of each request; -1 = none
};

/// Which outputs a step keeps.
struct OutputSelection {
  bool logits = true;       ///< of each request's last token
  bool logits_all = false;  ///< of all tokens
  bool layers = false;      ///< hidden states after each layer
  bool routing = false;     ///< expert ids and the router's logits
  bool replays_routing =
      false;  ///< with routing: expert ids are given, so the natural ones as well
};

/// Outputs of one rank's whole batch; ubatches write slices of these, nothing is concatenated.
/// Undefined tensors are not kept.
struct StepOutputs {
  at::Tensor hidden;  ///< [tokens, hidden] after the final norm; in a stage that is not the last:
                      ///< without it
  at::Tensor logits;  ///< [requests, vocabulary] of each request's last token
  at::Tensor logits_all;           ///< [tokens, vocabulary]
  std::vector<at::Tensor> layers;  ///< [tokens, hidden] after each layer
  at::Tensor expert_ids;           ///< [layers, tokens, k] int32, -1 in dense layers
  at::Tensor natural_ids;          ///< the same: the router's own choice, where others are replayed
  at::Tensor router_logits;  ///< [layers, tokens, experts] of ModelDims::router_dtype, NaN in dense
                             ///< layers
  at::Tensor router_scores;  ///< the same in float32, where the model chooses by such

  /// Sets all to NaN or -1, so that what a step does not write is seen.
  void poison();
};

/// `embeds` [tokens, H] in the activation dtype, or undefined. `pages` has an entry for each
/// request of the batch, in that order. Throws ContractError where a request has too few pages,
/// where positions do not continue its context, or where the entries of the workload are not one a
/// token.
StepInputs make_step_inputs(const StepWorkload& workload,
                            const KvPages& pages,
                            const at::Tensor& embeds,
                            at::Device device);

/// Makes what `selection` asks for, poisoned; no logits in a stage that is not the last.
StepOutputs make_step_outputs(const StepInputs& inputs,
                              const ModelDims& dims,
                              int num_layers,
                              const OutputSelection& selection,
                              at::Device device);

/// What these outputs were made for.
OutputSelection selection_of(const StepOutputs& outputs);

/// The inputs of one ubatch: views of the batch's tensors, each sliced along its token dimension
/// (the last one of positions), and the rows of block_tables that its segments need.
UbatchInputs slice_inputs(const StepInputs& inputs, const UbatchSlice& slice);

}  // namespace dovetail

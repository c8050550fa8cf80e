// What a step's outputs keep of it.
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include "framework/step/model_step.hpp"

namespace dovetail {

/// In the compute-only pass somewhere else, so that it takes as long and the outputs stay.
void ModelStep::keep_routing(int layer, const Ubatch& ubatch) {
  const auto start = ubatch.work.token_start;
  const auto count = ubatch.state.inputs.num_tokens;
  const auto keep = [&](const at::Tensor& kept, const at::Tensor& rows) {
    if (kept.defined()) {
      (pass_ == PassKind::compute_only ? at::empty(rows.sizes(), kept.options())
                                       : kept.select(0, layer).narrow(0, start, count))
          .copy_(rows);
    }
  };
  keep(outputs_->expert_ids, ubatch.state.expert_ids);
  keep(outputs_->natural_ids, ubatch.state.natural_ids);
  keep(outputs_->router_logits, ubatch.state.router_logits);
  keep(outputs_->router_scores, ubatch.state.router_scores);
}

void ModelStep::keep_layer(int layer, const Ubatch& ubatch) {
  if (!outputs_->layers.empty()) {
    outputs_->layers[static_cast<std::size_t>(layer)]
        .narrow(0, ubatch.work.token_start, ubatch.state.inputs.num_tokens)
        .copy_(ubatch.state.hidden);
  }
}

void ModelStep::output(int index, Ubatch& ubatch) {
  const auto start = ubatch.work.token_start;
  const auto count = ubatch.state.inputs.num_tokens;
  auto normed = model_.output(ubatch.state);
  if (auto* fault = data_fault_at(kNoLayer, index, Phase::output)) {
    normed = fault->changed_rows(normed);
  }
  outputs_->hidden.narrow(0, start, count).copy_(normed);
  if (outputs_->logits_all.defined()) {
    outputs_->logits_all.narrow(0, start, count).copy_(model_.logits(normed));
  }
  if (outputs_->logits.defined()) {
    logits(ubatch, normed);
  }
}

void ModelStep::logits(const Ubatch& ubatch, const at::Tensor& normed) {
  const auto& last_rows = ubatch.state.inputs.on_device.last_rows;
  if (!last_rows.defined()) {
    for (const auto& last : ubatch.work.last_rows) {
      outputs_->logits.narrow(0, last.request, 1)
          .copy_(model_.logits(normed.narrow(0, last.row, 1)));
    }
    return;
  }
  // Of every segment, in one product: which of them ends its request is known when outputs are
  // read.
  if (last_rows.size(0) > 0 && normed.size(0) > 0) {
    outputs_->logits.narrow(0, ubatch.work.request_start, last_rows.size(0))
        .copy_(model_.logits(at::index_select(normed, 0, last_rows)));
  }
}

}  // namespace dovetail

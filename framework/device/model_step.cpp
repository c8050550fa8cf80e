#include "framework/device/model_step.hpp"

#include <utility>

#include <c10/core/InferenceMode.h>

#include "framework/base/check.hpp"

namespace dovetail {

ModelStep::ModelStep(const Model& model,
                     Exchange& exchange,
                     const StepInputs& inputs,
                     KvCache& cache,
                     StepOutputs& outputs)
    : model_(model), exchange_(exchange), inputs_(inputs), cache_(cache), outputs_(outputs) {}

void ModelStep::begin(const std::vector<UbatchSlice>& slices, PassKind pass) {
  pass_ = pass;
  ubatches_.clear();
  for (const auto& slice : slices) {
    Ubatch ubatch;
    ubatch.slice = slice;
    ubatch.state.inputs = slice_inputs(inputs_, slice);
    ubatches_.push_back(std::move(ubatch));
  }
  const auto num_plans = static_cast<std::size_t>(model_.shape().num_layers()) * slices.size();
  if (pass == PassKind::full) {
    plans_.assign(num_plans, nullptr);
  }
  DOVETAIL_CHECK_EQ(plans_.size(), num_plans);
}

void ModelStep::run(const Op& op) {
  const c10::InferenceMode inference;
  if (fault_ != nullptr) {
    fault_->before(op);
  }
  auto& ubatch = ubatches_.at(static_cast<std::size_t>(op.ubatch));
  switch (op.phase) {
    case Phase::embed:
      model_.embed(ubatch.state);
      break;
    case Phase::attention:
      finish_combine(op.ubatch, ubatch);
      model_.attention(op.layer, ubatch.state, cache_);
      break;
    case Phase::route:
      route(op, ubatch);
      break;
    case Phase::dispatch:
    case Phase::combine:
      exchange(op);
      break;
    case Phase::experts:
      experts(op, ubatch);
      break;
    case Phase::shared_experts:
      model_.shared_experts(op.layer, ubatch.state);
      break;
    case Phase::mlp:
      model_.mlp(op.layer, ubatch.state);
      keep_layer(op.layer, ubatch);
      break;
    case Phase::output:
      finish_combine(op.ubatch, ubatch);
      output(ubatch);
      break;
  }
}

void ModelStep::route(const Op& op, Ubatch& ubatch) {
  auto& state = ubatch.state;
  const auto start = ubatch.slice.token_start;
  const auto count = ubatch.slice.num_tokens;
  const auto replay = replay_ids_.defined()
                          ? replay_ids_.select(0, op.layer).narrow(0, start, count)
                          : at::Tensor();
  model_.route(op.layer, state, replay);
  if (pass_ == PassKind::compute_only) {
    // Without the wire the hidden states are not the real ones, so their routing would not be,
    // either.
    exchange_.prepare_again(op.ubatch, state.moe_input, plan(op));
    return;
  }
  exchange_.prepare(op.ubatch, state.moe_input, state.expert_ids, state.weights);
  plan(op) = exchange_.plan(op.ubatch);
  if (outputs_.expert_ids.defined()) {
    outputs_.expert_ids.select(0, op.layer).narrow(0, start, count).copy_(state.expert_ids);
    outputs_.margin.select(0, op.layer).narrow(0, start, count).copy_(state.margin);
  }
}

void ModelStep::exchange(const Op& op) {
  if (pass_ == PassKind::comm_only) {
    exchange_.adopt(op.ubatch, plan(op));
  }
  if (op.phase == Phase::dispatch) {
    exchange_.dispatch(op.ubatch);
  } else {
    exchange_.combine(op.ubatch);
  }
}

void ModelStep::experts(const Op& op, Ubatch& ubatch) {
  const auto rows = exchange_.arrange(op.ubatch);
  exchange_.reduce(op.ubatch, model_.experts(op.layer, rows));
  ubatch.combined_layer = op.layer;
}

void ModelStep::finish_combine(int index, Ubatch& ubatch) {
  if (ubatch.combined_layer < 0) {
    return;
  }
  const int layer = std::exchange(ubatch.combined_layer, -1);
  model_.add_moe(layer, ubatch.state, exchange_.finish(index));
  keep_layer(layer, ubatch);
}

void ModelStep::keep_layer(int layer, const Ubatch& ubatch) {
  if (!outputs_.layers.empty()) {
    outputs_.layers[static_cast<std::size_t>(layer)]
        .narrow(0, ubatch.slice.token_start, ubatch.slice.num_tokens)
        .copy_(ubatch.state.hidden);
  }
}

void ModelStep::output(Ubatch& ubatch) {
  const auto& slice = ubatch.slice;
  const auto normed = model_.output(ubatch.state);
  outputs_.hidden.narrow(0, slice.token_start, slice.num_tokens).copy_(normed);
  if (outputs_.logits_all.defined()) {
    outputs_.logits_all.narrow(0, slice.token_start, slice.num_tokens).copy_(model_.logits(normed));
  }
  if (!outputs_.logits.defined()) {
    return;
  }
  for (const auto& segment : slice.segments) {
    const auto& request = inputs_.batch.requests[static_cast<std::size_t>(segment.request)];
    if (segment.query_start + segment.query_length == request.query_length) {
      const auto last = segment.token_start - slice.token_start + segment.query_length - 1;
      outputs_.logits.narrow(0, segment.request, 1).copy_(model_.logits(normed.narrow(0, last, 1)));
    }
  }
}

void ModelStep::add_tokens_per_expert(std::span<std::int64_t> counts) const {
  const auto num_layers = static_cast<std::size_t>(model_.shape().num_layers());
  const auto num_experts = counts.size() / num_layers;
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    if (plans_[i] == nullptr) {
      continue;
    }
    const auto layer = i / ubatches_.size();
    const auto own = plans_[i]->tokens_per_expert();
    DOVETAIL_CHECK_EQ(own.size(), num_experts);
    for (std::size_t expert = 0; expert < num_experts; ++expert) {
      counts[layer * num_experts + expert] += own[expert];
    }
  }
}

std::shared_ptr<ExchangePlan>& ModelStep::plan(const Op& op) {
  const auto index =
      static_cast<std::size_t>(op.layer) * ubatches_.size() + static_cast<std::size_t>(op.ubatch);
  return plans_.at(index);
}

}  // namespace dovetail

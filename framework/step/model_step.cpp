#include "framework/step/model_step.hpp"

#include <utility>

#include <c10/core/InferenceMode.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/received_poison.hpp"

namespace dovetail {

StepWork cut_step(const StepInputs& inputs,
                  const std::vector<UbatchSlice>& slices,
                  StepOutputs& outputs,
                  const at::Tensor& replay_ids,
                  int num_groups) {
  StepWork work = {
      .ubatches = {}, .outputs = &outputs, .replay_ids = replay_ids, .num_groups = num_groups};
  for (const auto& slice : slices) {
    UbatchWork ubatch;
    ubatch.inputs = slice_inputs(inputs, slice);
    ubatch.token_start = slice.token_start;
    for (const auto& segment : slice.segments) {
      const auto& request = inputs.batch.requests[static_cast<std::size_t>(segment.request)];
      if (segment.query_start + segment.query_length == request.query_length) {
        ubatch.last_rows.push_back(
            {.row = segment.token_start - slice.token_start + segment.query_length - 1,
             .request = segment.request});
      }
    }
    work.ubatches.push_back(std::move(ubatch));
  }
  return work;
}

ModelStep::ModelStep(const Model& model, Exchange& exchange, KvCache& cache, InjectedFault* fault)
    : model_(model),
      exchange_(exchange),
      cache_(cache),
      fault_(fault),
      rounding_meter_(static_cast<std::size_t>(model.shape().num_layers())) {}

void ModelStep::begin(StepWork work, PassKind pass, bool keep_plans, bool poison_received) {
  poison_received_ = poison_received;
  pass_ = pass;
  keep_plans_ = keep_plans && pass == PassKind::full;
  outputs_ = work.outputs;
  num_groups_ = work.num_groups;
  replay_ids_ = std::move(work.replay_ids);
  ubatches_.clear();
  for (auto& own : work.ubatches) {
    Ubatch ubatch;
    ubatch.state.inputs = own.inputs;
    ubatch.work = std::move(own);
    ubatches_.push_back(std::move(ubatch));
  }
  const auto num_plans = static_cast<std::size_t>(model_.shape().num_layers()) * ubatches_.size();
  if (keep_plans_) {
    kept_routes_.assign(num_plans, {});
  }
  DOVETAIL_CHECK(pass == PassKind::full || kept_routes_.size() == num_plans,
                 "a pass without routing or without an exchange needs the plans of a full one");
}

void ModelStep::run(const Op& op) {
  const c10::InferenceMode inference;
  if (fault_ != nullptr) {
    fault_->before(op);
    fault_->delay(op);
  }
  auto* fault = data_fault();
  if (fault == nullptr) {
    run_phase(op, nullptr);
    return;
  }
  fault->before(op);
  try {
    run_phase(op, fault);
  } catch (...) {
    fault->after(op);
    throw;
  }
  fault->after(op);
}

/// `fault` may be null.
void ModelStep::run_phase(const Op& op, DataFault* fault) {
  auto& ubatch = ubatches_.at(static_cast<std::size_t>(op.ubatch));
  auto& state = ubatch.state;
  auto* fault_here = data_fault_at(op.layer, op.ubatch, op.phase);
  const auto change = [&](at::Tensor& rows) {
    if (fault_here != nullptr) {
      rows = fault_here->changed_rows(rows);
    }
  };
  switch (op.phase) {
    case Phase::embed:
      if (fault_here != nullptr) {
        fault_here->change_positions(state.inputs);
      }
      model_.embed(state);
      change(state.hidden);
      break;
    case Phase::attention:
      finish_combine(op.ubatch, ubatch);
      if (fault_here != nullptr) {
        fault_here->attend(model_, op.layer, state, cache_);
      } else {
        model_.attention(op.layer, state, cache_);
      }
      change(state.hidden);
      break;
    case Phase::route:
      route(op, ubatch);
      break;
    case Phase::dispatch:
    case Phase::combine:
      exchange(op, fault);
      break;
    case Phase::experts:
      experts(op, ubatch);
      break;
    case Phase::shared_experts:
      model_.shared_experts(op.layer, state);
      change(state.shared_output);
      break;
    case Phase::mlp:
      model_.mlp(op.layer, state);
      change(state.hidden);
      if (counts_roundings()) {
        rounding_meter_.add_dense(static_cast<std::size_t>(op.layer), state, ubatch.roundings);
      }
      keep_layer(op.layer, ubatch);
      break;
    case Phase::output:
      finish_combine(op.ubatch, ubatch);
      output(op.ubatch, ubatch);
      break;
  }
}

void ModelStep::experts(const Op& op, Ubatch& ubatch) {
  const int group = group_index(op);
  exchange_.reduce(op.ubatch, group, model_.experts(op.layer, exchange_.arrange(op.ubatch, group)));
  if (group + 1 == num_groups_) {  // earlier groups leave rows that later ones need
    poison(op.ubatch, Phase::dispatch);
    ubatch.combined_layer = op.layer;
  }
}

DataFault* ModelStep::data_fault() const {
  return fault_ != nullptr && pass_ == PassKind::full ? fault_->data() : nullptr;
}

/// Null where no data fault is at this op.
DataFault* ModelStep::data_fault_at(int layer, int ubatch, Phase phase) const {
  auto* fault = data_fault();
  return fault != nullptr && fault->is_at(layer, ubatch, phase) ? fault : nullptr;
}

void ModelStep::route(const Op& op, Ubatch& ubatch) {
  auto& state = ubatch.state;
  const auto start = ubatch.work.token_start;
  const auto count = state.inputs.num_tokens;
  const auto replay = replay_ids_.defined()
                          ? replay_ids_.select(0, op.layer).narrow(0, start, count)
                          : at::Tensor();
  model_.route(op.layer, state, replay);
  const auto num_experts = model_.dims().num_experts;
  if (auto* fault = data_fault_at(op.layer, op.ubatch, Phase::route)) {
    state.moe_input = fault->changed_rows(state.moe_input);
    fault->change_routing(state, num_experts);
  }
  // Ahead of the exchange, whose last kernel writes the time of the op's end.
  keep_routing(op.layer, ubatch);
  if (pass_ == PassKind::compute_only) {
    // Without the wire the hidden states are not the real ones, so their routing would not be,
    // either. All else is as in the full pass, so that what takes longer there is the wire's doing.
    const auto& kept = kept_route(op);
    exchange_.plans().prepare_again(op.ubatch,
                                    {.hidden = state.moe_input,
                                     .expert_ids = kept.expert_ids,
                                     .weights = kept.weights,
                                     .layer = op.layer,
                                     .num_groups = num_groups_},
                                    kept.plan);
    return;
  }
  auto* fault = data_fault_at(op.layer, op.ubatch, Phase::dispatch);
  const auto expert_ids =
      fault != nullptr ? fault->changed_experts(state.expert_ids, num_experts) : state.expert_ids;
  exchange_.prepare(op.ubatch,
                    {.hidden = state.moe_input,
                     .expert_ids = expert_ids,
                     .weights = state.weights,
                     .layer = op.layer,
                     .num_groups = num_groups_});
  if (keep_plans_) {
    kept_route(op) = {exchange_.plans().plan(op.ubatch), expert_ids.clone(), state.weights.clone()};
  }
}

/// `fault` may be null.
void ModelStep::exchange(const Op& op, DataFault* fault) {
  if (pass_ == PassKind::comm_only) {
    exchange_.plans().adopt(op.ubatch, kept_route(op).plan);
  }
  if (op.phase == Phase::dispatch) {
    exchange_.dispatch(op.ubatch, group_index(op));
  } else {
    exchange_.combine(op.ubatch, group_index(op));
  }
  if (fault != nullptr) {
    fault->change_received(op, exchange_);
    fault->reuse_received(op, exchange_);
  }
}

void ModelStep::finish_combine(int index, Ubatch& ubatch) {
  if (ubatch.combined_layer < 0) {
    return;
  }
  const int layer = std::exchange(ubatch.combined_layer, -1);
  auto combined = exchange_.finish(index);
  if (auto* fault = data_fault_at(layer, index, Phase::combine)) {
    combined = fault->changed_rows(combined);
  }
  const auto before = ubatch.state.hidden;
  model_.add_moe(layer, ubatch.state, combined);
  if (counts_roundings()) {
    rounding_meter_.add_experts(
        static_cast<std::size_t>(layer), before, ubatch.state, ubatch.roundings);
  }
  poison(index, Phase::combine);
  keep_layer(layer, ubatch);
}

void ModelStep::poison(int ubatch, Phase phase) {
  if (poison_received_) {
    poison_received(exchange_, ubatch, phase);
  }
}

void ModelStep::add_tokens_per_expert(std::span<std::int64_t> counts) const {
  const auto num_layers = static_cast<std::size_t>(model_.shape().num_layers());
  const auto num_experts = counts.size() / num_layers;
  for (std::size_t i = 0; i < kept_routes_.size(); ++i) {
    if (kept_routes_[i].plan == nullptr) {
      continue;
    }
    const auto layer = i / ubatches_.size();
    const auto own = kept_routes_[i].plan->tokens_per_expert();
    DOVETAIL_CHECK_EQ(own.size(), num_experts);
    for (std::size_t expert = 0; expert < num_experts; ++expert) {
      counts[layer * num_experts + expert] += own[expert];
    }
  }
}

ModelStep::KeptRoute& ModelStep::kept_route(const Op& op) {
  const auto index =
      static_cast<std::size_t>(op.layer) * ubatches_.size() + static_cast<std::size_t>(op.ubatch);
  return kept_routes_.at(index);
}

}  // namespace dovetail

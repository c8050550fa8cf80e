// Data faults that change tensors.
#include "framework/step/data_fault.hpp"

#include <algorithm>
#include <utility>

#include <ATen/ops/abs.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

/// `cache` with one more page behind its own.
at::Tensor with_spare_page(const at::Tensor& cache) {
  auto sizes = cache.sizes().vec();
  sizes[0] = 1;
  return at::cat({cache, at::zeros(sizes, cache.options())});
}

}  // namespace

DataFault::DataFault(const FaultConfig& fault, at::Device device)
    : fault_(fault),
      phase_(parse<Phase>(fault.phase)),
      active_(at::zeros({}, at::TensorOptions().dtype(at::kBool).device(device))) {}

void DataFault::set_active(bool is_active) {
  if (is_active != is_active_) {
    active_.fill_(is_active);
  }
  is_active_ = is_active;
}

bool DataFault::is_at(int layer, int ubatch, Phase phase) const {
  return layer == fault_.layer && ubatch == fault_.ubatch && phase == phase_;
}

bool DataFault::is_at(const Op& op) const {
  return is_at(op.layer, op.ubatch, op.phase) && group_index(op) == fault_.group;
}

void DataFault::note_acted() {
  if (is_active_ || is_capturing_) {
    has_acted_ = true;
  }
}

at::Tensor DataFault::choose(const at::Tensor& changed, const at::Tensor& right) const {
  return at::where(active_, changed, right);
}

std::int64_t DataFault::place_of_choice(std::int64_t top_k) const {
  const std::int64_t place = fault_.choice < 0 ? top_k - 1 : fault_.choice;
  DOVETAIL_CHECK(place < top_k, "a fault in a choice that a token does not have");
  return place;
}

void DataFault::change_positions(UbatchInputs& inputs) {
  if (fault_.kind != FaultKind::wrong_position || !acts()) {
    return;
  }
  at::Tensor changed = inputs.positions.clone();
  changed.select(-1, fault_.token).add_(1);
  inputs.positions = choose(changed, inputs.positions);
  note_acted();
}

void DataFault::attend(const Model& model, int layer, UbatchState& state, KvCache& cache) {
  if (fault_.kind != FaultKind::stale_kv || !acts()) {
    model.attention(layer, state, cache);
    return;
  }
  const auto index = static_cast<std::size_t>(layer);
  const auto parts = cache.parts();
  const at::Tensor& first = (cache.*parts.front().layers).at(index);
  const auto num_pages = first.size(0);
  KvCache spare;
  for (const auto& part : parts) {
    (spare.*part.layers).resize(index + 1);
    (spare.*part.layers)[index] = with_spare_page((cache.*part.layers).at(index));
  }
  const at::Tensor slots = state.inputs.slot_mapping;
  at::Tensor changed = slots.clone();
  changed.select(0, fault_.token).fill_(num_pages * first.size(1));
  state.inputs.slot_mapping = choose(changed, slots);
  model.attention(layer, state, spare);
  state.inputs.slot_mapping = slots;
  for (const auto& part : parts) {
    (cache.*part.layers)[index].copy_((spare.*part.layers)[index].narrow(0, 0, num_pages));
  }
  note_acted();
}

void DataFault::change_routing(UbatchState& state, int num_experts) {
  state.expert_ids = changed_experts(state.expert_ids, num_experts);
  if (fault_.kind != FaultKind::dropped_weight || !acts()) {
    return;
  }
  at::Tensor changed = state.weights.clone();
  changed.select(0, fault_.token).select(0, place_of_choice(changed.size(1))).zero_();
  state.weights = choose(changed, state.weights);
  note_acted();
}

/// The expert that takes the place is the first one that the token has not chosen.
at::Tensor DataFault::changed_experts(const at::Tensor& expert_ids, int num_experts) {
  if (fault_.kind != FaultKind::wrong_expert || !acts()) {
    return expert_ids;
  }
  const at::Tensor chosen = at::clamp_min(expert_ids.select(0, fault_.token), 0);
  const at::Tensor is_free =
      at::ones({num_experts}, expert_ids.options()).scatter_(0, chosen, at::zeros_like(chosen));
  at::Tensor changed = expert_ids.clone();
  changed.select(0, fault_.token)
      .select(0, place_of_choice(expert_ids.size(1)))
      .copy_(at::argmax(is_free));
  note_acted();
  return choose(changed, expert_ids);
}

at::Tensor DataFault::changed_rows(const at::Tensor& rows) {
  const bool flips = fault_.kind == FaultKind::flipped_element;
  if ((!flips && fault_.kind != FaultKind::swapped_tokens) || !acts()) {
    return rows;
  }
  const std::int64_t token = fault_.token;
  at::Tensor changed = rows.clone();
  if (!flips) {
    changed.select(0, token).copy_(rows.select(0, token + 1));
    changed.select(0, token + 1).copy_(rows.select(0, token));
  } else if (fault_.element >= 0) {
    changed.select(0, token).select(0, fault_.element).neg_();
  } else {
    at::Tensor row = changed.select(0, token);
    const at::Tensor largest = at::argmax(at::abs(row), 0, /*keepdim=*/true);
    row.scatter_(0, largest, at::neg(at::gather(row, 0, largest)));
  }
  note_acted();
  return choose(changed, rows);
}

void DataFault::change_received(const Op& op, Exchange& exchange) {
  if (fault_.kind != FaultKind::stale_buffer || !acts()) {
    return;
  }
  // Not at the head of the fault's own op: a peer may have written to the buffers by then.
  if (op.ubatch == fault_.ubatch && op.phase == phase_ && op.layer < fault_.layer) {
    keep_received(op, exchange);
  } else if (is_at(op)) {
    restore_received(op, exchange);
  }
}

void DataFault::keep_received(const Op& op, Exchange& exchange) {
  received_.clear();
  for (const at::Tensor& rows :
       exchange.buffers().received_rows(op.ubatch, op.phase, std::nullopt)) {
    received_.push_back(rows.flatten().clone());
  }
}

/// Only the part of the op's group, beside which others may be read. A buffer that no layer has
/// used before, or that has grown meanwhile, is new memory, which holds zeros.
void DataFault::restore_received(const Op& op, Exchange& exchange) {
  const auto whole = exchange.buffers().received_rows(op.ubatch, op.phase, std::nullopt);
  if (received_.empty()) {
    for (const at::Tensor& rows : whole) {
      received_.push_back(at::zeros({0}, rows.options()));
    }
  }
  DOVETAIL_CHECK_EQ(whole.size(), received_.size());
  for (const at::Tensor& rows :
       exchange.buffers().received_rows(op.ubatch, op.phase, group_index(op))) {
    at::Tensor now = rows.flatten();
    const auto part = std::find_if(whole.begin(), whole.end(), [&](const at::Tensor& each) {
      const auto offset = rows.storage_offset() - each.storage_offset();
      return offset >= 0 && offset + now.size(0) <= each.numel();
    });
    DOVETAIL_CHECK(part != whole.end(), "rows outside of the buffer that holds them");
    const auto& kept = received_[static_cast<std::size_t>(part - whole.begin())];
    const auto begin = std::min(rows.storage_offset() - part->storage_offset(), kept.size(0));
    const auto common = std::min(now.size(0), kept.size(0) - begin);
    at::Tensor before = at::zeros_like(now);
    before.narrow(0, 0, common).copy_(kept.narrow(0, begin, common));
    now.copy_(choose(before, now));
  }
  received_.clear();
  note_acted();
}

void DataFault::reuse_received(const Op& op, Exchange& exchange) {
  const bool is_later_use = other_ && is_same_op(op, *other_);
  if (fault_.kind != FaultKind::early_reuse || !is_later_use || !acts()) {
    return;
  }
  const auto later = exchange.buffers().received_rows(op.ubatch, op.phase, group_index(op));
  const auto own = exchange.buffers().received_rows(fault_.ubatch, op.phase, fault_.group);
  DOVETAIL_CHECK_EQ(later.size(), own.size());
  for (std::size_t i = 0; i < own.size(); ++i) {
    const auto common = std::min(own[i].numel(), later[i].numel());
    at::Tensor overwritten = own[i].flatten().narrow(0, 0, common);
    overwritten.copy_(choose(later[i].flatten().narrow(0, 0, common), overwritten));
    if (common > 0) {
      note_acted();
    }
  }
}

}  // namespace dovetail

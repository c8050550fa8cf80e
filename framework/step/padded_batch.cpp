#include "framework/step/padded_batch.hpp"

#include <algorithm>
#include <string>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

std::vector<std::int64_t> sums_before(const std::array<std::int64_t, kMaxUbatches>& counts,
                                      int num_ubatches) {
  std::vector<std::int64_t> begin = {0};
  for (int u = 0; u < num_ubatches; ++u) {
    begin.push_back(begin.back() + counts[static_cast<std::size_t>(u)]);
  }
  return begin;
}

at::Tensor to_device(const std::vector<std::int64_t>& values, at::ScalarType dtype, at::Device to) {
  return at::tensor(values, at::TensorOptions().dtype(dtype)).to(to);
}

/// The output tensors: those of a batch with as many tokens and requests.
StepOutputs make_outputs(const PaddedShape& shape,
                         std::int64_t tokens,
                         std::int64_t segments,
                         at::Device device) {
  StepInputs as_batch;
  as_batch.batch.requests.assign(static_cast<std::size_t>(segments), {});
  if (segments > 0) {
    as_batch.batch.requests.front().query_length = tokens;
  }
  if (segments == 0 && tokens > 0) {  // all padding
    as_batch.batch.requests.push_back({.query_length = tokens});
  }
  return make_step_outputs(as_batch, shape.dims, shape.num_layers, shape.selection, device);
}

}  // namespace

PaddedBatch::PaddedBatch(const StepBounds& bounds, const PaddedShape& shape, at::Device device)
    : bounds_(bounds),
      token_begin_(sums_before(bounds.tokens, bounds.num_ubatches)),
      segment_begin_(sums_before(bounds.segments, bounds.num_ubatches)) {
  const auto tokens = token_begin_.back();
  const auto integers = at::TensorOptions().dtype(at::kLong).device(device);
  input_ids_ = at::zeros({tokens}, integers);
  slot_mapping_ = at::full({tokens}, -1, integers);
  positions_ = at::zeros({shape.is_mrope ? 3 * tokens : tokens}, integers);
  if (shape.has_embeds) {
    embeds_ = at::zeros({tokens, shape.dims.hidden}, integers.dtype(shape.dims.dtype));
  }
  if (shape.replays_routing) {
    expert_ids_ = at::full({shape.num_layers, tokens, shape.dims.top_k}, -1, integers);
  }
  outputs_ = make_outputs(shape, tokens, segment_begin_.back(), device);
  for (std::size_t u = 0; u < static_cast<std::size_t>(bounds.num_ubatches); ++u) {
    ubatches_.push_back(make_work(u, shape));
  }
}

UbatchWork PaddedBatch::make_work(std::size_t u, const PaddedShape& shape) const {
  const auto start = token_begin_[u];
  const auto count = bounds_.tokens[u];
  const auto segments = bounds_.segments[u];
  const auto integers = at::TensorOptions().dtype(at::kInt).device(slot_mapping_.device());
  UbatchWork work;
  work.token_start = start;
  work.request_start = segment_begin_[u];
  work.inputs.num_tokens = count;
  work.inputs.input_ids = input_ids_.narrow(0, start, count);
  if (embeds_.defined()) {
    work.inputs.embeds = embeds_.narrow(0, start, count);
  }
  work.inputs.positions = shape.is_mrope
                              ? positions_.narrow(0, 3 * start, 3 * count).view({3, count})
                              : positions_.narrow(0, start, count);
  work.inputs.slot_mapping = slot_mapping_.narrow(0, start, count);
  work.inputs.block_tables = at::full({segments, shape.max_pages}, -1, integers);
  work.inputs.on_device = {.query_starts = at::zeros({segments + 1}, integers),
                           .key_lengths = at::zeros({segments}, integers),
                           .key_starts = at::zeros({segments + 1}, integers),
                           .last_rows = at::zeros({segments}, integers.dtype(at::kLong)),
                           .max_query_length = bounds_.query_length,
                           .max_key_length = bounds_.key_length,
                           .max_keys = bounds_.keys[u],
                           .has_context = bounds_.context[u] > 0};
  return work;
}

void PaddedBatch::load(const StepInputs& inputs,
                       const std::vector<UbatchSlice>& slices,
                       const at::Tensor& expert_ids) {
  DOVETAIL_CHECK_EQ(slices.size(), ubatches_.size());
  DOVETAIL_CHECK_EQ(expert_ids.defined(), expert_ids_.defined());
  stored_.clear();
  for (std::size_t u = 0; u < slices.size(); ++u) {
    load_tokens(inputs, slices[u], u);
    if (expert_ids_.defined()) {
      auto rows = expert_ids_.narrow(1, token_begin_[u], bounds_.tokens[u]);
      rows.fill_(-1);
      rows.narrow(1, 0, slices[u].num_tokens)
          .copy_(expert_ids.narrow(1, slices[u].token_start, slices[u].num_tokens));
    }
    load_segments(inputs, slices[u], u);
  }
}

void PaddedBatch::load_tokens(const StepInputs& inputs, const UbatchSlice& slice, std::size_t u) {
  DOVETAIL_CHECK(slice.num_tokens <= bounds_.tokens[u],
                 counted(slice.num_tokens, "token") + " in a ubatch of at most " +
                     std::to_string(bounds_.tokens[u]));
  const auto put =
      [&](const at::Tensor& to, const at::Tensor& from, std::int64_t dimension, int padding) {
        to.fill_(padding);
        to.narrow(dimension, 0, slice.num_tokens)
            .copy_(from.narrow(dimension, slice.token_start, slice.num_tokens));
      };
  auto& ubatch = ubatches_[u].inputs;
  put(ubatch.input_ids, inputs.input_ids, 0, 0);
  put(ubatch.slot_mapping, inputs.slot_mapping, 0, -1);
  put(ubatch.positions, inputs.positions, inputs.positions.dim() - 1, 0);
  if (ubatch.embeds.defined()) {
    put(ubatch.embeds, inputs.embeds, 0, 0);
  }
}

void PaddedBatch::load_segments(const StepInputs& inputs, const UbatchSlice& slice, std::size_t u) {
  const auto capacity = static_cast<std::size_t>(bounds_.segments[u]);
  DOVETAIL_CHECK(slice.segments.size() <= capacity,
                 counted(std::ssize(slice.segments), "segment") + " in a ubatch of at most " +
                     std::to_string(capacity));
  auto& ubatch = ubatches_[u].inputs;
  ubatch.segments.clear();
  std::vector<std::int64_t> query_starts = {0};
  std::vector<std::int64_t> key_lengths;
  std::vector<std::int64_t> key_starts = {0};
  std::vector<std::int64_t> last_rows;
  std::vector<std::int64_t> requests;
  std::vector<std::int64_t> stored_rows;
  std::vector<std::int64_t> stored_requests;
  for (const auto& segment : slice.segments) {
    const auto& request = inputs.batch.requests[static_cast<std::size_t>(segment.request)];
    const auto row = segment.token_start - slice.token_start;
    DOVETAIL_CHECK_EQ(row, query_starts.back());
    ubatch.segments.push_back({.token_start = row,
                               .query_length = segment.query_length,
                               .context_length = request.context_length + segment.query_start});
    const auto keys = ubatch.segments.back().context_length + segment.query_length;
    if (segment.query_start + segment.query_length == request.query_length) {
      stored_rows.push_back(segment_begin_[u] + static_cast<std::int64_t>(last_rows.size()));
      stored_requests.push_back(segment.request);
    }
    query_starts.push_back(row + segment.query_length);
    key_lengths.push_back(keys);
    key_starts.push_back(key_starts.back() + keys);
    last_rows.push_back(row + segment.query_length - 1);
    requests.push_back(segment.request);
  }
  DOVETAIL_CHECK(key_starts.back() <= bounds_.keys[u], "more keys than agreed");
  query_starts.resize(capacity + 1, query_starts.back());
  key_lengths.resize(capacity, 0);
  key_starts.resize(capacity + 1, key_starts.back());
  last_rows.resize(capacity, 0);
  const auto device = slot_mapping_.device();
  auto& on_device = ubatch.on_device;
  on_device.query_starts.copy_(to_device(query_starts, at::kInt, device));
  on_device.key_lengths.copy_(to_device(key_lengths, at::kInt, device));
  on_device.key_starts.copy_(to_device(key_starts, at::kInt, device));
  on_device.last_rows.copy_(to_device(last_rows, at::kLong, device));
  ubatch.block_tables.fill_(-1);
  if (!requests.empty()) {
    const auto columns = inputs.block_tables.size(1);
    DOVETAIL_CHECK(columns <= ubatch.block_tables.size(1),
                   "more pages than the batch has room for");
    ubatch.block_tables.narrow(0, 0, std::ssize(requests))
        .narrow(1, 0, columns)
        .copy_(at::index_select(inputs.block_tables, 0, to_device(requests, at::kLong, device)));
  }
  stored_.push_back({slice,
                     to_device(stored_rows, at::kLong, device),
                     to_device(stored_requests, at::kLong, device)});
}

void PaddedBatch::store(StepOutputs& outputs) const {
  for (std::size_t u = 0; u < stored_.size(); ++u) {
    const auto& stored = stored_[u];
    const auto copy_rows = [&](at::Tensor& to, const at::Tensor& from, std::int64_t dimension) {
      if (to.defined()) {
        to.narrow(dimension, stored.slice.token_start, stored.slice.num_tokens)
            .copy_(from.narrow(dimension, token_begin_[u], stored.slice.num_tokens));
      }
    };
    copy_rows(outputs.hidden, outputs_.hidden, 0);
    copy_rows(outputs.logits_all, outputs_.logits_all, 0);
    for (std::size_t layer = 0; layer < outputs.layers.size(); ++layer) {
      copy_rows(outputs.layers[layer], outputs_.layers.at(layer), 0);
    }
    copy_rows(outputs.expert_ids, outputs_.expert_ids, 1);
    copy_rows(outputs.natural_ids, outputs_.natural_ids, 1);
    copy_rows(outputs.router_logits, outputs_.router_logits, 1);
    copy_rows(outputs.router_scores, outputs_.router_scores, 1);
    if (outputs.logits.defined()) {
      outputs.logits.index_copy_(
          0, stored.requests, at::index_select(outputs_.logits, 0, stored.segment_rows));
    }
  }
}

}  // namespace dovetail

#include "tests/unit/models/serial_step.hpp"

#include <algorithm>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kHole = 3;  // slots between two requests

struct Batch {
  std::vector<UbatchState> ubatches;
  std::int64_t num_slots = 0;
};

struct RequestPlace {
  std::int64_t start = 0;
  std::int64_t length = 0;
  std::int64_t kv_start = 0;
};

std::vector<RequestPlace> place_requests(const SerialStep& step, std::int64_t& num_slots) {
  std::vector<RequestPlace> places;
  std::int64_t start = 0;
  for (const auto& request : step.requests) {
    const auto length = static_cast<std::int64_t>(request.size());
    places.push_back({.start = start, .length = length, .kv_start = 0});
    start += length;
  }
  num_slots = kHole;
  for (auto place = places.rbegin(); place != places.rend(); ++place) {
    place->kv_start = num_slots;
    num_slots += place->length + kHole;
  }
  return places;
}

UbatchState make_ubatch(const SerialStep& step,
                        const std::vector<RequestPlace>& places,
                        std::int64_t begin,
                        std::int64_t end) {
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> slots;
  UbatchState state;
  for (std::size_t r = 0; r < places.size(); ++r) {
    const RequestPlace& place = places[r];
    const std::int64_t first = std::max(begin, place.start) - place.start;
    const std::int64_t last = std::min(end, place.start + place.length) - place.start;
    if (first >= last) {
      continue;
    }
    state.inputs.segments.push_back({.token_start = static_cast<std::int64_t>(ids.size()),
                                     .query_length = last - first,
                                     .context_length = first,
                                     .kv_start = place.kv_start});
    for (std::int64_t position = first; position < last; ++position) {
      ids.push_back(step.requests[r][static_cast<std::size_t>(position)]);
      positions.push_back(position);
      slots.push_back(place.kv_start + position);
    }
  }
  for (std::int64_t row = 0; row < step.padding; ++row) {
    ids.push_back(0);
    positions.push_back(0);
    slots.push_back(-1);
  }
  state.inputs.num_tokens = static_cast<std::int64_t>(ids.size());
  state.inputs.input_ids = at::tensor(ids, at::kLong);
  state.inputs.positions = at::tensor(positions, at::kLong);
  state.inputs.slot_mapping = at::tensor(slots, at::kLong);
  return state;
}

Batch make_batch(const SerialStep& step) {
  Batch batch;
  const auto places = place_requests(step, batch.num_slots);
  std::int64_t begin = 0;
  for (const std::int64_t end : step.ubatch_ends) {
    batch.ubatches.push_back(make_ubatch(step, places, begin, end));
    begin = end;
  }
  DOVETAIL_CHECK_EQ(begin, places.empty() ? 0 : places.back().start + places.back().length);
  return batch;
}

KvCache poisoned_cache(const Model& model, std::int64_t num_slots) {
  KvCache cache;
  const auto options = at::TensorOptions().dtype(model.dims().dtype);
  const double poison = std::numeric_limits<double>::quiet_NaN();
  for (int layer = 0; layer < model.shape().num_layers(); ++layer) {
    for (auto* side : {&cache.keys, &cache.values}) {
      side->push_back(
          at::full({num_slots, model.dims().kv_heads, model.dims().head_dim}, poison, options));
    }
  }
  return cache;
}

/// What `rank`'s experts add to each token: rounded once to the activation dtype.
at::Tensor partial_sums(const Model& model,
                        int layer,
                        const UbatchState& state,
                        std::int64_t first_expert,
                        std::int64_t num_local) {
  const auto ids = state.expert_ids.accessor<std::int64_t, 2>();
  std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> rows_of(
      static_cast<std::size_t>(num_local));
  for (std::int64_t token = 0; token < ids.size(0); ++token) {
    for (std::int64_t choice = 0; choice < ids.size(1); ++choice) {
      const std::int64_t expert = ids[token][choice] - first_expert;
      if (ids[token][choice] >= 0 && expert >= 0 && expert < num_local) {
        rows_of[static_cast<std::size_t>(expert)].emplace_back(token, choice);
      }
    }
  }
  std::vector<std::int64_t> tokens;
  std::vector<int> ends;
  for (const auto& rows : rows_of) {
    for (const auto& [token, choice] : rows) {
      tokens.push_back(token);
    }
    ends.push_back(static_cast<int>(tokens.size()));
  }
  const ExpertRows rows = {
      .rows = at::index_select(state.moe_input, 0, at::tensor(tokens, at::kLong)),
      .offsets = at::tensor(ends, at::kInt)};
  const at::Tensor outputs = model.experts(layer, rows).to(at::kFloat);
  at::Tensor sums = at::zeros({ids.size(0), state.moe_input.size(1)}, at::kFloat);
  const auto weights = state.weights.accessor<float, 2>();
  // Ascending k: choices of one token in the order of its list.
  for (std::int64_t wanted = 0; wanted < ids.size(1); ++wanted) {
    const float* output = outputs.const_data_ptr<float>();
    for (const auto& expert_rows : rows_of) {
      for (const auto& [token, choice] : expert_rows) {
        float* sum = sums.mutable_data_ptr<float>() + token * sums.size(1);
        for (std::int64_t i = 0; choice == wanted && i < sums.size(1); ++i) {
          sum[i] += weights[token][choice] * output[i];
        }
        output += sums.size(1);
      }
    }
  }
  return sums.to(state.moe_input.scalar_type());
}

at::Tensor combine(const std::vector<std::unique_ptr<Model>>& ranks,
                   int layer,
                   const UbatchState& state) {
  const auto num_local =
      static_cast<std::int64_t>(ranks.front()->dims().num_experts) / std::ssize(ranks);
  at::Tensor total = at::zeros(state.moe_input.sizes(), at::kFloat);
  for (std::int64_t rank = 0; rank < std::ssize(ranks); ++rank) {
    total.add_(partial_sums(
        *ranks[static_cast<std::size_t>(rank)], layer, state, rank * num_local, num_local));
  }
  return total.to(state.moe_input.scalar_type());
}

at::Tensor replay_rows(const SerialStep& step,
                       std::size_t layer,
                       std::int64_t begin,
                       const UbatchState& state) {
  if (step.replay_ids.empty()) {
    return {};
  }
  const at::Tensor& all = step.replay_ids.at(layer);
  const std::int64_t real = state.inputs.num_tokens - step.padding;
  return at::cat(
      {all.narrow(0, begin, real), at::full({step.padding, all.size(1)}, -1, at::kLong)});
}

}  // namespace

SerialStep whole_step(std::vector<std::vector<std::int64_t>> requests) {
  SerialStep step;
  std::int64_t tokens = 0;
  for (const auto& request : requests) {
    tokens += std::ssize(request);
  }
  step.requests = std::move(requests);
  step.ubatch_ends = {tokens};
  return step;
}

SerialResult run_step(const std::vector<std::unique_ptr<Model>>& ranks, const SerialStep& step) {
  const Model& model = *ranks.front();
  Batch batch = make_batch(step);
  KvCache cache = poisoned_cache(model, batch.num_slots);
  SerialResult result;
  const auto gather = [&](const auto& rows_of) {
    std::vector<at::Tensor> parts;
    for (const UbatchState& state : batch.ubatches) {
      parts.push_back(rows_of(state).narrow(0, 0, state.inputs.num_tokens - step.padding));
    }
    return at::cat(parts);
  };
  for (UbatchState& state : batch.ubatches) {
    model.embed(state);
  }
  for (int layer = 0; layer < model.shape().num_layers(); ++layer) {
    const LayerShape& shape = model.shape().layers[static_cast<std::size_t>(layer)];
    std::int64_t begin = 0;
    for (UbatchState& state : batch.ubatches) {
      model.attention(layer, state, cache);
      if (!shape.is_moe) {
        model.mlp(layer, state);
        continue;
      }
      model.route(layer, state, replay_rows(step, static_cast<std::size_t>(layer), begin, state));
      begin += state.inputs.num_tokens - step.padding;
      if (step.after_route) {
        step.after_route(layer, state);
      }
      if (shape.has_shared_experts) {
        model.shared_experts(layer, state);
      }
      model.add_moe(layer, state, combine(ranks, layer, state));
    }
    const auto of_moe = [&](at::Tensor UbatchState::*field) {
      return shape.is_moe ? gather([&](const UbatchState& state) { return state.*field; })
                          : at::Tensor();
    };
    result.expert_ids.push_back(of_moe(&UbatchState::expert_ids));
    result.weights.push_back(of_moe(&UbatchState::weights));
    result.margin.push_back(of_moe(&UbatchState::margin));
  }
  result.hidden = gather([&](const UbatchState& state) { return model.output(state); });
  result.logits = model.logits(result.hidden);
  return result;
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  DOVETAIL_CHECK(a.sizes() == b.sizes(), "shapes differ");
  const at::Tensor left = a.to(at::kDouble);
  const at::Tensor right = b.to(at::kDouble);
  return ((left - right).abs().max() / right.abs().max()).item<double>();
}

}  // namespace dovetail

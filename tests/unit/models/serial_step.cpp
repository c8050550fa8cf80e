#include "tests/unit/models/serial_step.hpp"

#include <iterator>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "framework/plan/split.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {
namespace {

std::vector<std::int64_t> context_lengths(const SerialStep& step) {
  return step.context_lengths.empty() ? std::vector<std::int64_t>(step.requests.size(), 0)
                                      : step.context_lengths;
}

/// Rows of value `fill` behind the last token.
at::Tensor pad(const at::Tensor& x, std::int64_t dimension, std::int64_t rows, double fill) {
  auto sizes = x.sizes().vec();
  sizes.at(static_cast<std::size_t>(dimension)) = rows;
  return at::cat({x, at::full(sizes, fill, x.options())}, dimension);
}

void pad_ubatch(UbatchInputs& ubatch, std::int64_t rows) {
  ubatch.num_tokens += rows;
  ubatch.input_ids = pad(ubatch.input_ids, 0, rows, 0);
  ubatch.positions = pad(ubatch.positions, ubatch.positions.dim() - 1, rows, 0);
  ubatch.slot_mapping = pad(ubatch.slot_mapping, 0, rows, -1);
  if (ubatch.embeds.defined()) {
    ubatch.embeds = pad(ubatch.embeds, 0, rows, 0);
  }
}

std::vector<UbatchState> make_ubatches(const SerialStep& step, const KvPages& pages) {
  StepInputs inputs = make_step_inputs(workload_of(step), pages, step.embeds, at::kCPU);
  if (step.mrope_positions.defined()) {
    inputs.positions = step.mrope_positions;
  }
  std::vector<UbatchState> ubatches;
  std::int64_t begin = 0;
  for (const std::int64_t end : step.ubatch_ends) {
    ubatches.emplace_back();
    ubatches.back().inputs = slice_inputs(inputs, slice_tokens(inputs.batch, begin, end - begin));
    pad_ubatch(ubatches.back().inputs, step.padding);
    begin = end;
  }
  DOVETAIL_CHECK_EQ(begin, inputs.batch.num_tokens());
  return ubatches;
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

SerialCache make_serial_cache(const Model& model,
                              const std::vector<std::int64_t>& kv_tokens,
                              int page_size,
                              std::uint64_t seed) {
  constexpr std::int64_t kSparePages = 3;
  const auto needed = allocate_kv_pages(kv_tokens, page_size, 0, seed).num_pages;
  SerialCache cache;
  cache.pages = allocate_kv_pages(kv_tokens, page_size, (needed + kSparePages) * page_size, seed);
  cache.cache = make_kv_cache(cache.pages, model.dims(), model.shape().num_layers(), at::kCPU);
  return cache;
}

StepWorkload workload_of(const SerialStep& step) {
  StepWorkload workload;
  const auto contexts = context_lengths(step);
  for (std::size_t index = 0; index < step.requests.size(); ++index) {
    const auto& ids = step.requests[index];
    const auto id = static_cast<std::int64_t>(100 + index);
    workload.batch.requests.push_back(
        {.id = id, .query_length = std::ssize(ids), .context_length = contexts.at(index)});
    for (std::size_t i = 0; i < ids.size(); ++i) {
      workload.global_index.push_back(std::ssize(workload.input_ids));
      workload.input_ids.push_back(ids[i]);
      workload.positions.push_back(contexts[index] + static_cast<std::int64_t>(i));
      workload.request_ids.push_back(id);
    }
  }
  return workload;
}

SerialResult run_step(const std::vector<std::unique_ptr<Model>>& ranks, const SerialStep& step) {
  auto kv_tokens = context_lengths(step);
  for (std::size_t index = 0; index < kv_tokens.size(); ++index) {
    kv_tokens[index] += std::ssize(step.requests[index]);
  }
  SerialCache cache = make_serial_cache(*ranks.front(), kv_tokens, 3);
  return run_step(ranks, step, cache);
}

SerialResult run_step(const std::vector<std::unique_ptr<Model>>& ranks,
                      const SerialStep& step,
                      SerialCache& cache) {
  const Model& model = *ranks.front();
  std::vector<UbatchState> ubatches = make_ubatches(step, cache.pages);
  SerialResult result;
  const auto gather = [&](const auto& rows_of) {
    std::vector<at::Tensor> parts;
    for (const UbatchState& state : ubatches) {
      parts.push_back(rows_of(state).narrow(0, 0, state.inputs.num_tokens - step.padding));
    }
    return at::cat(parts);
  };
  for (UbatchState& state : ubatches) {
    model.embed(state);
  }
  for (int layer = 0; layer < model.shape().num_layers(); ++layer) {
    const LayerShape& shape = model.shape().layers[static_cast<std::size_t>(layer)];
    std::int64_t begin = 0;
    for (UbatchState& state : ubatches) {
      model.attention(layer, state, cache.cache);
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
    result.natural_ids.push_back(of_moe(&UbatchState::natural_ids));
    result.router_logits.push_back(of_moe(&UbatchState::router_logits));
  }
  result.hidden = gather([&](const UbatchState& state) { return model.output(state); });
  if (model.dims().is_last_stage) {
    result.logits = model.logits(result.hidden);
  }
  return result;
}

at::Tensor SerialResult::margin(std::size_t layer) const {
  const auto k = natural_ids.at(layer).size(1);
  const auto sorted =
      std::get<0>(at::sort(router_logits.at(layer).to(at::kFloat), -1, /*descending=*/true));
  return sorted.select(1, k - 1) - sorted.select(1, k);
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  DOVETAIL_CHECK(a.sizes() == b.sizes(), "shapes differ");
  const at::Tensor left = a.to(at::kDouble);
  const at::Tensor right = b.to(at::kDouble);
  return ((left - right).abs().max() / right.abs().max()).item<double>();
}

}  // namespace dovetail

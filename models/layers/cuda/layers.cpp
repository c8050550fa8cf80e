#include "models/layers/cuda/layers.hpp"

#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "models/layers/cuda/kernels.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail::gpu {
namespace {

constexpr std::int64_t kVector = 8;  // elements that the kernels load at once

cudaStream_t stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

bool is_aligned(const at::Tensor& x) {
  constexpr std::uintptr_t kBytes = 16;
  return x.is_contiguous() && reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % kBytes == 0;
}

}  // namespace

void on_all_sms(const std::function<void()>& run) {
  const SmPartition all_sms(0);
  run();
}

bool can_norm(const at::Tensor& x, const at::Tensor& weight) {
  const std::int64_t size = x.size(-1);
  return is_aligned(x) && is_aligned(weight) && weight.scalar_type() == x.scalar_type() &&
         size > 0 && size % kVector == 0 && size <= kMaxNormSize;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  DOVETAIL_CHECK_EQ(weight.numel(), x.size(-1));
  at::Tensor result = at::empty_like(x);
  launch_rms_norm(result.mutable_data_ptr(),
                  x.const_data_ptr(),
                  weight.const_data_ptr(),
                  static_cast<float>(epsilon),
                  x.numel() / x.size(-1),
                  x.size(-1),
                  stream());
  return result;
}

at::Tensor rotary_table(const at::Tensor& positions,
                        const at::Tensor& frequencies,
                        const at::Tensor& position_rows,
                        double attention_factor) {
  const bool two_dimensional = positions.dim() == 2;
  const std::int64_t tokens = positions.size(-1);
  DOVETAIL_CHECK(positions.scalar_type() == at::kLong && (tokens <= 1 || positions.stride(-1) == 1),
                 "positions must be int64 with neighbouring tokens");
  at::Tensor table =
      at::empty({2, tokens, frequencies.numel()}, frequencies.options().dtype(at::kBFloat16));
  launch_rotary_table(
      {.table = table.mutable_data_ptr(),
       .positions = positions.const_data_ptr<std::int64_t>(),
       .position_stride = two_dimensional ? positions.stride(0) : 0,
       .position_rows = two_dimensional ? position_rows.const_data_ptr<std::int64_t>() : nullptr,
       .frequencies = frequencies.const_data_ptr<float>(),
       .scale = static_cast<float>(attention_factor),
       .tokens = tokens,
       .num_frequencies = frequencies.numel()},
      stream());
  return table;
}

bool can_route(const at::Tensor& logits, const RouterRule& rule) {
  const at::ScalarType dtype = logits.scalar_type();
  return logits.is_cuda() && (dtype == at::kBFloat16 || dtype == at::kFloat) &&
         logits.is_contiguous() && logits.size(1) <= kMaxRoutedExperts &&
         rule.top_k <= kMaxRoutedChoices && rule.groups.num_groups <= kMaxRoutedGroups;
}

Routing route(const at::Tensor& logits,
              const at::Tensor& bias,
              const at::Tensor& replay_ids,
              const at::Tensor& slot_mapping,
              const RouterRule& rule) {
  const std::int64_t tokens = logits.size(0);
  const std::int64_t k = rule.top_k;
  const bool sigmoid = rule.score == RouterScore::sigmoid;
  DOVETAIL_CHECK(!bias.defined() || (bias.is_cuda() && bias.scalar_type() == at::kFloat &&
                                     bias.is_contiguous() && bias.numel() == logits.size(1)),
                 "the router's bias must be [experts] float32 on the GPU");
  DOVETAIL_CHECK_EQ(slot_mapping.numel(), tokens);
  DOVETAIL_CHECK(slot_mapping.is_contiguous(), "slot_mapping must be contiguous");
  if (replay_ids.defined()) {
    DOVETAIL_CHECK(replay_ids.sizes() == at::IntArrayRef({tokens, k}) &&
                       replay_ids.scalar_type() == at::kLong && replay_ids.is_contiguous(),
                   "replay_ids must be [tokens, k] int64, contiguous");
  }
  const auto options = logits.options();
  const at::Tensor expert_ids = at::empty({tokens, k}, options.dtype(at::kLong));
  const Routing routing = {
      .expert_ids = expert_ids,
      .weights = at::empty({tokens, k}, options.dtype(at::kFloat)),
      .natural_ids = replay_ids.defined() ? at::empty_like(expert_ids) : expert_ids,
      .scores = sigmoid ? at::empty(logits.sizes(), options.dtype(at::kFloat)) : at::Tensor()};
  launch_router(
      {.logits = logits.const_data_ptr(),
       .has_float32_logits = logits.scalar_type() == at::kFloat,
       .slots = slot_mapping.const_data_ptr<std::int64_t>(),
       .replayed = replay_ids.defined() ? replay_ids.const_data_ptr<std::int64_t>() : nullptr,
       .expert_ids = routing.expert_ids.mutable_data_ptr<std::int64_t>(),
       .weights = routing.weights.mutable_data_ptr<float>(),
       .natural_ids = routing.natural_ids.mutable_data_ptr<std::int64_t>(),
       .tokens = tokens,
       .experts = logits.size(1),
       .k = k,
       .normalize = rule.normalize,
       .scale = static_cast<float>(rule.scale),
       .sigmoid = sigmoid,
       .bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr,
       .scores = sigmoid ? routing.scores.mutable_data_ptr<float>() : nullptr,
       .num_groups = rule.groups.num_groups,
       .num_chosen_groups = rule.groups.num_chosen,
       .group_sum_of_two = rule.groups.score == GroupScore::sum_of_two},
      stream());
  return routing;
}

bool can_project(const at::Tensor& x, const at::Tensor& weight) {
  return is_aligned(x) && is_aligned(weight) && x.size(1) % kVector == 0 &&
         weight.size(0) % kVector == 0;
}

at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::int64_t rows = x.size(0);
  if (rows == 0) {
    return at::empty({0, weight.size(0)}, x.options());
  }
  const at::Tensor end = at::full({1}, rows, x.options().dtype(at::kInt));
  at::Tensor result = at::_grouped_mm(x, weight.unsqueeze(0).transpose(1, 2), end);
  return bias.defined() ? result.add_(bias) : result;
}

at::Tensor project_to_float32(const at::Tensor& x, const at::Tensor& weight, Numerics numerics) {
  if (x.size(0) == 0) {
    return at::empty({0, weight.size(0)}, x.options().dtype(at::kFloat));
  }
  const auto multiply = [&](const at::Tensor& rows) {
    return at::mm(rows, weight.t(), at::kFloat);
  };
  if (numerics == Numerics::fast) {
    return multiply(x);
  }
  return by_row_blocks(x, multiply);
}

at::Tensor run_experts(const ExpertWeights& weights, const ExpertRows& rows) {
  const std::int64_t experts = weights.down.size(0);
  DOVETAIL_CHECK(rows.offsets.is_cuda() && rows.offsets.scalar_type() == at::kInt &&
                     rows.offsets.is_contiguous() && rows.offsets.numel() == experts,
                 "offsets must be [experts] int32 on the GPU");
  DOVETAIL_CHECK(rows.rows.size(1) % kVector == 0 && weights.down.size(2) % kVector == 0,
                 "grouped GEMMs need sizes that are multiples of 8");
  if (rows.rows.size(0) == 0) {
    return at::empty_like(rows.rows);
  }
  const at::Tensor gate_up =
      at::_grouped_mm(rows.rows, weights.gate_up.transpose(1, 2), rows.offsets);
  const std::int32_t* const end = rows.offsets.const_data_ptr<std::int32_t>() + experts - 1;
  return at::_grouped_mm(swiglu(gate_up, end), weights.down.transpose(1, 2), rows.offsets);
}

bool can_swiglu(const at::Tensor& gate_up) {
  return is_aligned(gate_up) && gate_up.size(1) % (2 * kVector) == 0;
}

at::Tensor swiglu(const at::Tensor& gate_up, const std::int32_t* end) {
  DOVETAIL_CHECK(can_swiglu(gate_up), "shape of gate_up");
  const std::int64_t size = gate_up.size(1) / 2;
  at::Tensor result = at::empty({gate_up.size(0), size}, gate_up.options());
  // Two rounds of blocks balance the SMs. Beside an exchange one round on its own share of SMs
  // leaves the exchange's kernels room.
  const std::int64_t rounds = SmPartition::left_out() == 0 ? 2 : 1;
  launch_swiglu(result.mutable_data_ptr(),
                gate_up.const_data_ptr(),
                end,
                gate_up.size(0),
                size,
                rounds * kSwigluBlocksOfSm * SmPartition::sms_to_compute(),
                stream());
  return result;
}

}  // namespace dovetail::gpu

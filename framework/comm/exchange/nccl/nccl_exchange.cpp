// The calls of the compute lane.
#include "framework/comm/exchange/nccl/nccl_exchange.hpp"

#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/exchange_checks.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"

namespace dovetail {
namespace {

RowType row_type(at::ScalarType dtype) {
  return dtype == at::kFloat      ? RowType::float32
         : dtype == at::kBFloat16 ? RowType::bfloat16
                                  : RowType::float16;
}

}  // namespace

void NcclExchange::prepare(int ubatch, const RoutedTokens& tokens) {
  auto& slot = at(ubatch, "prepare");
  const auto num_tokens = check_tokens(tokens, shape_, at::kCUDA);
  const auto most_groups =
      kind_ == BlockKind::symmetric ? std::min(kMaxGroups, shape_.experts_per_rank()) : 1;
  DOVETAIL_CHECK(tokens.num_groups >= 1 && tokens.num_groups <= most_groups,
                 where(ubatch, "prepare") + ": " + counted(tokens.num_groups, "group") +
                     " of experts; allowed: at most " + std::to_string(most_groups));
  DOVETAIL_CHECK(num_tokens <= slot.max_tokens,
                 where(ubatch, "prepare") + ": " + counted(num_tokens, "token") +
                     "; the step's bound is " + std::to_string(slot.max_tokens));
  slot.used.reset();
  slot.kept.reset();
  slot.num_tokens = num_tokens;
  slot.layer = tokens.layer;
  slot.num_groups = tokens.num_groups;
  slot.prepared = true;
  const auto stream = current_stream();
  scan(ubatch, slot, tokens);
  if (slot.counted != nullptr) {
    check_cuda(cudaMemcpyAsync(slot.counted,
                               words_of(slot.sender),
                               static_cast<std::size_t>(shape_.ep_size) * sizeof(std::int32_t),
                               cudaMemcpyDeviceToHost,
                               stream),
               "copying counts to the host");
    if (!is_capturing(stream)) {
      check_cuda(cudaEventRecord(slot.counts_ready, stream), "cudaEventRecord");
      slot.counts_recorded = true;
    }
  }
  pack(slot, tokens.hidden, words_of(slot.sender));
}

void NcclExchange::scan(int ubatch, const Ubatch& slot, const RoutedTokens& tokens) const {
  launch_scan({.expert_ids = tokens.expert_ids.const_data_ptr<std::int64_t>(),
               .weights = tokens.weights.const_data_ptr<float>(),
               .num_tokens = slot.num_tokens,
               .layout = slot.sizes.sender,
               .sender = words_of(slot.sender),
               .all_rows = kind_ == BlockKind::gather,
               .capacity = slot.sizes.block.capacity,
               .num_groups = tokens.num_groups,
               .ubatch = ubatch,
               .layer = tokens.layer,
               .status = reinterpret_cast<DeviceStatus*>(bytes_of(state_->status))},
              current_stream());
}

void NcclExchange::pack(const Ubatch& slot,
                        const at::Tensor& hidden,
                        const std::int32_t* sender) const {
  launch_pack({.hidden = hidden.const_data_ptr(),
               .num_tokens = slot.num_tokens,
               .layout = slot.sizes.sender,
               .sender = sender,
               .block = slot.sizes.block,
               .one_block = kind_ == BlockKind::gather,
               .ep_rank = shape_.ep_rank,
               .send = bytes_of(slot.send),
               .receive = bytes_of(slot.receive)},
              current_stream());
}

const std::int32_t* NcclExchange::sender_of(const Ubatch& slot) const {
  return words_of(slot.used ? slot.used->sender : slot.sender);
}

ExpertRows NcclExchange::arrange(int ubatch, int group) {
  auto& slot = at(ubatch, group, "arrange");
  if (slot.kept && group + 1 == slot.num_groups) {
    keep_arrivals(slot);
  }
  const auto cut = slot.cut(shape_);
  const int first_expert = cut.begin(group);
  const int num_experts = cut.begin(group + 1) - first_expert;
  const auto num_rows = slot.sizes.expert_rows_of(num_experts);
  const auto offsets = slot.offsets.narrow(0, first_expert, num_experts);
  if (num_rows > 0) {
    launch_arrange({.arrivals = arrivals_of(slot),
                    .group = group,
                    .offsets = words_of(slot.offsets),
                    .bases = words_of(slot.bases),
                    .choice_rows = words_of(slot.choice_rows),
                    .rows = bytes_of(slot.expert_rows),
                    .row_limit = num_rows},
                   current_stream());
  } else {
    check_cuda(cudaMemsetAsync(words_of(offsets), 0, offsets.nbytes(), current_stream()),
               "clearing offsets");
  }
  return {.rows = slot.expert_rows.narrow(0, 0, num_rows),
          .offsets = offsets,
          .first_expert = first_expert};
}

Arrivals NcclExchange::arrivals_of(const Ubatch& slot) const {
  const auto& block = slot.sizes.block;
  return {.block = block,
          .ep_size = shape_.ep_size,
          .ep_rank = shape_.ep_rank,
          .cut = slot.cut(shape_),
          .heads = bytes_of(slot.used ? slot.used->heads : slot.receive),
          .head_stride = slot.used ? slot.used->heads.size(1) : block.block_bytes(),
          .blocks = bytes_of(slot.receive)};
}

void NcclExchange::reduce(int ubatch, int group, const at::Tensor& expert_rows) {
  auto& slot = at(ubatch, group, "reduce");
  const auto cut = slot.cut(shape_);
  const auto num_rows = slot.sizes.expert_rows_of(cut.begin(group + 1) - cut.begin(group));
  check_tensor(expert_rows, {num_rows, shape_.hidden}, shape_.dtype, at::kCUDA, "expert_rows");
  auto& made = slot.made_rows;
  if (group == 0) {
    made.clear();
  }
  DOVETAIL_CHECK(std::ssize(made) == group,
                 where(ubatch, "reduce") + " of group " + std::to_string(group) +
                     " follows that of " + counted(std::ssize(made), "group"));
  made.push_back(expert_rows);
  if (num_rows > 0) {
    ReduceArgs args = {.arrivals = arrivals_of(slot),
                       .group = group,
                       .choice_rows = words_of(slot.choice_rows),
                       .send_back = bytes_of(slot.send_back),
                       .received_back = bytes_of(slot.received_back),
                       .type = row_type(shape_.dtype),
                       .order = shape_.sum_order};
    for (std::size_t part = 0; part < made.size(); ++part) {
      args.expert_rows[part] = static_cast<const std::byte*>(made[part].const_data_ptr());
    }
    launch_reduce(args, current_stream());
  }
  if (group + 1 == slot.num_groups) {
    made.clear();
  }
}

at::Tensor NcclExchange::finish(int ubatch) {
  auto& slot = at(ubatch, "finish");
  launch_finish({.layout = slot.sizes.sender,
                 .sender = sender_of(slot),
                 .block = slot.sizes.block,
                 .received_back = bytes_of(slot.received_back),
                 .num_tokens = slot.num_tokens,
                 .output = bytes_of(slot.output),
                 .type = row_type(shape_.dtype),
                 .order = shape_.sum_order},
                current_stream());
  return slot.output.narrow(0, 0, slot.num_tokens);
}

}  // namespace dovetail

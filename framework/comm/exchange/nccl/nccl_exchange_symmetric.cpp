// The wire calls of NcclExchange over shared memory, and that memory.
#include <chrono>

#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"
#include "framework/comm/exchange/nccl/push_kernel.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {

/// For what all ubatches are allocated for, which is equal on all ranks. Contents are lost.
/// Collective.
void NcclExchange::share_memory() {
  const auto flag_bytes = FlagLayout{shape_.ep_size}.bytes();
  std::int64_t bytes = 0;
  const auto take = [&bytes](std::int64_t part) {
    const auto begin = bytes;
    bytes += align_block(part);
    return begin;
  };
  for (auto& slot : state_->ubatches) {
    slot.receive = slot.received_back = at::Tensor();
    slot.flags_begin = take(kWireCalls * flag_bytes);
  }
  std::vector<ExchangeSizes> sizes(state_->ubatches.size());
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    auto& slot = state_->ubatches[u];
    if (slot.allocated < 0) {
      continue;  // of no step so far
    }
    sizes[u] = exchange_sizes(kind_,
                              shape_.ep_size,
                              shape_.num_experts,
                              shape_.top_k,
                              row_bytes_,
                              slot.allocated,
                              setting_.padded_capacity);
    slot.receive_begin = take(sizes[u].receive_bytes);
    slot.back_begin = take(sizes[u].received_back_bytes);
  }
  state_->memory.reset();
  state_->memory =
      std::make_unique<SymmetricMemory>(*setting_.nccl_comms.begin()->second, bytes, setting_.wait);
  const auto zeros = [](std::int64_t words) {
    return at::zeros({words}, at::TensorOptions().dtype(at::kInt).device(at::kCUDA));
  };
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    auto& slot = state_->ubatches[u];
    slot.receive = state_->memory->view(slot.receive_begin, sizes[u].receive_bytes);
    slot.received_back = state_->memory->view(slot.back_begin, sizes[u].received_back_bytes);
    slot.rounds = zeros(kWireCalls * kMostPushCtas);
  }
  state_->gave_up = zeros(1);
  if (!state_->copies && kind_ == BlockKind::copy_engine) {
    state_->copies.emplace(shape_.ep_size - 1);
  }
  check_cuda(cudaDeviceSynchronize(), "sharing the memory of an exchange");
}

/// A combine that comes behind a wire call of this ubatch needs no leave of the peers: they have
/// begun the layer's first dispatch, so they are done with the rows that came back before. Nor does
/// a dispatch of a later group, whose rows are written once a layer, nor the first one behind the
/// last combine of the layer before: the peers have begun that, behind their last reduce, which is
/// the last to read what has arrived. All else waits until the peers' kernels have begun.
void NcclExchange::push(int ubatch, Ubatch& slot, const WireCall& call) {
  setting_.nccl_comms.begin()->second->check_async();
  comm_->check_async();
  const bool combines = call.phase == Phase::combine;
  const auto& last = slot.last_wire;
  const bool begins_layer = !combines && call.group == 0;
  const bool follows = last && (!begins_layer || last->is_last_combine);
  const auto& block = slot.sizes.block;
  const auto flag_bytes = FlagLayout{shape_.ep_size}.bytes();
  const auto rows_from = [&](const std::int32_t* ends, std::int64_t stride) {
    const auto* own = ends + call.place();
    return PushRows{.begins = call.group > 0 ? own - 1 : nullptr, .ends = own, .stride = stride};
  };
  const auto sent = rows_from(sender_of(slot) + slot.sizes.sender.ends(), SenderLayout::kEndWords);
  const auto arrivals = arrivals_of(slot);
  // A dispatch has the ends come with it; a plan's are equal.
  const auto arrived = rows_from(
      reinterpret_cast<const std::int32_t*>(combines ? arrivals.heads : bytes_of(slot.receive)) +
          BlockLayout::kFirstEnd,
      (combines ? arrivals.head_stride : block.block_bytes()) / 4);
  const std::chrono::nanoseconds timeout = setting_.wait.timeout;
  PushArgs args = {.ep_size = shape_.ep_size,
                   .ep_rank = shape_.ep_rank,
                   .send = bytes_of(combines ? slot.send_back : slot.send),
                   .block_bytes = combines ? block.part_bytes() : block.block_bytes(),
                   .capacity = block.capacity,
                   .rows_out = combines ? arrived : sent,
                   .rows_in = combines ? sent : arrived,
                   .peers = state_->memory->peers(),
                   .receive_begin = combines ? slot.back_begin : slot.receive_begin,
                   .flags_begin = slot.flags_begin + call.place() * flag_bytes,
                   .rounds = reinterpret_cast<std::uint32_t*>(words_of(slot.rounds)) +
                             call.place() * kMostPushCtas,
                   .awaits_peers_first = !follows,
                   .combines = combines,
                   .group = slot.num_groups > 1 ? call.group : -1,
                   .ubatch = ubatch,
                   .layer = slot.layer,
                   .timeout_ns = static_cast<std::uint64_t>(timeout.count()),
                   .abort_word = comm_->abort_word(),
                   .gave_up = reinterpret_cast<std::uint32_t*>(words_of(state_->gave_up)),
                   .status = reinterpret_cast<DeviceStatus*>(bytes_of(state_->status))};
  slot.last_wire = {.is_last_combine = combines && call.group + 1 == slot.num_groups};
  if (kind_ == BlockKind::copy_engine) {
    copy_blocks(args, call.phase);
    return;
  }
  if (combines) {
    args.parts[0] = {.row_bytes = row_bytes_};
  } else {
    // The header goes ahead of all rows.
    const auto header = block.header_bytes();
    args.parts[0] = {.begin = begins_layer ? 0 : header,
                     .fixed_bytes = begins_layer ? header : 0,
                     .row_bytes = block.metadata_words() * 4};
    args.parts[1] = {.begin = block.payload_begin(), .row_bytes = row_bytes_};
  }
  const int ctas = comm_sms_ == kAllSms ? kUnboundedPushCtas : std::min(comm_sms_, kMostPushCtas);
  launch_push(args, ctas, current_stream());
}

/// Both kernels are there in every call, so that all ranks count the same rounds.
void NcclExchange::copy_blocks(PushArgs args, Phase phase) {
  const auto stream = current_stream();
  const auto peers = shape_.ep_size - 1;
  constexpr int ctas = 1;
  args.awaits_peers_first = false;
  launch_push(args, ctas, stream);
  state_->copies->enqueue(stream, [&](int i, cudaStream_t own) {
    const int peer = (shape_.ep_rank + 1 + i) % shape_.ep_size;
    auto* to = state_->memory->peer(peer) + args.receive_begin + shape_.ep_rank * args.block_bytes;
    check_cuda(cudaMemcpyAsync(to,
                               args.send + peer * args.block_bytes,
                               static_cast<std::size_t>(args.block_bytes),
                               cudaMemcpyDeviceToDevice,
                               own),
               "copying a block to a peer");
  });
  launch_push(args, ctas, stream);
  const auto bytes = peers * args.block_bytes;
  if (phase == Phase::dispatch) {
    count({.dispatch_wire_bytes = bytes, .dispatch_received_bytes = bytes});
  } else {
    count({.combine_wire_bytes = bytes, .combine_received_bytes = bytes});
  }
}

}  // namespace dovetail

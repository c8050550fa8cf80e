// The wire calls of NcclExchange over shared memory, and that memory.
#include <chrono>

#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"
#include "framework/comm/exchange/nccl/push_kernel.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"

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
    slot.flags_begin = take(2 * flag_bytes);
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
    slot.rounds = zeros(2 * kMostPushCtas);
  }
  state_->gave_up = zeros(1);
  if (!state_->copies && kind_ == BlockKind::copy_engine) {
    state_->copies.emplace(shape_.ep_size - 1);
  }
  check_cuda(cudaDeviceSynchronize(), "sharing the memory of an exchange");
}

/// A combine that comes behind this ubatch's dispatch needs no leave of the peers: they have begun
/// that dispatch, so they are done with the rows that came back before. Nor does a dispatch behind
/// the combine of the layer before: the peers have begun that, behind their reduce, which is the
/// last to read what has arrived. All else waits until the peers' kernels have begun.
void NcclExchange::push(int ubatch, Ubatch& slot, Phase phase) {
  setting_.nccl_comms.begin()->second->check_async();
  comm_->check_async();
  const bool combines = phase == Phase::combine;
  const bool follows = slot.last_wire == (combines ? Phase::dispatch : Phase::combine);
  const auto& block = slot.sizes.block;
  const auto flag_bytes = FlagLayout{shape_.ep_size}.bytes();
  const PushCounts sent = {.words = sender_of(slot), .stride = 1};
  const auto arrivals = arrivals_of(slot);
  // A dispatch has the counts come with it; a plan's are equal.
  const PushCounts arrived = {
      .words =
          reinterpret_cast<const std::int32_t*>(combines ? arrivals.heads : bytes_of(slot.receive)),
      .stride = (combines ? arrivals.head_stride : block.block_bytes()) / 4};
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
                   .flags_begin = slot.flags_begin + (combines ? flag_bytes : 0),
                   .rounds = reinterpret_cast<std::uint32_t*>(words_of(slot.rounds)) +
                             (combines ? kMostPushCtas : 0),
                   .awaits_peers_first = !follows,
                   .combines = combines,
                   .ubatch = ubatch,
                   .layer = slot.layer,
                   .timeout_ns = static_cast<std::uint64_t>(timeout.count()),
                   .abort_word = comm_->abort_word(),
                   .gave_up = reinterpret_cast<std::uint32_t*>(words_of(state_->gave_up)),
                   .status = reinterpret_cast<DeviceStatus*>(bytes_of(state_->status))};
  slot.last_wire = phase;
  if (kind_ == BlockKind::copy_engine) {
    copy_blocks(args, phase);
    return;
  }
  if (combines) {
    args.parts[0] = {.row_bytes = row_bytes_};
  } else {
    args.parts[0] = {.fixed_bytes = block.header_bytes(), .row_bytes = block.metadata_words() * 4};
    args.parts[1] = {.begin = block.payload_begin(), .row_bytes = row_bytes_};
  }
  launch_push(args, std::min(comm_sms_, kMostPushCtas), current_stream());
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

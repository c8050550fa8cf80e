// The wire calls of NcclExchange, and what they count.
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/comm/nccl/poll.hpp"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

ncclResult_t first_failure(ncclResult_t a, ncclResult_t b) {
  return a == ncclSuccess || a == ncclInProgress ? b : a;
}

// Sends and receives of one call; peers are staggered by rank, so that no one is everyone's first.
struct PeerTransfer {
  ncclComm_t comm;
  cudaStream_t stream;
  ncclResult_t result = ncclSuccess;

  void send(const std::byte* data, std::int64_t bytes, int peer) {
    if (bytes > 0) {
      result = first_failure(
          result, ncclSend(data, static_cast<std::size_t>(bytes), ncclInt8, peer, comm, stream));
    }
  }

  void receive(std::byte* data, std::int64_t bytes, int peer) {
    if (bytes > 0) {
      result = first_failure(
          result, ncclRecv(data, static_cast<std::size_t>(bytes), ncclInt8, peer, comm, stream));
    }
  }
};

}  // namespace

template <class Body>
void NcclExchange::on_wire(int ubatch, const char* call, Body body) {
  if (failed_) {
    throw RunError(where(ubatch, call) + ": the exchange failed earlier");
  }
  try {
    body();
  } catch (...) {
    // What failed in a capture has sent nothing.
    auto status = cudaStreamCaptureStatusNone;
    failed_ = cudaStreamIsCapturing(current_stream(), &status) == cudaSuccess &&
              status == cudaStreamCaptureStatusNone;
    throw;
  }
}

void NcclExchange::count(const Traffic& sent) {
  if (is_capturing(current_stream())) {
    meter_.add_captured(sent);
  } else {
    meter_.add(sent);
  }
}

std::int64_t NcclExchange::rows_out(const Ubatch& slot, int peer) const {
  return kind_ == BlockKind::ragged ? slot.rows_out.at(static_cast<std::size_t>(peer))
                                    : slot.sizes.block.capacity;
}

std::int64_t NcclExchange::rows_in(const Ubatch& slot, int peer) const {
  return kind_ == BlockKind::ragged ? slot.rows_in.at(static_cast<std::size_t>(peer))
                                    : slot.sizes.block.capacity;
}

void NcclExchange::exchange_counts(int ubatch, Ubatch& slot) {
  const auto stream = current_stream();
  const auto what = where(ubatch, "dispatch");
  DOVETAIL_CHECK(!is_capturing(stream),
                 what + ": ragged needs counts on the host and cannot be captured here");
  const std::int64_t start = now_ns();
  if (!std::exchange(slot.counts_recorded, false)) {
    // A replayed prepare: this stream waits for its op already, and for nothing that is not there.
    check_cuda(cudaEventRecord(slot.counts_ready, stream), "cudaEventRecord");
  }
  wait_for_event(slot.counts_ready, setting_.wait, what + ": counts of its route op");
  const auto ranks = static_cast<std::size_t>(shape_.ep_size);
  slot.rows_out.assign(slot.counted, slot.counted + ranks);
  slot.rows_in.assign(ranks, 0);
  const MessageKind kind{
      .content = "counts", .comm = setting_.counts_comm->raw(), .tag = ubatch, .type = MPI_INT32_T};
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
    slot.counts.receive(kind, source, &slot.rows_in[static_cast<std::size_t>(source)], 1);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (shape_.ep_rank + step) % shape_.ep_size;
    slot.counts.send(kind, target, &slot.rows_out[static_cast<std::size_t>(target)], 1);
  }
  slot.counts.wait(setting_.wait, what);
  for (std::size_t peer = 0; peer < ranks; ++peer) {
    const auto capacity = slot.sizes.block.capacity;
    if (slot.rows_out[peer] < 0 || slot.rows_out[peer] > capacity || slot.rows_in[peer] < 0 ||
        slot.rows_in[peer] > capacity) {
      throw RunError(what + ": " + counted(slot.rows_out[peer], "row") + " to and " +
                     counted(slot.rows_in[peer], "row") + " from ep rank " + std::to_string(peer) +
                     "; a block holds " + std::to_string(capacity));
    }
  }
  Traffic counted;
  counted.counts_wait_ns = now_ns() - start;
  counted.dispatch_wire_bytes =
      (shape_.ep_size - 1) * static_cast<std::int64_t>(sizeof(std::int32_t));
  counted.dispatch_received_bytes = counted.dispatch_wire_bytes;
  count(counted);
}

void NcclExchange::gather_blocks(int ubatch, Ubatch& slot) {
  const auto bytes = slot.sizes.block.block_bytes();
  auto* blocks = bytes_of(slot.receive);
  const auto stream = current_stream();
  comm_->call(
      [&](ncclComm_t comm) {
        return ncclAllGather(blocks + shape_.ep_rank * bytes,
                             blocks,
                             static_cast<std::size_t>(bytes),
                             ncclInt8,
                             comm,
                             stream);
      },
      setting_.wait,
      where(ubatch, "dispatch"));
  Traffic sent;
  sent.dispatch_wire_bytes = (shape_.ep_size - 1) * bytes;
  sent.dispatch_received_bytes = sent.dispatch_wire_bytes;
  count(sent);
}

void NcclExchange::send_blocks(int ubatch, Ubatch& slot) {
  const auto& block = slot.sizes.block;
  const auto* out = bytes_of(slot.send);
  auto* in = bytes_of(slot.receive);
  Traffic sent;
  const auto stream = current_stream();
  comm_->call(
      [&](ncclComm_t comm) {
        PeerTransfer transfer{.comm = comm, .stream = stream};
        for (int step = 1; step < shape_.ep_size; ++step) {
          const int target = (shape_.ep_rank + step) % shape_.ep_size;
          const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
          const auto* to = out + target * block.block_bytes();
          auto* from = in + source * block.block_bytes();
          if (kind_ == BlockKind::padded) {
            transfer.send(to, block.block_bytes(), target);
            transfer.receive(from, block.block_bytes(), source);
            sent.dispatch_wire_bytes += block.block_bytes();
            sent.dispatch_received_bytes += block.block_bytes();
            continue;
          }
          // The header always travels: a block without rows has to say so.
          const auto rows_to = rows_out(slot, target);
          const auto rows_from = rows_in(slot, source);
          transfer.send(to, block.head_bytes(rows_to), target);
          transfer.receive(from, block.head_bytes(rows_from), source);
          transfer.send(to + block.payload_begin(), rows_to * row_bytes_, target);
          transfer.receive(from + block.payload_begin(), rows_from * row_bytes_, source);
          sent.dispatch_wire_bytes += block.head_bytes(rows_to) + rows_to * row_bytes_;
          sent.dispatch_received_bytes += block.head_bytes(rows_from) + rows_from * row_bytes_;
        }
        return transfer.result;
      },
      setting_.wait,
      where(ubatch, "dispatch"));
  count(sent);
}

void NcclExchange::dispatch(int ubatch, int group) {
  auto& slot = at(ubatch, group, "dispatch");
  if (shape_.ep_size == 1) {
    tell_no_work(current_stream());
    return;
  }
  on_wire(ubatch, "dispatch", [&] {
    if (kind_ == BlockKind::ragged) {
      if (!slot.used) {
        exchange_counts(ubatch, slot);
      }
      if (slot.kept) {  // comm_only passes send by these counts
        slot.kept->rows_out = slot.rows_out;
        slot.kept->rows_in = slot.rows_in;
      }
    }
    if (shares_memory(kind_)) {
      push(ubatch, slot, {Phase::dispatch, group});
    } else if (kind_ == BlockKind::gather) {
      gather_blocks(ubatch, slot);
    } else {
      send_blocks(ubatch, slot);
    }
  });
}

void NcclExchange::combine(int ubatch, int group) {
  auto& slot = at(ubatch, group, "combine");
  // Without capacity no rank has a partial row.
  if (shape_.ep_size == 1 || slot.sizes.block.capacity == 0) {
    tell_no_work(current_stream());
    return;
  }
  if (shares_memory(kind_)) {
    on_wire(ubatch, "combine", [&] { push(ubatch, slot, {Phase::combine, group}); });
    return;
  }
  const auto part_bytes = slot.sizes.block.part_bytes();
  const auto* out = bytes_of(slot.send_back);
  auto* in = bytes_of(slot.received_back);
  const auto stream = current_stream();
  Traffic sent;
  on_wire(ubatch, "combine", [&] {
    comm_->call(
        [&](ncclComm_t comm) {
          PeerTransfer transfer{.comm = comm, .stream = stream};
          for (int step = 1; step < shape_.ep_size; ++step) {
            const int target = (shape_.ep_rank + step) % shape_.ep_size;
            const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
            // What came from a rank goes back to it.
            const auto bytes_to = rows_in(slot, target) * row_bytes_;
            const auto bytes_from = rows_out(slot, source) * row_bytes_;
            transfer.send(out + target * part_bytes, bytes_to, target);
            transfer.receive(in + source * part_bytes, bytes_from, source);
            sent.combine_wire_bytes += bytes_to;
            sent.combine_received_bytes += bytes_from;
          }
          return transfer.result;
        },
        setting_.wait,
        where(ubatch, "combine"));
  });
  count(sent);
}

Traffic NcclExchange::read_device() const {
  DeviceStatus status;
  check_cuda(cudaMemcpy(&status, bytes_of(state_->status), sizeof status, cudaMemcpyDeviceToHost),
             "reading an exchange's counters");
  const auto logical = static_cast<std::int64_t>(status.choices) * row_bytes_;
  return {.dispatch_wire_bytes = static_cast<std::int64_t>(status.dispatch_sent),
          .combine_wire_bytes = static_cast<std::int64_t>(status.combine_sent),
          .dispatch_received_bytes = static_cast<std::int64_t>(status.dispatch_received),
          .combine_received_bytes = static_cast<std::int64_t>(status.combine_received),
          .dispatch_logical_bytes = logical,
          .combine_logical_bytes = logical};
}

}  // namespace dovetail

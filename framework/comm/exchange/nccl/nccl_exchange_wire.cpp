// The wire calls of NcclExchange, and what they count.
#include <cstddef>
#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/comm/nccl/poll.hpp"

namespace dovetail {
namespace {

std::size_t index_of(int rank) {
  return static_cast<std::size_t>(rank);
}

ncclResult_t first_failure(ncclResult_t a, ncclResult_t b) {
  return a == ncclSuccess || a == ncclInProgress ? b : a;
}

// Counts of one kind of row, by rank; two messages between the same two ranks keep their order.
struct ExchangedCounts {
  const std::vector<std::int32_t>& own;
  std::vector<std::int32_t>& peers;
};

// Throws RunError for rows that no block can hold.
void check_rows(const PeerRows& rows, std::int64_t capacity, const std::string& what) {
  for (std::size_t peer = 0; peer < rows.sent.size(); ++peer) {
    if (rows.sent[peer] < 0 || rows.sent[peer] > capacity || rows.received[peer] < 0 ||
        rows.received[peer] > capacity) {
      throw RunError(what + ": " + std::to_string(rows.sent[peer]) + " rows to and " +
                     std::to_string(rows.received[peer]) + " rows from ep rank " +
                     std::to_string(peer) + "; a block holds " + std::to_string(capacity));
    }
  }
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
  auto& out = slot.dispatched;
  auto& back = slot.combined;
  out = {.sent = {slot.counted, slot.counted + ranks},
         .received = std::vector<std::int32_t>(ranks)};
  std::vector<ExchangedCounts> exchanged = {{.own = out.sent, .peers = out.received}};
  if (shape_.returns_choices()) {
    back = {.sent = std::vector<std::int32_t>(ranks),
            .received = {slot.counted + ranks, slot.counted + 2 * ranks}};
    exchanged.push_back({.own = back.received, .peers = back.sent});
  }
  const MessageKind kind{
      .content = "counts", .comm = setting_.counts_comm->raw(), .tag = ubatch, .type = MPI_INT32_T};
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
    for (const auto& counts : exchanged) {
      slot.counts.receive(kind, source, &counts.peers[index_of(source)], 1);
    }
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (shape_.ep_rank + step) % shape_.ep_size;
    for (const auto& counts : exchanged) {
      slot.counts.send(kind, target, &counts.own[index_of(target)], 1);
    }
  }
  slot.counts.wait(setting_.wait, what);
  check_rows(out, slot.sizes.block.capacity, what);
  if (shape_.returns_choices()) {
    check_rows(back, slot.sizes.block.returned_capacity(), what + ": rows that come back");
  } else {
    back = {.sent = out.received, .received = out.sent};  // one partial sum for each
  }
  Traffic counted;
  counted.counts_wait_ns = now_ns() - start;
  counted.dispatch_wire_bytes =
      (shape_.ep_size - 1) * static_cast<std::int64_t>(exchanged.size() * sizeof(std::int32_t));
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
          const std::int64_t rows_to = slot.dispatched.sent.at(index_of(target));
          const std::int64_t rows_from = slot.dispatched.received.at(index_of(source));
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

void NcclExchange::dispatch(int ubatch) {
  auto& slot = at(ubatch, "dispatch");
  if (shape_.ep_size == 1) {
    return;
  }
  on_wire(ubatch, "dispatch", [&] {
    if (kind_ == BlockKind::ragged) {
      if (!slot.used) {
        exchange_counts(ubatch, slot);
      }
      if (slot.kept) {  // comm_only passes send by these counts
        slot.kept->dispatched = slot.dispatched;
        slot.kept->combined = slot.combined;
      }
    }
    if (kind_ == BlockKind::gather) {
      gather_blocks(ubatch, slot);
    } else {
      send_blocks(ubatch, slot);
    }
  });
}

void NcclExchange::combine(int ubatch) {
  auto& slot = at(ubatch, "combine");
  // Without capacity no rank has a row to send back.
  if (shape_.ep_size == 1 || slot.sizes.block.capacity == 0) {
    return;
  }
  const auto& block = slot.sizes.block;
  const auto stride = block.returned_bytes();
  const bool exact = kind_ == BlockKind::ragged;
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
            const auto rows_to =
                exact ? slot.combined.sent.at(index_of(target)) : block.returned_capacity();
            const auto rows_from =
                exact ? slot.combined.received.at(index_of(source)) : block.returned_capacity();
            const auto bytes_to = rows_to * row_bytes_;
            const auto bytes_from = rows_from * row_bytes_;
            transfer.send(out + target * stride, bytes_to, target);
            transfer.receive(in + source * stride, bytes_from, source);
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

std::int64_t NcclExchange::read_choices() const {
  DeviceStatus status;
  check_cuda(cudaMemcpy(&status, bytes_of(state_->status), sizeof status, cudaMemcpyDeviceToHost),
             "reading an exchange's counter");
  return static_cast<std::int64_t>(status.choices);
}

}  // namespace dovetail

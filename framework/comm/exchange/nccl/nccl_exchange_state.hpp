// What an NcclExchange holds per ubatch; private to nccl_exchange*.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/log.hpp"
#include "framework/comm/exchange/expert_cut.hpp"
#include "framework/comm/exchange/nccl/copy_streams.hpp"
#include "framework/comm/exchange/nccl/exchange_kernels.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange.hpp"
#include "framework/comm/exchange/nccl/symmetric_memory.hpp"
#include "framework/comm/exchange/peer_messages.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {

inline cudaStream_t current_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

inline std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

inline std::int32_t* words_of(const at::Tensor& tensor) {
  return static_cast<std::int32_t*>(tensor.mutable_data_ptr());
}

inline at::Tensor device_tensor(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::empty(sizes, at::TensorOptions().dtype(dtype).device(at::kCUDA));
}

/// A dispatch or combine of a group of experts.
struct WireCall {
  Phase phase = Phase::dispatch;
  int group = 0;

  /// Its place among the flags and rounds of a ubatch.
  std::int64_t place() const { return (phase == Phase::combine ? kMaxGroups : 0) + group; }
};

/// What the wire call that comes next has to know of the last.
struct PastCall {
  bool is_last_combine = false;  ///< of its layer
};

struct NcclExchange::Ubatch {
  ExpertCut cut(const ExchangeShape& shape) const {
    return {.experts = shape.experts_per_rank(), .num_groups = num_groups};
  }

  std::int64_t max_tokens = -1;  ///< of this step; -1 = not part of it
  std::int64_t allocated = -1;   ///< the most that the buffers are made for
  ExchangeSizes sizes;           ///< of this step's bound
  std::int64_t num_tokens = 0;
  int layer = -1;      ///< of the last prepare, or of the plan
  int num_groups = 1;  ///< the same
  bool prepared = false;
  std::shared_ptr<DevicePlan> used;  ///< adopted; null after prepare
  std::shared_ptr<DevicePlan> kept;  ///< made of the last prepare

  at::Tensor sender;                  ///< int32
  at::Tensor send;                    ///< uint8, blocks
  at::Tensor receive;                 ///< uint8, blocks
  at::Tensor bases;                   ///< int32
  at::Tensor offsets;                 ///< int32
  at::Tensor choice_rows;             ///< int32
  at::Tensor expert_rows;             ///< [rows, hidden], of one group after the other
  at::Tensor send_back;               ///< uint8
  at::Tensor received_back;           ///< uint8
  at::Tensor output;                  ///< [tokens, hidden]
  std::vector<at::Tensor> made_rows;  ///< the experts', of the groups reduced so far

  // Where memory is shared receive and received_back lie in memory that the peers write to.
  std::int64_t receive_begin = 0;     ///< of receive there
  std::int64_t back_begin = 0;        ///< of received_back
  std::int64_t flags_begin = 0;       ///< of kWireCalls
  at::Tensor rounds;                  ///< int32, of kWireCalls
  std::optional<PastCall> last_wire;  ///< of this step, if nobody else has used the buffers since

  // ragged
  cudaEvent_t counts_ready = nullptr;
  bool counts_recorded = false;  ///< counts_ready is of this step's prepare, which was not captured
  std::int32_t* counted = nullptr;  ///< pinned [R]: rows of the block for each rank
  std::vector<std::int32_t> rows_out;
  std::vector<std::int32_t> rows_in;
  PeerMessages counts;
};

struct NcclExchange::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  State(State&&) = delete;
  State& operator=(State&&) = delete;

  ~State() {
    for (auto& slot : ubatches) {
      if (slot.counts_ready != nullptr && cudaEventDestroy(slot.counts_ready) != cudaSuccess) {
        log_line("destroying an event of an exchange failed");
      }
    }
    if (pinned != nullptr && cudaFreeHost(pinned) != cudaSuccess) {
      log_line("freeing pinned memory of an exchange failed");
    }
  }

  std::deque<Ubatch> ubatches;  // of immovable size: addresses are with MPI
  at::Tensor status;            // DeviceStatus
  std::int32_t* pinned = nullptr;

  // Where memory is shared.
  std::unique_ptr<SymmetricMemory> memory;
  std::optional<CopyStreams> copies;  ///< copy_engine
  at::Tensor gave_up;                 ///< int32: a kernel of the wire has not heard from a peer
};

}  // namespace dovetail

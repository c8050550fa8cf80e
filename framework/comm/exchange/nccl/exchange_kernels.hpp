// Launchers of the kernels of a device exchange. Plain pointers and sizes; all but DeviceStatus
// lies on the device. Each enqueues on `stream`, may be captured, and throws RunError where a
// launch fails. Counts are read on the device: nothing here depends on the routing on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/comm/exchange/expert_cut.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"
#include "framework/comm/exchange/sum_order.hpp"

namespace dovetail {

/// What kernels find wrong; the first finding of a step stays.
enum class DeviceFinding : std::int32_t {
  none = 0,
  block_too_small,      ///< `rows` rows for rank `destination`, block of `capacity`; `expert` is of
                        ///< the first token that does not fit, `token`
  expert_out_of_range,  ///< token, expert
  expert_chosen_twice,  ///< token, expert
  peer_is_late,         ///< of `destination` nothing was heard within the bound
  told_to_give_up       ///< while `destination` was waited for
};

/// In device memory; one per exchange.
struct DeviceStatus {
  // Over all steps. Bytes: of own kernels on the wire, none of NCCL's.
  unsigned long long choices = 0;  ///< (token, expert) pairs of this rank
  unsigned long long dispatch_sent = 0;
  unsigned long long dispatch_received = 0;
  unsigned long long combine_sent = 0;
  unsigned long long combine_received = 0;
  std::int32_t finding = 0;  ///< DeviceFinding
  std::int32_t ubatch = 0;
  std::int32_t layer = 0;
  std::int32_t token = 0;
  std::int32_t expert = 0;
  std::int32_t destination = 0;
  std::int32_t rows = 0;
  std::int32_t capacity = 0;
  std::int32_t combines = 0;  ///< of the wire: 0 = dispatch, 1 = combine
  std::int32_t group = -1;    ///< of the wire; -1 = experts are not cut
};

enum class RowType { float32, bfloat16, float16 };

/// From the routing of a batch to the sender's tables (SenderLayout).
struct ScanArgs {
  const std::int64_t* expert_ids = nullptr;  ///< [T][k], -1 = none
  const float* weights = nullptr;            ///< [T][k]
  std::int64_t num_tokens = 0;               ///< T <= sender.max_tokens
  SenderLayout layout;
  std::int32_t* sender = nullptr;
  bool all_rows = false;      ///< gather: every row travels, at the position of its token
  std::int64_t capacity = 0;  ///< rows of a block; a token that does not fit is left out and found
  int num_groups = 1;         ///< into which the experts of each rank are cut
  int ubatch = 0;
  int layer = 0;
  DeviceStatus* status = nullptr;
};

void launch_scan(const ScanArgs& args, cudaStream_t stream);

/// Writes the blocks: header, metadata, rows. The own block goes to `receive`.
struct PackArgs {
  const void* hidden = nullptr;  ///< [T] rows
  std::int64_t num_tokens = 0;
  SenderLayout layout;
  const std::int32_t* sender = nullptr;
  BlockLayout block;
  bool one_block = false;  ///< gather: the own block is for all
  int ep_rank = 0;
  std::byte* send = nullptr;     ///< [R] blocks; not used where one_block or R = 1
  std::byte* receive = nullptr;  ///< [R] blocks
};

void launch_pack(const PackArgs& args, cudaStream_t stream);

/// Blocks that have arrived, the own one included. Headers and metadata may be a copy.
struct Arrivals {
  BlockLayout block;
  int ep_size = 0;
  int ep_rank = 0;
  ExpertCut cut;                     ///< of the experts of this rank
  const std::byte* heads = nullptr;  ///< header and metadata of block s at heads + s * head_stride
  std::int64_t head_stride = 0;
  const std::byte* blocks = nullptr;  ///< the payload of block s in blocks + s * block_bytes
};

/// Orders the rows of a group by local expert, then source rank, then source token. Reads what has
/// arrived with the group and those before it.
struct ArrangeArgs {
  Arrivals arrivals;
  int group = 0;
  std::int32_t* offsets = nullptr;  ///< [experts of the rank] those of the group: cumulative ends
  std::int32_t* bases = nullptr;    ///< the same [experts of the rank][R]: first row of each source
  std::int32_t* choice_rows = nullptr;  ///< [R][capacity][k] row of each of the group's choices
  std::byte* rows = nullptr;            ///< [row_limit] rows
  std::int64_t row_limit = 0;           ///< nothing is written beyond; offsets end there at most
};

void launch_arrange(const ArrangeArgs& args, cudaStream_t stream);

/// One partial row per arrived row whose last local choice is of the group, at its place among
/// those that come back: the sum of weight * row, by_rank or by_expert.
struct ReduceArgs {
  Arrivals arrivals;
  int group = 0;
  const std::int32_t* choice_rows = nullptr;
  const std::byte* expert_rows[kMaxGroups] = {};  ///< of the group and of those before it
  std::byte* send_back = nullptr;                 ///< [R][part_bytes]; not used where R = 1
  std::byte* received_back = nullptr;             ///< [R][part_bytes]; own rows go here
  RowType type = RowType::float32;
  SumOrder order = SumOrder::by_rank;
};

void launch_reduce(const ReduceArgs& args, cudaStream_t stream);

/// Sums the partial rows of each token, by_rank or by_expert; zeros where it has none.
struct FinishArgs {
  SenderLayout layout;
  const std::int32_t* sender = nullptr;
  BlockLayout block;
  const std::byte* received_back = nullptr;
  std::int64_t num_tokens = 0;
  void* output = nullptr;  ///< [T] rows
  RowType type = RowType::float32;
  SumOrder order = SumOrder::by_rank;
};

void launch_finish(const FinishArgs& args, cudaStream_t stream);

}  // namespace dovetail

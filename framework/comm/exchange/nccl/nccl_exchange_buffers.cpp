// Life of an NcclExchange, its buffers, and what its kernels have found.
#include <cstddef>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/exchange_checks.hpp"
#include "framework/comm/exchange/expert_tree.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {
namespace {

const ExchangeShape& checked(BlockKind kind,
                             const ExchangeShape& shape,
                             const ExchangeSetting& setting) {
  check_shape(shape);
  DOVETAIL_CHECK(shape.top_k <= kMaxDeviceTopK,
                 "top_k " + std::to_string(shape.top_k) + "; on GPUs at most " +
                     std::to_string(kMaxDeviceTopK));
  DOVETAIL_CHECK(shape.sum_order != SumOrder::by_choice, "device exchanges return no choices");
  DOVETAIL_CHECK(
      shape.sum_order != SumOrder::by_expert || hold_subtrees(shape.ep_size, shape.num_experts),
      "the experts of a rank are no subtree");
  if (shape.ep_size > 1) {
    DOVETAIL_CHECK(!setting.nccl_comms.empty(), "an exchange between ranks needs a communicator");
    for (const auto& [comm_sms, comm] : setting.nccl_comms) {
      DOVETAIL_CHECK(comm != nullptr, "no communicator of " + describe_comm_sms(comm_sms) + " SMs");
      DOVETAIL_CHECK_EQ(comm->size(), shape.ep_size);
      DOVETAIL_CHECK_EQ(comm->rank(), shape.ep_rank);
    }
    DOVETAIL_CHECK(kind != BlockKind::ragged || setting.counts_comm != nullptr,
                   "ragged between ranks needs a communicator for counts");
  }
  return shape;
}

}  // namespace

NcclExchange::NcclExchange(BlockKind kind,
                           const ExchangeShape& shape,
                           const ExchangeSetting& setting)
    : kind_(kind),
      shape_(checked(kind, shape, setting)),
      setting_(setting),
      row_bytes_(shape.row_bytes()),
      state_(std::make_unique<State>()),
      meter_([this] { return read_device(); }) {
  const auto ranks = static_cast<std::size_t>(shape.ep_size);
  state_->status = device_tensor({static_cast<std::int64_t>(sizeof(DeviceStatus))}, at::kByte);
  check_cuda(cudaMemset(bytes_of(state_->status), 0, sizeof(DeviceStatus)), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "clearing an exchange's status");
  if (shares_memory(kind) && shape.ep_size > 1) {
    require_symmetric_memory(*setting.nccl_comms.begin()->second, name(), setting.wait);
  }
  const auto num_ubatches = static_cast<std::size_t>(shape.num_ubatches);
  for (std::size_t u = 0; u < num_ubatches; ++u) {
    state_->ubatches.emplace_back();
  }
  if (kind == BlockKind::ragged && shape.ep_size > 1) {
    check_cuda(cudaMallocHost(reinterpret_cast<void**>(&state_->pinned),
                              num_ubatches * ranks * sizeof(std::int32_t)),
               "pinned memory of an exchange");
    for (std::size_t u = 0; u < num_ubatches; ++u) {
      auto& slot = state_->ubatches[u];
      slot.counted = state_->pinned + u * ranks;
      check_cuda(cudaEventCreateWithFlags(&slot.counts_ready, cudaEventDisableTiming),
                 "cudaEventCreate");
    }
  }
}

NcclExchange::~NcclExchange() {
  bool idle = true;
  for (auto& slot : state_->ubatches) {
    idle = slot.counts.abandon() && idle;
  }
  if (!idle) {
    log_line("exchange: messages still in flight; their buffers are kept until the process ends");
    static_cast<void>(state_.release());
  }
}

std::string NcclExchange::name() const {
  switch (kind_) {
    case BlockKind::gather:
      return "gather";
    case BlockKind::ragged:
      return "ragged";
    case BlockKind::padded:
      return "padded";
    case BlockKind::symmetric:
      return "symmetric";
    case BlockKind::copy_engine:
      return "copy_engine";
  }
  return "unknown";
}

std::string NcclExchange::where(int ubatch, const char* call) const {
  return std::string(call) + " of ubatch " + std::to_string(ubatch) + " on ep rank " +
         std::to_string(shape_.ep_rank);
}

NcclExchange::Ubatch& NcclExchange::at(int ubatch, const char* call) const {
  DOVETAIL_CHECK(ubatch >= 0 && ubatch < shape_.num_ubatches,
                 where(ubatch, call) + ": there are " + counted(shape_.num_ubatches, "ubatch"));
  auto& slot = state_->ubatches[static_cast<std::size_t>(ubatch)];
  DOVETAIL_CHECK(slot.max_tokens >= 0,
                 where(ubatch, call) + ": begin_step has not named this ubatch");
  return slot;
}

NcclExchange::Ubatch& NcclExchange::at(int ubatch, int group, const char* call) const {
  auto& slot = at(ubatch, call);
  DOVETAIL_CHECK(group >= 0 && group < slot.num_groups,
                 where(ubatch, call) + ": group " + std::to_string(group) + " of " +
                     std::to_string(slot.num_groups));
  return slot;
}

void NcclExchange::begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) {
  if (shape_.ep_size > 1) {
    const auto found = setting_.nccl_comms.find(comm_sms);
    DOVETAIL_CHECK(found != setting_.nccl_comms.end(),
                   "an exchange without a communicator of " + describe_comm_sms(comm_sms) + " SMs");
    comm_ = found->second;
    comm_sms_ = comm_sms;
  }
  DOVETAIL_CHECK(max_tokens.size() <= state_->ubatches.size(),
                 counted(std::ssize(max_tokens), "ubatch") + " in a step; there are buffers for " +
                     std::to_string(state_->ubatches.size()));
  bool grows = false;
  for (std::size_t u = 0; u < max_tokens.size(); ++u) {
    DOVETAIL_CHECK(max_tokens[u] >= 0, counted(max_tokens[u], "token"));
    grows = grows || max_tokens[u] > state_->ubatches[u].allocated;
  }
  if (grows) {
    DOVETAIL_CHECK(!is_capturing(current_stream()),
                   "buffers of an exchange cannot grow while a graph is captured");
    // Old buffers go back to the allocator: nothing may use them any more.
    check_cuda(cudaDeviceSynchronize(), "before an exchange's buffers grow");
    ++generation_;
  }
  for (std::size_t u = 0; u < state_->ubatches.size(); ++u) {
    auto& slot = state_->ubatches[u];
    slot.used.reset();
    slot.kept.reset();
    slot.made_rows.clear();
    slot.counts_recorded = false;
    slot.last_wire.reset();
    slot.max_tokens = -1;
    if (u < max_tokens.size()) {
      set_bounds(slot, max_tokens[u]);
    }
  }
  if (grows && shares_memory(kind_) && shape_.ep_size > 1) {
    share_memory();
  }
}

void NcclExchange::set_bounds(Ubatch& slot, std::int64_t max_tokens) {
  slot.sizes = exchange_sizes(kind_,
                              shape_.ep_size,
                              shape_.num_experts,
                              shape_.top_k,
                              row_bytes_,
                              max_tokens,
                              setting_.padded_capacity);
  if (max_tokens > slot.allocated) {
    const auto& sizes = slot.sizes;
    const std::int64_t local = shape_.experts_per_rank();
    // First let go of the old ones, so that both need not fit.
    slot.send = slot.receive = slot.send_back = slot.received_back = at::Tensor();
    slot.expert_rows = slot.output = slot.sender = slot.choice_rows = at::Tensor();
    slot.sender = device_tensor({sizes.sender.words()}, at::kInt);
    slot.send = device_tensor({sizes.send_bytes}, at::kByte);
    if (!shares_memory(kind_) || shape_.ep_size == 1) {
      slot.receive = device_tensor({sizes.receive_bytes}, at::kByte);
      slot.received_back = device_tensor({sizes.received_back_bytes}, at::kByte);
    }
    slot.bases = device_tensor({local * shape_.ep_size}, at::kInt);
    slot.offsets = device_tensor({local}, at::kInt);
    slot.choice_rows = device_tensor({sizes.choice_rows}, at::kInt);
    slot.expert_rows = device_tensor({sizes.expert_rows, shape_.hidden}, shape_.dtype);
    slot.send_back = device_tensor({sizes.send_back_bytes}, at::kByte);
    slot.output = device_tensor({max_tokens, shape_.hidden}, shape_.dtype);
    slot.allocated = max_tokens;
  }
  slot.max_tokens = max_tokens;
}

void NcclExchange::check_step() {
  DeviceStatus status;
  check_cuda(cudaMemcpy(&status, bytes_of(state_->status), sizeof status, cudaMemcpyDeviceToHost),
             "reading an exchange's status");
  if (static_cast<DeviceFinding>(status.finding) == DeviceFinding::none) {
    return;
  }
  // Told once; what was counted stays.
  check_cuda(cudaMemset(bytes_of(state_->status) + offsetof(DeviceStatus, finding),
                        0,
                        sizeof status - offsetof(DeviceStatus, finding)),
             "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "clearing an exchange's status");
  throw_finding(status);
}

void NcclExchange::throw_finding(const DeviceStatus& status) {
  const auto finding = static_cast<DeviceFinding>(status.finding);
  const auto rank = "rank " + std::to_string(setting_.world_rank) + ", ";
  const auto ubatch = "ubatch " + std::to_string(status.ubatch);
  const auto layer = "layer " + std::to_string(status.layer);
  const auto peer = "ep rank " + std::to_string(status.destination);
  if (finding == DeviceFinding::peer_is_late || finding == DeviceFinding::told_to_give_up) {
    failed_ = true;
    const auto place =
        rank + ubatch + ", " + layer + ", phase " +
        std::string(to_string(status.combines != 0 ? Phase::combine : Phase::dispatch)) +
        (status.group >= 0 ? ", group " + std::to_string(status.group) : "");
    if (finding == DeviceFinding::peer_is_late) {
      throw TimeoutError("exchange " + name() + ": " + place + ": nothing came from " + peer +
                         " within " + std::to_string(setting_.wait.timeout.count()) + " ms");
    }
    throw RunError("exchange " + name() + ": " + place + ": aborted while " + peer +
                   " was waited for");
  }
  const auto place = rank + layer + ", expert " + std::to_string(status.expert) + " (" + ubatch +
                     ", token " + std::to_string(status.token) + ")";
  if (finding == DeviceFinding::block_too_small) {
    throw RunError("exchange " + name() + ": " + place + ": " + counted(status.rows, "row") +
                   " for " + peer + " do not fit into a block of " +
                   std::to_string(status.capacity) +
                   "; allowed: a larger execution.padded_capacity");
  }
  throw RunError("exchange: " + place +
                 (finding == DeviceFinding::expert_out_of_range
                      ? ": there is no such expert; allowed: -1 (none), 0 to " +
                            std::to_string(shape_.num_experts - 1)
                      : ": chosen twice; the experts of a token must be distinct"));
}

std::int64_t NcclExchange::bytes() const {
  std::size_t sum = 0;
  for (const auto& slot : state_->ubatches) {
    sum += slot.allocated >= 0 ? static_cast<std::size_t>(slot.sizes.wire_bytes) : 0;
    for (const auto* buffer : {&slot.sender,
                               &slot.send,
                               &slot.receive,
                               &slot.bases,
                               &slot.offsets,
                               &slot.choice_rows,
                               &slot.expert_rows,
                               &slot.send_back,
                               &slot.received_back,
                               &slot.output}) {
      sum += buffer->defined() ? buffer->nbytes() : 0;
    }
  }
  return static_cast<std::int64_t>(sum);
}

/// Bytes: payloads behind a dispatch, whose heads say what they are. Which rows are of a group is
/// known on the device alone: those of all groups are given.
std::vector<at::Tensor> NcclExchange::received_rows(int ubatch,
                                                    Phase phase,
                                                    std::optional<int> /*group*/) {
  auto& slot = at(ubatch, "received_rows");
  slot.last_wire.reset();  // whoever asks may write there
  const auto& block = slot.sizes.block;
  std::vector<at::Tensor> rows;
  for (int source = 0; source < shape_.ep_size; ++source) {
    if (source == shape_.ep_rank) {
      continue;
    }
    rows.push_back(phase == Phase::dispatch
                       ? slot.receive.narrow(0,
                                             source * block.block_bytes() + block.payload_begin(),
                                             block.capacity * row_bytes_)
                       : slot.received_back.narrow(
                             0, source * block.part_bytes(), block.capacity * row_bytes_));
  }
  return rows;
}

std::unique_ptr<Exchange> make_nccl_exchange(BlockKind kind,
                                             const ExchangeShape& shape,
                                             const ExchangeSetting& setting) {
  return std::make_unique<NcclExchange>(kind, shape, setting);
}

}  // namespace dovetail

// The exchange between GPUs: `gather`, `ragged`, `padded`, `symmetric` and `copy_engine` in one
// class. They differ in which rows a block holds and how blocks travel; tables, kernels and sums
// are the same.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/exchange_setting.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"
#include "framework/comm/exchange/nccl/device_plan.hpp"

namespace dovetail {

struct Arrivals;
struct DeviceStatus;
struct PushArgs;
struct WireCall;

/// All tensors on this process's device; kernels and transfers are enqueued on the current c10
/// stream of the calling thread, and the caller orders the lanes by events. There is no check of
/// the order of calls: in a replayed step none of them is made.
///
/// begin_step makes the buffers, for the bounds that it has seen so far; prepare takes at most that
/// many tokens. arrange's rows are [R_max, hidden], R_max following from this step's bound; reduce
/// takes as many rows.
///
/// gather: all rows to all peers by an all-gather in place; partial rows of fixed number back.
/// padded: blocks of fixed capacity. Both may be captured whole. ragged: exact rows; dispatch waits
/// for the counts of prepare on the host (an event behind what its stream waits for), exchanges
/// them over MPI and must not be captured, unless an adopted plan knows the counts; prepare may.
///
/// symmetric: an own kernel stores exact rows, and what says how many, into the memory of the
/// peers. copy_engine: copy engines write blocks of fixed capacity there, between two kernels of
/// one CTA that tell the peers. Both may be captured whole. begin_step is collective where their
/// buffers grow, and so are the constructor and received_rows. A wait for a peer ends with the
/// bound of every wait, or where the step's communicator is aborted; check_step then throws
/// TimeoutError or RunError.
///
/// ids out of range or chosen twice and blocks that are too small are found on the device: the
/// choice or row is left out and check_step throws. After a failed dispatch or combine all further
/// calls of these throw RunError.
/// Only symmetric takes groups of experts: each wire call stores the rows of its group. arrange's
/// rows of a group are valid until the next one's arrange. Traffic: see exchange.hpp. Logical bytes
/// are counted by the routing itself, also in replays; passes over adopted plans have none.
class NcclExchange final : public Exchange, private ExchangePlans, private StepBuffers {
 public:
  /// Takes the NCCL communicators and, ragged, that of counts. Allocates with the first begin_step.
  /// Local where no memory is shared; on the current device. Throws ContractError for a shape or
  /// setting that does not fit, InputError where memory cannot be shared with all ranks.
  NcclExchange(BlockKind kind, const ExchangeShape& shape, const ExchangeSetting& setting);

  /// The device must be done with the buffers, and no graph may use them any more.
  ~NcclExchange() override;
  NcclExchange(const NcclExchange&) = delete;
  NcclExchange& operator=(const NcclExchange&) = delete;
  NcclExchange(NcclExchange&&) = delete;
  NcclExchange& operator=(NcclExchange&&) = delete;

  void prepare(int ubatch, const RoutedTokens& tokens) override;
  void dispatch(int ubatch, int group) override;
  ExpertRows arrange(int ubatch, int group) override;
  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override;
  void combine(int ubatch, int group) override;
  at::Tensor finish(int ubatch) override;

  ExchangePlans& plans() override { return *this; }

  /// Reading and resetting it reads a counter from the device: not while a stream is captured by
  /// this thread.
  TrafficMeter& meter() override { return meter_; }

  StepBuffers& buffers() override { return *this; }

 private:
  struct Ubatch;
  struct State;

  /// Enqueues the copy of the sender's side; arrange then adds what arrived. With every call of
  /// prepare at most one plan.
  std::shared_ptr<ExchangePlan> plan(int ubatch) override;
  void prepare_again(int ubatch,
                     const RoutedTokens& tokens,
                     std::shared_ptr<ExchangePlan> plan) override;

  /// The plan must be of the same bounds as this step.
  void adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) override;

  /// max_tokens: one for each ubatch of the step, at most shape.num_ubatches. Growing waits for the
  /// device and is refused (ContractError) while the current stream is captured.
  void begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) override;
  void check_step() override;

  int comm_sms() const override { return comm_sms_; }

  std::uint64_t generation() const override { return generation_; }

  std::int64_t bytes() const override;
  std::vector<at::Tensor> received_rows(int ubatch, Phase phase, std::optional<int> group) override;

  Ubatch& at(int ubatch, const char* call) const;
  Ubatch& at(int ubatch, int group, const char* call) const;
  std::string name() const;
  std::string where(int ubatch, const char* call) const;
  void set_bounds(Ubatch& slot, std::int64_t max_tokens);
  void scan(int ubatch, const Ubatch& slot, const RoutedTokens& tokens) const;
  void pack(const Ubatch& slot, const at::Tensor& hidden, const std::int32_t* sender) const;
  const std::int32_t* sender_of(const Ubatch& slot) const;
  Arrivals arrivals_of(const Ubatch& slot) const;
  void keep_arrivals(Ubatch& slot) const;
  Traffic read_device() const;
  [[noreturn]] void throw_finding(const DeviceStatus& status);

  // nccl_exchange_wire.cpp
  template <class Body>
  void on_wire(int ubatch, const char* call, Body body);
  void count(const Traffic& sent);
  void exchange_counts(int ubatch, Ubatch& slot);
  void gather_blocks(int ubatch, Ubatch& slot);
  void send_blocks(int ubatch, Ubatch& slot);
  void share_memory();
  void push(int ubatch, Ubatch& slot, const WireCall& call);
  void copy_blocks(PushArgs args, Phase phase);
  std::int64_t rows_out(const Ubatch& slot, int peer) const;
  std::int64_t rows_in(const Ubatch& slot, int peer) const;

  const BlockKind kind_;
  const ExchangeShape shape_;
  const ExchangeSetting setting_;
  NcclComm* comm_ = nullptr;  ///< of this step; null in a group of one
  int comm_sms_ = 0;          ///< of this step; kAllSms = not bounded
  const std::int64_t row_bytes_;
  std::unique_ptr<State> state_;
  std::uint64_t generation_ = 0;
  bool failed_ = false;
  TrafficMeter meter_;
};

/// A NcclExchange. Throws InputError in a build without CUDA, which has nothing else of this
/// header.
std::unique_ptr<Exchange> make_nccl_exchange(BlockKind kind,
                                             const ExchangeShape& shape,
                                             const ExchangeSetting& setting);

}  // namespace dovetail

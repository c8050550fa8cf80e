// The two back ends for host tensors over MPI, `gather` and `ragged`. They differ in which rows
// travel to the experts (RowSelection); all else is shared.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/exchange_setting.hpp"
#include "framework/comm/exchange/peer_messages.hpp"
#include "framework/comm/exchange/routing_plan.hpp"
#include "framework/comm/exchange/row_kernels.hpp"

namespace dovetail {

/// Point-to-point only: tags name the ubatch, the group and the kind of message, so nothing depends
/// on the order in which two threads enter MPI, and a late peer can be named. Calls have to come in
/// the order of exchange.hpp (ContractError otherwise). After a failed dispatch or combine the
/// exchange refuses every further call with RunError.
///
/// `gather`: each rank sends all its routed rows to every other rank, which picks what its experts
/// need. `ragged`: exact counts, one row per (token, destination rank). Rows come back the same way
/// in both: one per (token, rank that owns one of its experts), batch_invariant: one per (token,
/// choice).
/// Counts travel on `counts_comm`, posted by prepare, completed at the head of the first dispatch,
/// which also brings the metadata of all groups.
class MpiExchange final : public Exchange, private ExchangePlans, private HostBuffers {
 public:
  /// Takes both communicators of host ranks; shape.ep_rank is the rank in them. Local. Throws
  /// ContractError for a shape or communicators that do not fit.
  MpiExchange(RowSelection selection, const ExchangeShape& shape, const ExchangeSetting& setting);

  /// Local; never blocks. Messages that a failure left in flight are cancelled; where that cannot
  /// be (a send that no peer took) the buffers are leaked on purpose, because MPI may still use
  /// them.
  ~MpiExchange() override;
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;
  MpiExchange(MpiExchange&&) = delete;
  MpiExchange& operator=(MpiExchange&&) = delete;

  void prepare(int ubatch, const RoutedTokens& tokens) override;
  void dispatch(int ubatch, int group) override;
  ExpertRows arrange(int ubatch, int group) override;
  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override;
  void combine(int ubatch, int group) override;
  at::Tensor finish(int ubatch) override;

  ExchangePlans& plans() override { return *this; }

  TrafficMeter& meter() override { return meter_; }

  StepBuffers& buffers() override { return *this; }

 private:
  struct Ubatch;
  struct State;
  enum class Call { prepare, dispatch, arrange, reduce, combine, finish };

  // ExchangePlans
  std::shared_ptr<ExchangePlan> plan(int ubatch) override;
  void prepare_again(int ubatch,
                     const RoutedTokens& tokens,
                     std::shared_ptr<ExchangePlan> plan) override;
  void adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) override;

  /// Of all row buffers, and of the metadata of the ubatches' plans.
  std::int64_t bytes() const override;
  std::vector<at::Tensor> received_rows(int ubatch, Phase phase, std::optional<int> group) override;

  void plan_sends(const RoutedTokens& tokens, RoutingPlan& plan) const;
  Ubatch& slot_of(int ubatch, const char* call) const;
  Ubatch& enter(int ubatch, int group, Call call);
  std::string where(int ubatch, const char* call) const;
  std::string where(int ubatch, int group, Call call) const;
  void pack(Ubatch& slot, const at::Tensor& hidden) const;
  void post_counts(int ubatch, Ubatch& slot);
  void wait_counts(int ubatch, Ubatch& slot);
  void move_metadata_out(int ubatch, Ubatch& slot);
  void move_rows_out(int ubatch, int group, Ubatch& slot);
  void move_parts_back(int ubatch, int group, Ubatch& slot);
  SplitRows arrived_rows(const Ubatch& slot) const;
  SplitRows returned_rows(const Ubatch& slot) const;
  MessageKind message_kind(int ubatch, int group, int kind) const;

  /// Runs a wire call; a failure marks the exchange as unusable.
  template <class Body>
  void on_wire(Body body);

  RowSelection selection_;
  ExchangeShape shape_;
  MPI_Comm exchange_comm_;
  MPI_Comm counts_comm_;
  WaitPolicy policy_;
  std::int64_t row_bytes_;
  std::unique_ptr<State> state_;  ///< everything that MPI may hold a pointer to
  TrafficMeter meter_;
  std::atomic<bool> failed_{false};
};

/// ExchangeSide::buffer_bytes of it. Linear in max_tokens.
std::int64_t mpi_exchange_bytes(RowSelection selection,
                                const ExchangeShape& shape,
                                std::int64_t max_tokens);

}  // namespace dovetail

// A slower link than the machine's own: CPU ranks of one host can study a policy as if a network
// lay between them. The rows travel as ever; what is emulated is only how long that takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/experiment.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// How long a link takes for a call in which a rank sends and receives that many bytes; both
/// directions at once, so the larger number counts.
std::chrono::nanoseconds link_duration(const LinkConfig& link,
                                       std::int64_t sent_bytes,
                                       std::int64_t received_bytes);

/// Lets dispatch and combine of another exchange last at least link_duration of the bytes that
/// crossed the wire in the call. The time counts from the beginning of the call on this rank. All
/// other calls pass through. The wait sleeps, so the core is free for compute. It polls `policy`
/// and ends with what that throws. Throws TimeoutError where the link would take longer than the
/// policy's time-out.
///
/// Each group's dispatch and combine is a call of its own, with its own latency and bytes.
///
/// Two things are left out. A row of a peer that came late is there a link_duration after this
/// rank's call, where a real link would count from the peer's call (it is never there before the
/// peer has sent it). The counts of rows belong to dispatch: their bytes and the wait for them are
/// within its link_duration, and no latency of their own is added.
class EmulatedLink final : public Exchange {
 public:
  EmulatedLink(std::unique_ptr<Exchange> exchange, const LinkConfig& link, WaitPolicy policy);

  void prepare(int ubatch, const RoutedTokens& tokens) override;
  void dispatch(int ubatch, int group) override;
  ExpertRows arrange(int ubatch, int group) override;
  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override;
  void combine(int ubatch, int group) override;
  at::Tensor finish(int ubatch) override;

  ExchangePlans& plans() override { return exchange_->plans(); }

  TrafficMeter& meter() override { return exchange_->meter(); }

  StepBuffers& buffers() override { return exchange_->buffers(); }

 private:
  std::unique_ptr<Exchange> exchange_;
  LinkConfig link_;
  WaitPolicy policy_;
};

/// `exchange` over an emulated link; as it is where the group has one rank, which has no link.
std::unique_ptr<Exchange> emulate_link(std::unique_ptr<Exchange> exchange,
                                       const ExchangeShape& shape,
                                       const LinkConfig& link,
                                       const WaitPolicy& policy);

}  // namespace dovetail

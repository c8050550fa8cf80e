// The exchange of `dovetail bench partition`: the wire calls of a layer, again and again, and what
// has arrived.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_options.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/mpi/session.hpp"

namespace dovetail {

/// Of a rank that has peers. Calls from the main thread, all but run collective over the world.
class PartitionExchange {
 public:
  /// By the options' name, or one that shares memory where the GPUs reach each other's, else
  /// `gather`. comm_sms of the options: kAllSms = no bound. `meet` waits for the device and for all
  /// ranks. `device` outlives it. Throws InputError, on all ranks alike.
  PartitionExchange(BenchDevice& device,
                    const MpiSession& session,
                    const ExchangeBenchOptions& options,
                    std::function<void()> meet);

  const std::string& name() const { return name_; }

  /// An eager pass of all calls with that bound, behind which run may follow.
  void begin(int comm_sms);

  /// Enqueues a dispatch and a combine on the current stream; may be captured.
  void run() const;

  /// All that has come from peers becomes NaN.
  void poison() const;

  /// Elements of the rows that the last run has brought that are not as they should be, of this
  /// rank: of those of its combine, then of its dispatch, which go through the other calls.
  std::int64_t count_wrong_elements() const;

 private:
  const std::int64_t num_tokens_;
  const std::function<void()> meet_;
  std::string name_;
  std::unique_ptr<Exchange> exchange_;
  BenchTokens tokens_;
};

}  // namespace dovetail

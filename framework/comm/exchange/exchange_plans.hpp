// Runs an exchange again without routing, for profiled passes that leave out exchange or compute.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dovetail {

struct RoutedTokens;

/// What a prepared ubatch's routing has decided: counts, permutations, received expert ids and
/// weights. Passes that compute only, or exchange only, keep it to run the same exchange again.
class ExchangePlan {
 public:
  ExchangePlan() = default;
  virtual ~ExchangePlan() = default;
  ExchangePlan(const ExchangePlan&) = delete;
  ExchangePlan& operator=(const ExchangePlan&) = delete;
  ExchangePlan(ExchangePlan&&) = delete;
  ExchangePlan& operator=(ExchangePlan&&) = delete;

  /// Rows that each of this rank's experts computes, [experts_per_rank]. Local; for a complete plan
  /// only (ContractError otherwise).
  virtual std::vector<std::int64_t> tokens_per_expert() const = 0;
};

/// All calls are local, of the compute lane.
class ExchangePlans {
 public:
  virtual ~ExchangePlans() = default;

  /// The plan made by the ubatch's last prepare; complete once its dispatch is done (on a GPU: its
  /// arrange).
  virtual std::shared_ptr<ExchangePlan> plan(int ubatch) = 0;

  /// As prepare, with the plan of an earlier step of the same batch. Plans once more, packs the
  /// rows of tokens.hidden and exchanges no counts, so that it takes as long as prepare does on
  /// this rank alone. `tokens` but for the hidden states: those that the plan was made of
  /// (ContractError for another number of them).
  virtual void prepare_again(int ubatch,
                             const RoutedTokens& tokens,
                             std::shared_ptr<ExchangePlan> plan) = 0;

  /// Makes `plan` the ubatch's plan and its buffers as large as the plan says (contents
  /// unspecified), so that any of the other calls can follow: with it dispatch and combine run
  /// alone, or the compute-lane calls without them. Throws ContractError for a plan that is not
  /// complete, or of another kind of exchange or grid.
  virtual void adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) = 0;
};

}  // namespace dovetail

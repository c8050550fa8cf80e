// The exchange of tokens between the ranks of an ep group: six calls around the experts of a layer.
// All back ends implement this interface and pass one conformance test; they agree to the bit,
// because the order of summation depends on the grid only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// What an exchange is made for; equal on all ranks of the group but for ep_rank.
struct ExchangeShape {
  int ep_size = 1;
  int ep_rank = 0;
  int num_experts = 0;  ///< of a layer, over the whole group; a multiple of ep_size; rank r owns
                        ///< block r of num_experts / ep_size
  int top_k = 0;
  std::int64_t hidden = 0;
  at::ScalarType dtype = at::kFloat;  ///< activation dtype: float32, bfloat16 or float16
  int num_ubatches = 1;               ///< one set of buffers for each

  int experts_per_rank() const { return num_experts / ep_size; }
};

/// Input of the experts of one layer of one ubatch on this rank.
struct ExpertRows {
  at::Tensor rows;  ///< [R, hidden] activation dtype, contiguous; grouped by local expert, then by
                    ///< (source rank, source token). On a GPU R is what the buffer holds; rows from
                    ///< offsets.back() on are unspecified, and kernels stop there.
  at::Tensor offsets;  ///< [experts_per_rank] int32: cumulative ends; offsets[e-1]..offsets[e] are
                       ///< the rows of local expert e; on the device of `rows`
};

/// Routing-dependent state of a prepared ubatch (counts, permutations, received expert ids and
/// weights), kept by whoever wants to run the same exchange again without routing (compute-only and
/// comm-only passes).
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

/// Sums since construction or reset_traffic. Wire: bytes of all kinds (payload, metadata, counts)
/// that left this rank for another one; received: those that came from another one. Logical:
/// payload bytes of one row per (token, expert) choice of this rank's tokens, own rank included,
/// padding left out, in both directions (the convention of the DeepEP figures). Read it while no
/// call is in progress.
struct Traffic {
  std::int64_t dispatch_wire_bytes = 0;
  std::int64_t combine_wire_bytes = 0;
  std::int64_t dispatch_received_bytes = 0;
  std::int64_t combine_received_bytes = 0;
  std::int64_t dispatch_logical_bytes = 0;
  std::int64_t combine_logical_bytes = 0;
  std::int64_t counts_wait_ns = 0;  ///< time blocked on counts

  Traffic& operator+=(const Traffic& other) {
    dispatch_wire_bytes += other.dispatch_wire_bytes;
    combine_wire_bytes += other.combine_wire_bytes;
    dispatch_received_bytes += other.dispatch_received_bytes;
    combine_received_bytes += other.combine_received_bytes;
    dispatch_logical_bytes += other.dispatch_logical_bytes;
    combine_logical_bytes += other.combine_logical_bytes;
    counts_wait_ns += other.counts_wait_ns;
    return *this;
  }
};

/// Per ubatch the order is prepare, dispatch, arrange, reduce, combine, finish, and then the next
/// layer's prepare. dispatch and combine are collective over the ep group, called in the same order
/// (of ubatches) on all ranks, from one thread at a time (the comm lane); prepare may be
/// collective, too (counts), is called in the same order on all ranks, and may run beside a
/// dispatch or combine of another ubatch. Other calls are local. Buffers belong to the exchange and
/// are valid until the ubatch's next prepare/dispatch. Ranks may hold different numbers of tokens,
/// also none; every rank makes every call. All waits are bounded.
class Exchange {
 public:
  Exchange() = default;
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  Exchange(Exchange&&) = delete;
  Exchange& operator=(Exchange&&) = delete;

  /// Before every step: the agreed largest number of tokens of each of its ubatches over all ranks,
  /// which is what messages of fixed size are made for. Local. On the CPU without
  /// effect.
  virtual void begin_step(std::span<const std::int64_t> /*max_tokens*/) {}

  /// The layer that the ubatch's next calls belong to, for messages.
  virtual void begin_layer(int /*ubatch*/, int /*layer*/) {}

  /// After a step has ended on the device, also a replayed one: throws RunError for what kernels
  /// have found (a block that was too small), naming rank, layer and expert. Local.
  virtual void check_step() {}

  /// compute lane, end of `route`: counts and permutation by destination; packs the rows to send.
  /// hidden [T, H] activation dtype; expert_ids [T, k] int64, distinct within a row, -1 = padding
  /// (costs no exchange); weights [T, k] float32. All contiguous, T >= 0.
  virtual void prepare(int ubatch,
                       const at::Tensor& hidden,
                       const at::Tensor& expert_ids,
                       const at::Tensor& weights) = 0;

  /// comm lane: the wire only. One row per (token, destination rank); own rows never travel.
  virtual void dispatch(int ubatch) = 0;

  /// compute lane, head of `experts`.
  virtual ExpertRows arrange(int ubatch) = 0;

  /// compute lane, end of `experts`: expert_rows [R, H] in arrange's order. Sums this rank's
  /// weighted rows of each token in ascending k in float32 and rounds once to the activation dtype.
  /// The first term is stored, not added to zero; products are rounded before they are added.
  virtual void reduce(int ubatch, const at::Tensor& expert_rows) = 0;

  /// comm lane: the wire only. One row per (token, rank) back.
  virtual void combine(int ubatch) = 0;

  /// compute lane, head of the ubatch's next op: the owner adds the partial rows of the ranks that
  /// own at least one of the token's experts, in ascending ep rank order in float32, rounds once.
  /// Returns [T, H] activation dtype; a token without experts gets zeros.
  virtual at::Tensor finish(int ubatch) = 0;

  /// The plan made by the ubatch's last prepare; complete once its dispatch is done.
  virtual std::shared_ptr<ExchangePlan> plan(int ubatch) const = 0;

  /// As prepare, with the plan of an earlier step of the same batch: packs the rows, exchanges no
  /// counts. Local.
  virtual void prepare_again(int ubatch,
                             const at::Tensor& hidden,
                             std::shared_ptr<ExchangePlan> plan) = 0;

  /// Makes `plan` the ubatch's plan and its buffers as large as the plan says (contents
  /// unspecified), so that any of the other calls can follow: with it dispatch and combine run
  /// alone, or the compute-lane calls without them. Local.
  virtual void adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) = 0;

  /// Bytes that the buffers hold now; -1 = not known.
  virtual std::int64_t buffer_bytes() const { return -1; }

  virtual const Traffic& traffic() const = 0;
  virtual void reset_traffic() = 0;

  /// Traffic of replayed steps: a dispatch or combine that is recorded into a graph sends nothing
  /// yet, so its bytes are kept apart instead of being added to traffic(). Whoever has captured a
  /// graph takes them (which clears them) and adds them with every replay. Logical bytes are not
  /// among them: the routing counts those itself, in replays too. On the CPU always empty.
  virtual Traffic take_captured_traffic() { return {}; }

  virtual void add_traffic(const Traffic& /*traffic*/) {}

  /// Changes whenever begin_step has moved buffers: graphs that were captured before must not be
  /// replayed any more.
  virtual std::uint64_t buffers_generation() const { return 0; }
};

}  // namespace dovetail

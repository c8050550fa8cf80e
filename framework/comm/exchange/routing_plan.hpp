// What one ubatch's routing means for one rank: which rows it sends where, which rows come back,
// and, once its dispatch is done, what arrived. Pure arithmetic, shared by all back ends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

/// Which rows travel to a rank: only those that one of its experts needs (`ragged`), or all routed
/// rows of the sender (`gather`).
enum class RowSelection { needed, all };

/// A token is *routed to* a rank if the rank owns at least one of the token's experts; a token
/// without experts (padding) is routed nowhere and never packed. R ranks, k choices per token.
struct RoutingPlan final : public ExchangePlan {
  ExchangeShape shape;
  RowSelection selection = RowSelection::needed;
  std::int64_t num_tokens = 0;
  std::int64_t num_choices = 0;  ///< (token, expert) pairs of this rank's tokens

  // Rows to send. A packed row is a copy of one token; rank r (this rank included) gets the packed
  // rows [packed_begin[r], packed_begin[r] + packed_count[r]), in token order.
  std::vector<std::int32_t> packed_tokens;
  std::vector<std::int32_t> packed_metadata;  ///< [packed rows][2k]: see metadata_width
  std::vector<std::int64_t> packed_begin;     ///< [R]
  std::vector<std::int64_t> packed_count;     ///< [R]

  // Rows that come back: by rank, then token, then k. Token t gets parts[part_begin[t]] to
  // parts[part_begin[t + 1]]. Partial sums: one for each rank that it is routed to, in ascending
  // rank order, without weights. Where the shape returns choices: one for each choice, in ascending
  // k.
  std::vector<std::int64_t> return_count;  ///< [R] that come from each rank
  std::vector<std::int64_t> part_begin;    ///< [T + 1]
  std::vector<std::int32_t> parts;         ///< index into the rows by rank, then token, then k
  std::vector<float> part_weights;         ///< of each part; empty = partial sums

  // Known once dispatch is done; own rows included. Arrivals are ordered by source rank, then
  // token; rows that go back have the same order, then k: one for each arrival that is routed here,
  // or, where the shape returns choices, one for each choice of an expert of this rank.
  std::vector<std::int64_t> arrived_count;     ///< [R]
  std::vector<std::int32_t> arrived_metadata;  ///< [arrivals][2k]
  std::vector<std::int64_t> go_back_count;     ///< [R]
  bool complete = false;

  std::int64_t num_arrivals() const;
  std::int64_t num_go_back() const;
  std::vector<std::int64_t> tokens_per_expert() const override;

  /// Int32 values of metadata per row: k expert ids (-1 = none), then k weights as float bits.
  std::size_t metadata_width() const { return 2 * static_cast<std::size_t>(shape.top_k); }
};

/// Fills the sender's side of `plan` (vectors keep their memory) and marks it incomplete.
/// expert_ids [T][k]: distinct within a row, -1 = none; weights [T][k]. Throws ContractError that
/// names the token for ids out of range or chosen twice, and for more than 2^31 - 1 rows to send or
/// to get back.
void plan_sends(const ExchangeShape& shape,
                RowSelection selection,
                std::span<const std::int64_t> expert_ids,
                std::span<const float> weights,
                RoutingPlan& plan);

/// Fills go_back_count from what arrived and marks the plan complete.
void complete_plan(RoutingPlan& plan);

/// Local expert of a global expert id, or -1 if another rank owns it (or it is padding).
inline int local_expert(const ExchangeShape& shape, std::int32_t expert) {
  const int local = expert - shape.ep_rank * shape.experts_per_rank();
  return expert >= 0 && local >= 0 && local < shape.experts_per_rank() ? local : -1;
}

/// Sum of the entries before `end`.
inline std::int64_t sum_before(std::span<const std::int64_t> counts, int end) {
  std::int64_t sum = 0;
  for (const auto count : counts.first(static_cast<std::size_t>(end))) {
    sum += count;
  }
  return sum;
}

}  // namespace dovetail

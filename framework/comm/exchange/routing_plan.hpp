// What one ubatch's routing means for one rank: which rows it sends where, which rows come back,
// and, once its dispatch is done, what arrived. Pure arithmetic, shared by all back ends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/expert_cut.hpp"

namespace dovetail {

/// Which rows travel to a rank: only those that one of its experts needs (`ragged`), or all routed
/// rows of the sender (`gather`).
enum class RowSelection { needed, all };

/// A token is *routed to* a rank if the rank owns at least one of the token's experts; a token
/// without experts (padding) is routed nowhere and never packed. R ranks, k choices per token, G
/// groups into which the experts of a rank are cut. Rows of a rank in a group are a block; blocks
/// are ordered by rank, then group.
struct RoutingPlan final : public ExchangePlan {
  ExchangeShape shape;
  RowSelection selection = RowSelection::needed;
  std::int64_t num_tokens = 0;
  std::int64_t num_choices = 0;  ///< (token, expert) pairs of this rank's tokens
  int num_groups = 1;

  // Rows to send. A packed row is a copy of one token; block b gets the packed rows
  // [packed_begin[b], packed_begin[b] + packed_count[b]), in token order. A row travels in the
  // first group in which the token has an expert: of that rank (needed), or of any rank (all).
  // Metadata travels with the first group, for all of a rank's rows, in token order.
  std::vector<std::int32_t> packed_tokens;
  std::vector<std::int32_t> packed_metadata;  ///< [packed rows][2k]: see metadata_width
  std::vector<std::int64_t> packed_begin;     ///< [R * G]
  std::vector<std::int64_t> packed_count;     ///< [R * G]

  // Rows that come back: by block, then token, then k. Token t gets parts[part_begin[t]] to
  // parts[part_begin[t + 1]]. Partial sums: one for each rank that it is routed to, in ascending
  // rank order, without weights, in the last group in which it has an expert there. Where the shape
  // returns choices: one for each choice, in ascending k, in the group of its expert.
  std::vector<std::int64_t> return_count;  ///< [R * G]
  std::vector<std::int64_t> part_begin;    ///< [T + 1]
  std::vector<std::int32_t> parts;         ///< index into the rows by block, then token, then k
  std::vector<float> part_weights;         ///< of each part; empty = partial sums

  // Known once the dispatch of the first group is done; own rows included. Arrivals are ordered by
  // source rank, then token, and lie by block, then token. Rows that go back are ordered by block,
  // then token, then k: one for each arrival that is routed here, or, where the shape returns
  // choices, one for each choice of an expert of this rank.
  std::vector<std::int64_t> arrived_count;     ///< [R * G]
  std::vector<std::int32_t> arrived_metadata;  ///< [arrivals][2k]
  std::vector<std::int32_t> arrived_place;     ///< [arrivals] where each lies; empty = in order
  std::vector<std::int64_t> go_back_count;     ///< [R * G]
  bool complete = false;

  std::int64_t num_arrivals() const;
  std::int64_t num_go_back() const;
  std::vector<std::int64_t> tokens_per_expert() const override;

  std::size_t block(int rank, int group) const {
    return static_cast<std::size_t>(rank) * static_cast<std::size_t>(num_groups) +
           static_cast<std::size_t>(group);
  }

  ExpertCut cut() const { return {shape.experts_per_rank(), num_groups}; }

  /// Int32 values of metadata per row: k expert ids (-1 = none), then k weights as float bits.
  std::size_t metadata_width() const { return 2 * static_cast<std::size_t>(shape.top_k); }
};

/// Fills the sender's side of `plan` (vectors keep their memory) and marks it incomplete.
/// expert_ids [T][k]: distinct within a row, -1 = none; weights [T][k]. Throws ContractError that
/// names the token for ids out of range or chosen twice, for a cut that leaves groups without
/// experts, and for more than 2^31 - 1 rows to send or to get back.
void plan_sends(const ExchangeShape& shape,
                RowSelection selection,
                std::span<const std::int64_t> expert_ids,
                std::span<const float> weights,
                int num_groups,
                RoutingPlan& plan);

/// Fills arrived_place and go_back_count from what arrived and marks the plan complete. Throws
/// ContractError where the rows that a rank sent in a group are not those that its metadata says.
void complete_plan(RoutingPlan& plan);

/// Local expert of a global expert id, or -1 if another rank owns it (or it is padding).
inline int local_expert(const ExchangeShape& shape, std::int32_t expert) {
  const int local = expert - shape.ep_rank * shape.experts_per_rank();
  return expert >= 0 && local >= 0 && local < shape.experts_per_rank() ? local : -1;
}

/// The sum of the entries before each one.
inline std::vector<std::int64_t> begins_of(std::span<const std::int64_t> counts) {
  std::vector<std::int64_t> begins;
  std::int64_t sum = 0;
  for (const auto count : counts) {
    begins.push_back(sum);
    sum += count;
  }
  return begins;
}

/// Sum of the entries before `end`.
inline std::int64_t sum_before(std::span<const std::int64_t> counts, std::size_t end) {
  std::int64_t sum = 0;
  for (const auto count : counts.first(end)) {
    sum += count;
  }
  return sum;
}

}  // namespace dovetail

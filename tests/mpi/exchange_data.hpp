// Batches for tests of exchanges, and what must come out of them: every rank can make the data of
// all ranks, so that a serial oracle needs no communication.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail::test {

enum class Routing {
  uniform,     ///< k distinct experts at random
  skewed,      ///< low expert ids are much more likely
  one_expert,  ///< all tokens choose the same experts, the first being that of the last rank
  one_rank,    ///< as many choices as possible go to one rank, random among its experts
  padding,     ///< uniform, with whole rows and single choices of -1
  all_padding
};

inline constexpr Routing kAllRoutings[] = {Routing::uniform,
                                           Routing::skewed,
                                           Routing::one_expert,
                                           Routing::one_rank,
                                           Routing::padding,
                                           Routing::all_padding};

enum class Weights {
  random,
  order_shows  ///< (tiny, big, -big, 0, ...): zero in ascending k, tiny in other orders of the
               ///< three
};

/// One rank's part of a batch. Hidden rows are integers below 256, exact in every dtype; they name
/// rank, token and batch.
struct RankBatch {
  std::int64_t num_tokens = 0;
  std::vector<std::int64_t> expert_ids;  ///< [T][k]
  std::vector<float> weights;            ///< [T][k]
  std::vector<float> hidden;             ///< [T][H]
};

struct GroupBatch {
  ExchangeShape shape;  ///< ep_rank is of no meaning here
  std::vector<RankBatch> ranks;
};

/// Tokens of each rank, at most `most`; by variant all equal, uneven, none on one rank, all on one
/// rank, none at all.
std::vector<std::int64_t> tokens_per_rank(int num_ranks, std::uint64_t variant, std::int64_t most);

/// Weights that go with a variant.
Weights weights_of(std::uint64_t variant);

/// The same on all ranks for the same arguments. tokens: per rank.
GroupBatch make_batch(const ExchangeShape& shape,
                      const std::vector<std::int64_t>& tokens,
                      Routing routing,
                      Weights weights,
                      std::uint64_t seed);

RoutedTokens to_tensors(const GroupBatch& batch, int rank);

/// What expert `expert` makes of element h of a row; an integer below 256 again, naming the expert
/// in two of three columns and equal to x in the third.
float expert_output(int expert, float x, std::int64_t h);

/// The experts of `rank` applied to arranged rows.
at::Tensor apply_experts(const ExchangeShape& shape, int rank, const ExpertRows& rows);

/// Differences from what `rank` must receive, in words; at most a few. Empty = none.
std::vector<std::string> check_expert_rows(const GroupBatch& batch,
                                           int rank,
                                           const ExpertRows& rows);

/// Differences of finish's output on `rank` from (1) a sum in double, within rounding, and (2) the
/// sums of exchange.hpp in their stated order, to the bit.
std::vector<std::string> check_output(const GroupBatch& batch, int rank, const at::Tensor& output);

/// (token, rank) pairs, rank != source, where the rank owns at least one of the token's experts,
/// over the tokens of `source`.
std::int64_t count_remote_rows(const GroupBatch& batch, int source);

/// (token, choice) pairs of experts that other ranks own, over the tokens of `source`.
std::int64_t count_remote_choices(const GroupBatch& batch, int source);

}  // namespace dovetail::test

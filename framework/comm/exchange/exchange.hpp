// The exchange of tokens between the ranks of an ep group: six calls around the experts of a layer,
// of which four are made for each group where the experts of a rank are cut.
// Every back end implements this interface and passes one conformance test. All of them give the
// same bits where they sum in the same order (sum_order.hpp). exchange_table.cpp lists the back
// ends and says how to add one.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange_plans.hpp"
#include "framework/comm/exchange/step_buffers.hpp"
#include "framework/comm/exchange/sum_order.hpp"
#include "framework/comm/exchange/traffic_meter.hpp"

namespace dovetail {

/// What an exchange is made for. All but ep_rank is equal on all ranks of the group.
struct ExchangeShape {
  int ep_size = 1;
  int ep_rank = 0;
  int num_experts = 0;  ///< of a layer, over the whole group; a multiple of ep_size; rank r owns
                        ///< block r of num_experts / ep_size
  int top_k = 0;
  std::int64_t hidden = 0;
  at::ScalarType dtype = at::kFloat;       ///< activation dtype: float32, bfloat16 or float16
  int num_ubatches = 1;                    ///< one set of buffers for each
  SumOrder sum_order = SumOrder::by_rank;  ///< see reduce and finish

  int experts_per_rank() const { return num_experts / ep_size; }

  std::int64_t row_bytes() const {
    return hidden * static_cast<std::int64_t>(c10::elementSize(dtype));
  }

  /// True if a row for each choice comes back in place of one partial sum of each rank. A group of
  /// one rank sums all choices of a token in ascending k anyway.
  bool returns_choices() const { return sum_order == SumOrder::by_choice && ep_size > 1; }

  /// The most rows that one rank sends back for a token that it got: one partial sum, or one row
  /// for each choice that its experts can be.
  int most_returned_rows() const {
    return returns_choices() ? std::min(top_k, experts_per_rank()) : 1;
  }
};

/// The tokens of one ubatch in one layer, and what the router has decided for them. All tensors are
/// contiguous; T is the number of tokens, >= 0.
struct RoutedTokens {
  at::Tensor hidden;      ///< [T, hidden] activation dtype
  at::Tensor expert_ids;  ///< [T, top_k] int64, distinct within a row, -1 = padding (costs no
                          ///< exchange)
  at::Tensor weights;     ///< [T, top_k] float32
  int layer = 0;          ///< for messages
  int num_groups = 1;  ///< into which the experts of each rank are cut (expert_cut.hpp); equal on
                       ///< all ranks
};

/// Input of the experts of one layer of one ubatch on this rank, or of one group of them.
struct ExpertRows {
  at::Tensor rows;  ///< [R, hidden] activation dtype, contiguous; grouped by local expert, then by
                    ///< (source rank, source token). On a GPU R is what the buffer holds; rows from
                    ///< offsets.back() on are unspecified, and kernels stop there.
  at::Tensor offsets;  ///< [experts] int32: cumulative ends; offsets[e-1]..offsets[e] are the rows
                       ///< of local expert first_expert + e; on the device of `rows`
  int first_expert = 0;  ///< of the group
};

/// The calls of a ubatch come in this order: prepare, dispatch, arrange, reduce, combine, finish,
/// and then the next layer's prepare. Where experts are cut, dispatch, arrange, reduce and combine
/// are made for each group from 0 on, each call in ascending order of groups; a group's calls have
/// the order above. So the dispatch of a later group and the combine of an earlier one may run
/// beside the arrange, the experts and the reduce of a group. Without a cut the group is 0.
///
/// One row travels in each direction for a token and a rank, however many groups there are: out
/// with the first group in which it has an expert on that rank (`gather`: on any rank), back with
/// the last one, when its partial sum is complete. By choice each row goes back with its own group.
///
/// dispatch and combine are collective over the ep group. All ranks call them in the same order of
/// ubatches, from one thread at a time (the comm lane). prepare may be collective, too (counts):
/// all ranks call it in the same order, and it may run beside a dispatch or combine of another
/// ubatch. The other calls are local. Ranks may hold different numbers of tokens, also none; every
/// rank makes every call. All waits are bounded. Buffers belong to the exchange and are valid until
/// the ubatch's next prepare or dispatch.
///
/// No function has a default, so that a class that wraps an exchange cannot forget one.
class Exchange {
 public:
  Exchange() = default;
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  Exchange(Exchange&&) = delete;
  Exchange& operator=(Exchange&&) = delete;

  /// compute lane, end of `route`: counts the tokens for each destination, sorts them, and packs
  /// the rows to send.
  virtual void prepare(int ubatch, const RoutedTokens& tokens) = 0;

  /// comm lane: only moves rows, one per (token, destination rank). Own rows never travel.
  virtual void dispatch(int ubatch, int group) = 0;

  /// compute lane, head of `experts`: the received and the own rows, grouped by local expert. On a
  /// GPU the groups share the memory of their rows: valid until the next group's arrange.
  virtual ExpertRows arrange(int ubatch, int group) = 0;

  /// compute lane, end of `experts`: expert_rows [R, H] in arrange's order.
  /// by_rank, by_expert: sums this rank's weighted rows of each token, rounded to the activation
  /// dtype. by_choice: only puts the rows into the order in which they go back, without weights.
  /// Where experts are cut, rows of earlier groups belong to sums that a later one completes: the
  /// exchange keeps the tensors until the last group's reduce, and nobody may change them.
  virtual void reduce(int ubatch, int group, const at::Tensor& expert_rows) = 0;

  /// comm lane: only moves rows back, one per (token, rank), with by_choice one per (token,
  /// choice). Own rows never travel.
  virtual void combine(int ubatch, int group) = 0;

  /// compute lane, head of the ubatch's next op. by_rank, by_expert: the owner adds the partial
  /// rows of the ranks that own at least one of the token's experts. by_choice: the owner adds
  /// weight * row of all of the token's choices. Returns [T, H] activation dtype; a token without
  /// experts gets zeros.
  virtual at::Tensor finish(int ubatch) = 0;

  // What only some callers need; all of it lives as long as the exchange.

  /// For profiled passes that leave out the exchange or the compute.
  virtual ExchangePlans& plans() = 0;

  /// Counts bytes, also of captured steps that are replayed.
  virtual TrafficMeter& meter() = 0;

  /// For code that begins, ends and captures steps.
  virtual StepBuffers& buffers() = 0;
};

}  // namespace dovetail

// Where things lie in the blocks that device exchanges send, and how large buffers are. Pure
// arithmetic, for host and device.
#pragma once

#include <cstdint>

#include "framework/base/host_device.hpp"
#include "framework/base/types.hpp"

namespace dovetail {

/// Which rows travel to a peer: all of the sender (one block for all peers), those that the peer
/// needs and no more, or those that it needs in a block of fixed size; symmetric: those that it
/// needs and no more, stored by the sender into a block of fixed size; copy_engine: blocks of fixed
/// size, copied there.
enum class BlockKind { gather, ragged, padded, symmetric, copy_engine };

/// Whether peers write into a rank's memory themselves.
constexpr bool shares_memory(BlockKind kind) {
  return kind == BlockKind::symmetric || kind == BlockKind::copy_engine;
}

/// The most CTAs that a kernel of the wire may have.
inline constexpr int kMostPushCtas = 64;

/// Those of an exchange that nothing bounds. Between two H200s 8, 16 and 32 move 4096 tokens in 175
/// to 180 us; 128 tokens took 14 us with 16 in graphs, 61 with 32 and 115 with 64: each CTA more is
/// a flag more to wait for (dovetail bench exchange --exchanges symmetric).
inline constexpr int kUnboundedPushCtas = 16;

/// Calls of the wire that a ubatch makes for a layer at most: a dispatch and a combine for each
/// group of experts. Each has flags and rounds of its own.
inline constexpr std::int64_t kWireCalls = std::int64_t{2} * kMaxGroups;

/// Flags of a wire call over shared memory: one word for each rank and CTA, lines of a CTA apart.
struct FlagLayout {
  std::int64_t ep_size = 0;

  DOVETAIL_HOST_DEVICE constexpr std::int64_t words_per_cta() const {
    return (ep_size + 31) / 32 * 32;
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t bytes() const {
    return kMostPushCtas * words_per_cta() * 4;
  }
};

/// Choices of a token that the kernels can hold.
inline constexpr int kMaxDeviceTopK = 64;

inline constexpr std::int64_t kBlockAlign = 128;

DOVETAIL_HOST_DEVICE constexpr std::int64_t align_block(std::int64_t bytes) {
  return (bytes + kBlockAlign - 1) / kBlockAlign * kBlockAlign;
}

/// A block is what one rank sends to one peer for one ubatch:
/// - header, int32: [0] rows n; [4 + g] rows that have left with group g of experts or an earlier
///   one (expert_cut.hpp); [12 + g] rows that are back by then; without a cut all of them are n;
///   [20 + e] choices of global expert e by the sender's tokens;
/// - metadata of each row, int32 [3][k] and a word: global expert id of each choice (-1 none),
///   weight (float bits), index of the choice among the sender's choices of that expert, in token
///   order; then the place of its partial sum among those that come back (-1 where it has none);
/// - payload, rows of row_bytes.
/// Rows lie in the order in which they leave, by the first group that needs them, then by token;
/// partial sums in that in which they are complete, by the last such group, then by token.
/// Each part starts at a multiple of kBlockAlign. Offsets are in bytes from the block's start.
struct BlockLayout {
  std::int64_t num_experts = 0;
  std::int64_t top_k = 0;
  std::int64_t row_bytes = 0;
  std::int64_t capacity = 0;  ///< rows that fit

  static constexpr std::int64_t kFirstEnd = 4;
  static constexpr std::int64_t kFirstCount = kFirstEnd + std::int64_t{2} * kMaxGroups;

  DOVETAIL_HOST_DEVICE constexpr std::int64_t header_words() const {
    return kFirstCount + num_experts;
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t header_bytes() const {
    return align_block(header_words() * 4);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t metadata_words() const { return 3 * top_k + 1; }

  /// Header and the metadata of `rows` rows: contiguous from the start.
  DOVETAIL_HOST_DEVICE constexpr std::int64_t head_bytes(std::int64_t rows) const {
    return header_bytes() + rows * metadata_words() * 4;
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t payload_begin() const {
    return align_block(head_bytes(capacity));
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t payload_bytes() const {
    return align_block(capacity * row_bytes);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t block_bytes() const {
    return payload_begin() + payload_bytes();
  }

  /// Partial rows that come back for a block.
  DOVETAIL_HOST_DEVICE constexpr std::int64_t part_bytes() const { return payload_bytes(); }

  friend constexpr bool operator==(const BlockLayout& a, const BlockLayout& b) {
    return a.num_experts == b.num_experts && a.top_k == b.top_k && a.row_bytes == b.row_bytes &&
           a.capacity == b.capacity;
  }
};

/// What a sender knows of its tokens' routing, int32 words in one buffer:
/// rows [R] of the block for each rank; counts [E] of choices; ends [R][2][kMaxGroups] as in the
/// block's header; then, each part starting at a multiple of 32 words: position [T][R] of each
/// token in the block of each rank (-1 = not routed there; gather: the token itself where it is)
/// and, the same, of its partial sum among those that come back; of each choice [T][k] its index
/// (as in the block), expert id (-1 none) and weight (float bits).
struct SenderLayout {
  std::int64_t ep_size = 0;
  std::int64_t num_experts = 0;
  std::int64_t top_k = 0;
  std::int64_t max_tokens = 0;

  static DOVETAIL_HOST_DEVICE constexpr std::int64_t align_words(std::int64_t words) {
    return (words + 31) / 32 * 32;
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t counts() const { return ep_size; }

  /// Of the ends of a rank.
  static constexpr std::int64_t kEndWords = std::int64_t{2} * kMaxGroups;

  DOVETAIL_HOST_DEVICE constexpr std::int64_t ends() const { return counts() + num_experts; }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t positions() const {
    return align_words(ends() + ep_size * kEndWords);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t back_positions() const {
    return positions() + align_words(max_tokens * ep_size);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t indexes() const {
    return back_positions() + align_words(max_tokens * ep_size);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t experts() const {
    return indexes() + align_words(max_tokens * top_k);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t weights() const {
    return experts() + align_words(max_tokens * top_k);
  }

  DOVETAIL_HOST_DEVICE constexpr std::int64_t words() const {
    return weights() + align_words(max_tokens * top_k);
  }
};

/// Rows of a block to one peer where the largest ubatch on any rank has `max_tokens`: the share
/// `padded_capacity` of it, rounded up, where blocks are of fixed size; otherwise all.
std::int64_t block_capacity(BlockKind kind, std::int64_t max_tokens, double padded_capacity);

/// Sizes of one ubatch's buffers on one rank.
struct ExchangeSizes {
  BlockLayout block;
  SenderLayout sender;
  std::int64_t expert_rows = 0;    ///< rows that can arrive for local experts in the worst routing
  std::int64_t send_bytes = 0;     ///< blocks for peers; gather sends its own block
  std::int64_t receive_bytes = 0;  ///< blocks of all ranks, the own one included
  std::int64_t send_back_bytes = 0;      ///< partial rows for the peers
  std::int64_t received_back_bytes = 0;  ///< partial rows of all ranks, the own ones included
  std::int64_t choice_rows = 0;          ///< int32: expert row of each choice that arrived
  std::int64_t output_bytes = 0;
  std::int64_t wire_bytes = 0;  ///< of shared memory: flags that peers set, and rounds of kernels

  /// All of it, with the int32 buffers of arrange.
  std::int64_t total_bytes = 0;

  /// Of expert_rows, those that can arrive for `experts` of them.
  constexpr std::int64_t expert_rows_of(std::int64_t experts) const {
    const auto choices = experts < sender.top_k ? experts : sender.top_k;
    return sender.ep_size * block.capacity * choices;
  }
};

ExchangeSizes exchange_sizes(BlockKind kind,
                             int ep_size,
                             int num_experts,
                             int top_k,
                             std::int64_t row_bytes,
                             std::int64_t max_tokens,
                             double padded_capacity);

}  // namespace dovetail

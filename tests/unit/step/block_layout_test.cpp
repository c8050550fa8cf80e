// Blocks, tables and sizes of device exchanges: parts do not overlap, are aligned, and a block of
// the worst routing fits.
#include "framework/comm/exchange/nccl/block_layout.hpp"

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(BlockLayout, PartsAreAlignedAndInOrder) {
  for (const std::int64_t experts : {1, 4, 60, 128}) {
    for (const std::int64_t k : {1, 3, 8}) {
      for (const std::int64_t row_bytes : {2, 18, 36, 4096}) {
        for (const std::int64_t capacity : {0, 1, 7, 128, 8192}) {
          const BlockLayout block{
              .num_experts = experts, .top_k = k, .row_bytes = row_bytes, .capacity = capacity};
          EXPECT_GE(block.header_bytes(), 4 * (20 + experts));
          EXPECT_EQ(block.head_bytes(0), block.header_bytes());
          EXPECT_EQ(block.head_bytes(capacity) - block.header_bytes(), capacity * (3 * k + 1) * 4);
          EXPECT_GE(block.payload_begin(), block.head_bytes(capacity));
          EXPECT_LT(block.payload_begin() - block.head_bytes(capacity), kBlockAlign);
          EXPECT_GE(block.block_bytes(), block.payload_begin() + capacity * row_bytes);
          EXPECT_GE(block.part_bytes(), capacity * row_bytes);
          for (const auto offset : {block.header_bytes(),
                                    block.payload_begin(),
                                    block.block_bytes(),
                                    block.part_bytes()}) {
            EXPECT_EQ(offset % kBlockAlign, 0);
          }
        }
      }
    }
  }
}

TEST(BlockLayout, NumbersByHand) {
  const BlockLayout block{.num_experts = 128, .top_k = 8, .row_bytes = 4096, .capacity = 10};
  EXPECT_EQ(block.header_bytes(), 640);  // 4 + 2 * 8 + 128 words = 592 bytes
  EXPECT_EQ(block.metadata_words(), 25);
  EXPECT_EQ(block.payload_begin(), 1664);  // 640 + 1000 = 1640
  EXPECT_EQ(block.block_bytes(), 1664 + 40960);
}

TEST(SenderLayout, TablesFollowOneAnother) {
  for (const std::int64_t tokens : {0, 1, 31, 4096}) {
    const SenderLayout sender{.ep_size = 4, .num_experts = 60, .top_k = 3, .max_tokens = tokens};
    EXPECT_EQ(sender.counts(), 4);
    EXPECT_EQ(sender.ends(), 4 + 60);
    EXPECT_GE(sender.positions(), sender.ends() + 4 * 2 * 8);
    EXPECT_GE(sender.back_positions(), sender.positions() + tokens * 4);
    EXPECT_GE(sender.indexes(), sender.back_positions() + tokens * 4);
    EXPECT_GE(sender.experts(), sender.indexes() + tokens * 3);
    EXPECT_GE(sender.weights(), sender.experts() + tokens * 3);
    EXPECT_GE(sender.words(), sender.weights() + tokens * 3);
    EXPECT_EQ(sender.positions() % 32, 0);
  }
}

TEST(BlockCapacity, BlocksOfFixedSizeTakeAShare) {
  EXPECT_EQ(block_capacity(BlockKind::gather, 100, 0.25), 100);
  EXPECT_EQ(block_capacity(BlockKind::ragged, 100, 0.25), 100);
  EXPECT_EQ(block_capacity(BlockKind::padded, 100, 0.25), 25);
  EXPECT_EQ(block_capacity(BlockKind::padded, 101, 0.25), 26);
  EXPECT_EQ(block_capacity(BlockKind::symmetric, 100, 0.25), 25);
  EXPECT_EQ(block_capacity(BlockKind::copy_engine, 100, 0.25), 25);
  EXPECT_EQ(block_capacity(BlockKind::padded, 3, 0.001), 1);
  EXPECT_EQ(block_capacity(BlockKind::padded, 0, 0.5), 0);
  EXPECT_EQ(block_capacity(BlockKind::padded, 7, 1.0), 7);
  EXPECT_THROW(block_capacity(BlockKind::padded, 7, 0.0), ContractError);
  EXPECT_THROW(block_capacity(BlockKind::padded, 7, 1.5), ContractError);
  EXPECT_THROW(block_capacity(BlockKind::gather, -1, 1.0), ContractError);
}

TEST(ExchangeSizes, FollowFromTheKind) {
  const auto gather = exchange_sizes(BlockKind::gather, 4, 128, 8, 4096, 100, 1.0);
  EXPECT_EQ(gather.expert_rows, 4 * 100 * 8);
  EXPECT_EQ(gather.expert_rows_of(16), 4 * 100 * 8);
  EXPECT_EQ(gather.expert_rows_of(3), 4 * 100 * 3);
  EXPECT_EQ(gather.send_bytes, 0);
  EXPECT_EQ(gather.receive_bytes, 4 * gather.block.block_bytes());
  EXPECT_EQ(gather.output_bytes, 100 * 4096);
  const auto padded = exchange_sizes(BlockKind::padded, 4, 128, 8, 4096, 100, 0.5);
  EXPECT_EQ(padded.expert_rows, 4 * 50 * 8);
  EXPECT_EQ(padded.send_bytes, 4 * padded.block.block_bytes());
  EXPECT_EQ(padded.received_back_bytes, 4 * padded.block.part_bytes());
  EXPECT_EQ(padded.output_bytes, 100 * 4096);
  const auto symmetric = exchange_sizes(BlockKind::symmetric, 4, 128, 8, 4096, 100, 0.5);
  EXPECT_EQ(padded.wire_bytes, 0);
  // Flags of two calls for each of 8 groups, a line of 128 bytes for each CTA, and as many rounds.
  EXPECT_EQ(symmetric.wire_bytes, 2 * 8 * (64 * 128 + 64 * 4));
  EXPECT_EQ(symmetric.total_bytes, padded.total_bytes + symmetric.wire_bytes);
  EXPECT_EQ(FlagLayout{33}.words_per_cta(), 64);
  EXPECT_EQ(exchange_sizes(BlockKind::symmetric, 1, 8, 2, 64, 10, 1.0).wire_bytes, 0);
  const auto few_experts = exchange_sizes(BlockKind::ragged, 4, 8, 8, 4096, 100, 1.0);
  EXPECT_EQ(few_experts.expert_rows, 4 * 100 * 2);  // a token can choose two of two local experts
  const auto alone = exchange_sizes(BlockKind::ragged, 1, 8, 2, 64, 10, 1.0);
  EXPECT_EQ(alone.send_bytes, 0);
  EXPECT_EQ(alone.send_back_bytes, 0);
  EXPECT_EQ(alone.receive_bytes, alone.block.block_bytes());
  EXPECT_THROW(exchange_sizes(BlockKind::gather, 4, 128, 64, 4096, 1 << 28, 1.0), ContractError);
}

}  // namespace
}  // namespace dovetail

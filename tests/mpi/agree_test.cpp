// The reduction over ranks against a sequential one; ranks that are idle or late.
#include "framework/mpi/agree.hpp"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"
#include "framework/mpi/collectives.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

class Agree : public ::testing::Test {
 protected:
  AgreementMessage local(const std::vector<AgreementMessage>& messages) const {
    return messages[static_cast<std::size_t>(world_rank())];
  }

  MpiComm comm_ = session().world();
  WaitPolicy policy_{.timeout = std::chrono::milliseconds(10'000)};
};

AgreementMessage random_message(std::mt19937_64& random, int rank) {
  const auto number = [&](std::int64_t limit) {
    return std::uniform_int_distribution<std::int64_t>(0, limit)(random);
  };
  AgreementMessage message;
  message.version = number(3);
  message.version_max = number(3);
  message.min_tokens = number(1) == 0 ? kLargest : number(5000);
  message.max_tokens = number(5000);
  message.sum_tokens = number(5000);
  message.max_requests = number(50);
  message.sum_requests = number(50);
  message.sum_context_tokens = number(100'000);
  message.max_segments = number(50);
  message.max_keys = number(100'000);
  message.max_context = number(5000);
  message.max_key_length = number(5000);
  for (auto* each : {&message.max_ubatch_tokens,
                     &message.max_ubatch_segments,
                     &message.max_ubatch_keys,
                     &message.max_ubatch_context}) {
    for (auto& value : *each) {
      value = number(5000);
    }
  }
  const bool veto = number(1) == 1;
  message.vetoes = veto ? 1 : 0;
  message.veto_rank = veto ? rank : kLargest;
  message.veto_reason = veto ? 1 + number(2) : 0;
  message.min_query_length = number(1) == 0 ? kLargest : number(100);
  message.max_query_length = number(100);
  message.graph_cache_digest_min = number(kLargest) - number(kLargest);
  message.graph_cache_digest_max = message.graph_cache_digest_min;
  message.schedule_digest_min = number(kLargest) - number(kLargest);
  message.schedule_digest_max = message.schedule_digest_min;
  message.status = number(2);
  return message;
}

std::vector<AgreementMessage> random_messages(std::mt19937_64& random) {
  std::vector<AgreementMessage> messages;
  messages.reserve(static_cast<std::size_t>(world_size()));
  for (int rank = 0; rank < world_size(); ++rank) {
    messages.push_back(random_message(random, rank));
  }
  return messages;
}

AgreementMessage fold(const std::vector<AgreementMessage>& messages) {
  AgreementMessage all = messages[0];
  for (std::size_t rank = 1; rank < messages.size(); ++rank) {
    all = reduce(all, messages[rank]);
  }
  return all;
}

TEST_F(Agree, EqualsASequentialReduction) {
  std::int64_t seed = static_cast<std::int64_t>(std::random_device{}());
  all_reduce(comm_, {&seed, 1}, Reduction::max, policy_);
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  for (int step = 0; step < 200; ++step) {
    const auto messages = random_messages(random);
    ASSERT_TRUE(agree(comm_, local(messages), policy_) == fold(messages)) << "step " << step;
  }
}

TEST_F(Agree, AnIdleRankTakesPart) {
  AgreementMessage message;  // the last rank has no work
  const bool idle = world_rank() == world_size() - 1 && world_size() > 1;
  message.min_tokens = idle ? kLargest : 100 + world_rank();
  message.max_tokens = message.sum_tokens = idle ? 0 : 100 + world_rank();
  message.veto_rank = kLargest;
  const AgreementMessage all = agree(comm_, message, policy_);
  const int num_busy = world_size() > 1 ? world_size() - 1 : 1;
  EXPECT_EQ(all.min_tokens, 100);
  EXPECT_EQ(all.max_tokens, 100 + num_busy - 1);
  EXPECT_EQ(all.sum_tokens, 100 * num_busy + num_busy * (num_busy - 1) / 2);
}

TEST_F(Agree, ALateRankIsATimeoutAndHarmsNoMemory) {
  std::mt19937_64 random(99);
  const auto messages = random_messages(random);
  const MpiComm other = session().world();
  const bool late = world_rank() == world_size() - 1;
  if (!late) {
    policy_.timeout = std::chrono::milliseconds(50);
    try {
      agree(comm_, local(messages), policy_);
      ADD_FAILURE() << "agreed without the last rank";
    } catch (const TimeoutError& error) {
      EXPECT_EQ(std::string(error.what()),
                "agreement of the ranks on a step: not done within 50 ms");
    }
  }
  DOVETAIL_MPI(MPI_Barrier(other.raw()));
  if (late) {  // what the others have left behind is still sound
    EXPECT_TRUE(agree(comm_, local(messages), policy_) == fold(messages));
  }
  DOVETAIL_MPI(MPI_Barrier(other.raw()));
}

}  // namespace
}  // namespace dovetail::test

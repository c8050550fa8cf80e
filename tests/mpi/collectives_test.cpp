// Texts, reductions and common errors of all ranks.
#include "framework/mpi/collectives.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

constexpr std::size_t kLength = 100;

class Collectives : public ::testing::Test {
 protected:
  MpiComm comm_ = session().world();
  WaitPolicy policy_{.timeout = std::chrono::milliseconds(10'000)};
};

// Text of a rank: its length and every byte depend on the rank.
std::string text_of(int rank, std::size_t length) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) {
    text += static_cast<char>((i * 7 + static_cast<std::size_t>(rank) * 31) % 256);
  }
  return text;
}

TEST_F(Collectives, BroadcastsTexts) {
  for (const std::size_t length : {0U, 1U, 1000U, 300'000U}) {
    std::string text = text_of(world_rank(), world_rank() == 0 ? length : 17);
    broadcast_text(comm_, text, policy_);
    EXPECT_TRUE(text == text_of(0, length)) << length;
  }
}

TEST_F(Collectives, GathersTextsByRank) {
  for (const std::size_t unit : {0U, 3U, 40'000U}) {
    const auto length = [&](int rank) { return unit * static_cast<std::size_t>((rank * 5) % 4); };
    const auto texts = gather_texts(comm_, text_of(world_rank(), length(world_rank())), policy_);
    if (world_rank() != 0) {
      EXPECT_TRUE(texts.empty());
      continue;
    }
    ASSERT_EQ(texts.size(), static_cast<std::size_t>(world_size()));
    for (int rank = 0; rank < world_size(); ++rank) {
      EXPECT_TRUE(texts[static_cast<std::size_t>(rank)] == text_of(rank, length(rank))) << rank;
    }
  }
}

TEST_F(Collectives, ReducesLikeALoop) {
  std::int64_t seed = static_cast<std::int64_t>(std::random_device{}());
  all_reduce(comm_, {&seed, 1}, Reduction::max, policy_);
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  std::vector<std::vector<std::int64_t>> of_rank(static_cast<std::size_t>(world_size()));
  for (auto& values : of_rank) {
    for (std::size_t i = 0; i < kLength; ++i) {
      values.push_back(static_cast<std::int64_t>(random() >> 8) - (std::int64_t{1} << 55));
    }
  }
  for (const Reduction reduction : {Reduction::sum, Reduction::min, Reduction::max}) {
    std::vector<std::int64_t> want = of_rank[0];
    for (std::size_t rank = 1; rank < of_rank.size(); ++rank) {
      for (std::size_t i = 0; i < kLength; ++i) {
        const std::int64_t value = of_rank[rank][i];
        want[i] = reduction == Reduction::sum   ? want[i] + value
                  : reduction == Reduction::min ? std::min(want[i], value)
                                                : std::max(want[i], value);
      }
    }
    auto values = of_rank[static_cast<std::size_t>(world_rank())];
    all_reduce(comm_, values, reduction, policy_);
    EXPECT_EQ(values, want);
  }
  all_reduce(comm_, {}, Reduction::sum, policy_);
}

TEST(MergeMessages, SaysEachMessageOnceWithItsRanks) {
  const std::optional<std::string> well;
  EXPECT_EQ(merge_messages({well, well}), "");
  EXPECT_EQ(merge_messages({"no file"}), "no file");
  EXPECT_EQ(merge_messages({"no file", "no file", "no file"}), "no file");
  EXPECT_EQ(merge_messages({well, "no file"}), "rank 1: no file");
  EXPECT_EQ(merge_messages({"no file", "no file", "no file", well, "no file"}),
            "ranks 0-2, 4: no file");
  EXPECT_EQ(merge_messages({"a", "b", "a", well}), "ranks 0, 2: a\nrank 1: b");
  EXPECT_EQ(merge_messages({"", well}), "rank 0: ");
}

// The error that run_on_all_ranks throws here: its exit code and text; {0, ""} = none.
LocalError outcome(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  }
  return {kExitDone, ""};
}

TEST_F(Collectives, AllWellIsWell) {
  int calls = 0;
  run_on_all_ranks(comm_, policy_, [&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST_F(Collectives, OneRanksErrorIsThrownEverywhere) {
  const int bad = world_size() - 1;
  const LocalError error = outcome([&] {
    run_on_all_ranks(comm_, policy_, [&] {
      if (world_rank() == bad) {
        throw InputError("x.yaml", 3, 5, "unknown key");
      }
    });
  });
  EXPECT_EQ(error.exit_code, kExitBadInput);
  const std::string text = (bad == 0 ? "" : "rank " + std::to_string(bad) + ": ") +
                           std::string("x.yaml:3:5: unknown key");
  EXPECT_EQ(error.message, world_rank() == 0 ? text : "");
}

TEST_F(Collectives, TheWorstExitCodeWins) {
  const LocalError error = outcome([&] {
    run_on_all_ranks(comm_, policy_, [&] {
      if (world_rank() == 0) {
        throw std::runtime_error("out of memory");  // not one of our own errors
      }
      throw InputError("bad file");
    });
  });
  EXPECT_EQ(error.exit_code, kExitRunFailure);
  if (world_rank() == 0 && world_size() > 1) {
    EXPECT_EQ(error.message.find("rank 0: out of memory\nrank"), 0U) << error.message;
    EXPECT_NE(error.message.find(": bad file"), std::string::npos) << error.message;
  }
}

/// Where one rank alone may fail there must be no communication: its peers would wait for it.
TEST_F(Collectives, RefuseToRunInALocalScope) {
  std::array<std::int64_t, 1> value = {1};
  std::string text = "x";
  const auto refused = [&](const auto& communicate) {
    try {
      run_on_all_ranks(comm_, policy_, communicate);
    } catch (const AgreedError& error) {
      return error.exit_code() == kExitRunFailure &&
             (comm_.rank() != 0 ||
              std::string(error.what()).find("must not communicate") != std::string::npos);
    }
    return false;
  };
  EXPECT_TRUE(refused([&] { all_reduce(comm_, value, Reduction::sum, policy_); }));
  EXPECT_TRUE(refused([&] { broadcast_text(comm_, text, policy_); }));
  EXPECT_TRUE(refused([&] { gather_texts(comm_, text, policy_); }));
  EXPECT_TRUE(refused([&] { run_on_all_ranks(comm_, policy_, [] {}); }));
  EXPECT_TRUE(refused([&] { wait_all({}, policy_, "nothing"); }));
  EXPECT_FALSE(refused([] {}));
  all_reduce(comm_, value, Reduction::sum, policy_);  // the scopes have ended
  EXPECT_EQ(value[0], comm_.size());
}

TEST_F(Collectives, SumAndCompareDigests) {
  const auto size = static_cast<std::uint64_t>(comm_.size());
  const std::uint64_t large = ~std::uint64_t{0} - 5;
  EXPECT_EQ(sum_over(comm_, large, policy_), large * size);
  EXPECT_TRUE(equal_on_all_ranks(comm_, large, policy_));
  EXPECT_NO_THROW(require_equal_digests(comm_, large, "differ", policy_));
  const auto own = large + static_cast<std::uint64_t>(comm_.rank());
  EXPECT_EQ(equal_on_all_ranks(comm_, own, policy_), size == 1);
  if (size > 1) {
    EXPECT_THROW(require_equal_digests(comm_, own, "differ", policy_), AgreedError);
  }
}

}  // namespace
}  // namespace dovetail::test

// Keys of graphs field by field, and the cache against a plain list in order of use.
#include "framework/plan/graph_cache.hpp"

#include <functional>
#include <list>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/config/comm_sms.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

GraphKey sample_key() {
  GraphKey key;
  key.mode = GraphMode::full;
  key.schedule_digest = 0xabcULL;
  key.phase = WorkPhase::decode;
  key.bounds.num_ubatches = 2;
  key.bounds.tokens = {64, 32};
  key.bounds.segments = {64, 31};
  key.bounds.keys = {66560, 2048};
  key.bounds.context = {1024, 768};
  key.bounds.query_length = 1;
  key.bounds.key_length = 1280;
  key.exchange = "padded";
  key.comm_sms = 8;
  key.outputs = 3;
  return key;
}

GraphKey numbered_key(int number) {
  GraphKey key = sample_key();
  key.bounds.tokens[0] = number;
  return key;
}

TEST(GraphKey, EveryFieldCounts) {
  const std::vector<std::function<void(GraphKey&)>> changes = {
      [](GraphKey& key) { key.mode = GraphMode::piecewise; },
      [](GraphKey& key) { ++key.schedule_digest; },
      [](GraphKey& key) { key.phase = WorkPhase::mixed; },
      [](GraphKey& key) { key.bounds.num_ubatches = 3; },
      [](GraphKey& key) { ++key.bounds.tokens[0]; },
      [](GraphKey& key) { ++key.bounds.tokens[7]; },
      [](GraphKey& key) { ++key.bounds.segments[1]; },
      [](GraphKey& key) { ++key.bounds.keys[0]; },
      [](GraphKey& key) { ++key.bounds.context[1]; },
      [](GraphKey& key) { ++key.bounds.query_length; },
      [](GraphKey& key) { ++key.bounds.key_length; },
      [](GraphKey& key) { key.inputs = InputKind::embeds; },
      [](GraphKey& key) { key.dtype = DType::float32; },
      [](GraphKey& key) { key.exchange = "gather"; },
      [](GraphKey& key) { key.comm_sms = 16; },
      [](GraphKey& key) { key.comm_sms = kAllSms; },
      [](GraphKey& key) { key.outputs = 2; },
      [](GraphKey& key) { key.pass = PassKind::comm_only; },
      [](GraphKey& key) { key.instrumented = true; },
  };
  const GraphKey key = sample_key();
  EXPECT_TRUE(key == sample_key());
  EXPECT_EQ(digest(key), digest(sample_key()));
  std::set<std::uint64_t> digests = {digest(key)};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    GraphKey other = sample_key();
    changes[i](other);
    EXPECT_FALSE(other == key) << "change " << i;
    EXPECT_TRUE(digests.insert(digest(other)).second) << "change " << i << ": the same digest";
  }
}

TEST(GraphKey, ReadsAsOneLine) {
  GraphKey key = sample_key();
  key.instrumented = true;
  EXPECT_EQ(describe(key),
            "full graph of decode, 2 ubatches of 64+32 tokens, 64+31 segments, 66560+2048 keys, "
            "contexts 1024+768, query length 1, key length 1280, ids, bfloat16, exchange padded on "
            "8 SMs, outputs 0x3, schedule 0xabc, pass full, instrumented");
  key.comm_sms = kAllSms;
  EXPECT_NE(describe(key).find("exchange padded on all SMs, outputs"), std::string::npos);
}

TEST(GraphCache, EvictsTheLeastRecentlyUsed) {
  GraphCache<std::string> cache(2);
  cache.insert(numbered_key(1), "one");
  cache.insert(numbered_key(2), "two");
  ASSERT_NE(cache.find(numbered_key(1)), nullptr);
  EXPECT_EQ(*cache.find(numbered_key(1)), "one");
  cache.insert(numbered_key(3), "three");
  EXPECT_EQ(cache.find(numbered_key(2)), nullptr) << "it was not used last";
  EXPECT_EQ(*cache.find(numbered_key(1)), "one");
  EXPECT_EQ(*cache.find(numbered_key(3)), "three");
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_EQ(cache.counters().captures, 3);
  EXPECT_EQ(cache.counters().evictions, 1);
  EXPECT_THROW(cache.insert(numbered_key(3), "again"), ContractError);
  cache.make_room();
  EXPECT_EQ(cache.size(), 1U) << "room before the capture";
  cache.clear();
  EXPECT_EQ(cache.find(numbered_key(3)), nullptr);
  EXPECT_EQ(cache.counters().evictions, 2) << "clear is no eviction";
  EXPECT_THROW(GraphCache<int>(0), ContractError);
}

/// Entries that only move, and when they die.
TEST(GraphCache, OwnsItsEntries) {
  int dead = 0;
  const auto make = [&dead] {
    return std::unique_ptr<int, std::function<void(int*)>>(new int(0), [&dead](int* number) {
      delete number;  // NOLINT(cppcoreguidelines-owning-memory)
      ++dead;
    });
  };
  {
    GraphCache<std::unique_ptr<int, std::function<void(int*)>>> cache(2);
    for (int i = 0; i < 3; ++i) {
      cache.insert(numbered_key(i), make());
    }
    EXPECT_EQ(dead, 1) << "evicted";
    cache.clear();
    EXPECT_EQ(dead, 3);
    cache.insert(numbered_key(0), make());
  }
  EXPECT_EQ(dead, 4);
}

TEST(GraphCache, FailuresAreRememberedAndBounded) {
  GraphCache<int> cache(2);
  cache.note_failure(numbered_key(1));
  EXPECT_FALSE(cache.has_failed(numbered_key(1))) << "one more attempt";
  cache.note_failure(numbered_key(1));
  EXPECT_TRUE(cache.has_failed(numbered_key(1)));
  EXPECT_FALSE(cache.has_failed(numbered_key(2)));
  cache.note_failure(numbered_key(2));
  cache.note_failure(numbered_key(3));
  EXPECT_FALSE(cache.has_failed(numbered_key(1))) << "only as many as entries";
  EXPECT_EQ(cache.counters().failures, 4);
  cache.note_failure(numbered_key(3));
  EXPECT_TRUE(cache.has_failed(numbered_key(3)));
  cache.clear();
  EXPECT_FALSE(cache.has_failed(numbered_key(3)));
}

TEST(GraphCache, CountsReplaysAndEagerStepsByReason) {
  GraphCache<int> cache(2);
  cache.count_replay();
  cache.count_eager(EagerReason::warm_up);
  cache.count_eager(EagerReason::warm_up);
  cache.count_eager(EagerReason::pass_not_captured);
  const GraphCounters& counters = cache.counters();
  EXPECT_EQ(counters.replays, 1);
  EXPECT_EQ(counters.eager(EagerReason::warm_up), 2);
  EXPECT_EQ(counters.eager(EagerReason::pass_not_captured), 1);
  EXPECT_EQ(counters.eager(EagerReason::capture_failed), 0);
  EXPECT_EQ(counters.eager_steps(), 3);
  EXPECT_EQ(to_string(EagerReason::none), "none");
  EXPECT_EQ(to_string(EagerReason::no_work), "no_work");
}

/// A step as the driver takes it: find, or capture and insert, or give up.
void take_random_step(GraphCache<int>& cache, std::uint64_t random) {
  const GraphKey key = numbered_key(static_cast<int>(random % 7));
  if (cache.find(key) != nullptr || cache.has_failed(key)) {
    return;
  }
  cache.make_room();
  if (random / 7 % 5 == 0) {
    cache.note_failure(key);
  } else {
    cache.insert(key, 0);
  }
}

TEST(GraphCache, EqualSequencesHaveEqualDigestsAndOthersDoNot) {
  std::mt19937_64 random(testing::fresh_seed());
  GraphCache<int> a(3);
  GraphCache<int> b(3);
  EXPECT_EQ(a.digest(), b.digest());
  for (int step = 0; step < 2000; ++step) {
    const std::uint64_t choice = random();
    take_random_step(a, choice);
    take_random_step(b, choice);
    ASSERT_EQ(a.digest(), b.digest()) << "step " << step;
  }
  EXPECT_GT(a.counters().evictions, 100);
  a.clear();
  b.clear();
  EXPECT_EQ(a.digest(), GraphCache<int>(5).digest()) << "nothing is left";
  a.insert(numbered_key(1), 0);
  EXPECT_NE(a.digest(), b.digest()) << "one more";
  b.insert(numbered_key(2), 0);
  EXPECT_NE(a.digest(), b.digest()) << "another key";
  a.insert(numbered_key(2), 0);
  b.insert(numbered_key(1), 0);
  EXPECT_NE(a.digest(), b.digest()) << "another order of use";
  b.find(numbered_key(2));
  EXPECT_EQ(a.digest(), b.digest());
  b.note_failure(numbered_key(3));
  EXPECT_NE(a.digest(), b.digest()) << "a failure";
}

TEST(GraphCache, KeepsWhatAPlainListKeeps) {
  std::mt19937_64 random(testing::fresh_seed());
  for (std::size_t capacity = 1; capacity <= 4; ++capacity) {
    GraphCache<int> cache(capacity);
    std::list<int> wanted;  // numbers of keys, most recently used first
    for (int step = 0; step < 500; ++step) {
      const int number = static_cast<int>(random() % 6);
      const int* entry = cache.find(numbered_key(number));
      const auto at = std::find(wanted.begin(), wanted.end(), number);
      ASSERT_EQ(entry != nullptr, at != wanted.end()) << "step " << step;
      if (at != wanted.end()) {
        ASSERT_EQ(*entry, number);
        wanted.erase(at);
      } else {
        cache.insert(numbered_key(number), number);
      }
      wanted.push_front(number);
      if (wanted.size() > capacity) {
        wanted.pop_back();
      }
      ASSERT_EQ(cache.size(), wanted.size());
    }
  }
}

/// Iterations go through the same shapes again and again, which is the worst that a cache with too
/// little room can be given: it would find nothing.
TEST(GraphCache, IterationsOfManyShapesFindWhatTheyHaveCaptured) {
  for (const int num_shapes : {1, 16, 17, 40, 128}) {
    GraphCache<int> cache(graph_capacity(num_shapes));
    for (int iteration = 0; iteration < 3; ++iteration) {
      for (int shape = 0; shape < num_shapes; ++shape) {
        if (cache.find(numbered_key(shape)) == nullptr) {
          cache.insert(numbered_key(shape), shape);
        }
      }
    }
    EXPECT_EQ(cache.counters().captures, num_shapes);
    EXPECT_EQ(cache.counters().evictions, 0) << num_shapes << " shapes";
  }
  EXPECT_EQ(graph_capacity(0), 16U) << "a policy without steps on a GPU";
  EXPECT_EQ(graph_capacity(5000), 128U) << "memory is bounded";
}

}  // namespace
}  // namespace dovetail

// Offers of time stamps: who gets one, and whether it tells the start or the end; their words, and
// the host's time of what is written.
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/cuda/clock_alignment.hpp"
#include "framework/cuda/event.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/cuda/time_stamp_words.hpp"
#include "framework/cuda/timer_look.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail {
namespace {

/// Two streams in one capture, which is thrown away.
struct Captured {
  Captured() {
    launch_timer_look(scratch.word(0), stream);  // which CUDA loads at its first launch
    capture.emplace(stream, other);
    fork.record(stream);
    fork.hold(other);
  }

  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStream other = c10::cuda::getStreamFromPool();
  const TimeStampWords words{1, stream};
  const TimeStampWords scratch{1, stream};
  const Event fork{Event::Kind::order};
  std::optional<StreamCapture> capture;
};

TEST(TimeStamp, IsOfTheFirstKernelOfTheStreamOnly) {
  DOVETAIL_REQUIRE_GPU();
  const Captured captured;
  {
    const TimeStampOffer offer(captured.words.word(0), nullptr, captured.stream);
    EXPECT_EQ(take_time_stamp(captured.other), nullptr) << "of another stream";
    std::thread([&] {
      EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "of another thread";
    }).join();
    launch_timer_look(captured.scratch.word(0), captured.other);
    EXPECT_FALSE(offer.is_taken());
    EXPECT_EQ(take_time_stamp(captured.stream), captured.words.word(0));
    EXPECT_TRUE(offer.is_taken());
    EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "a second time";
    launch_timer_look(captured.words.word(0), captured.stream);
  }
  EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "without an offer";
}

/// What a library has enqueued does not say so; the capture does.
TEST(TimeStamp, IsNotOfAKernelBehindOtherWork) {
  DOVETAIL_REQUIRE_GPU();
  const Captured captured;
  {
    const TimeStampOffer offer(captured.words.word(0), nullptr, captured.stream);
    captured.scratch.clear(captured.stream);
    EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "behind a memset";
  }
  {
    const TimeStampOffer offer(captured.words.word(0), nullptr, captured.stream);
    launch_timer_look(captured.scratch.word(0), captured.other);
    captured.fork.record(captured.other);
    captured.fork.hold(captured.stream);
    EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "behind work of another stream";
  }
}

TEST(TimeStamp, IsOfCapturesOnly) {
  DOVETAIL_REQUIRE_GPU();
  const auto stream = c10::cuda::getStreamFromPool();
  const TimeStampWords words(1, stream);
  const TimeStampOffer offer(words.word(0), words.word(0), stream);
  EXPECT_EQ(take_time_stamp(stream), nullptr);
  EXPECT_EQ(take_end_stamp(stream), nullptr);
  EXPECT_FALSE(offer.tells_end());
}

/// In an eager step only those that ask are seen.
TEST(TimeStamp, IsOfThoseThatAskWhereTheOrderIsUnknown) {
  DOVETAIL_REQUIRE_GPU();
  const auto stream = c10::cuda::getStreamFromPool();
  const auto other = c10::cuda::getStreamFromPool();
  const TimeStampWords words(2, stream);
  auto* const start = words.word(0);
  auto* const end = words.word(1);
  {
    const TimeStampOffer offer(start, end, stream, StampOrder::unknown);
    EXPECT_EQ(take_time_stamp(other), nullptr) << "of another stream";
    EXPECT_EQ(take_end_stamp(other), nullptr) << "of another stream";
    EXPECT_FALSE(offer.tells_end()) << "nobody took it";
    EXPECT_EQ(take_time_stamp(stream), start);
    EXPECT_TRUE(offer.is_taken());
    EXPECT_EQ(take_end_stamp(stream), end);
    EXPECT_TRUE(offer.tells_end());
    EXPECT_EQ(take_time_stamp(stream), nullptr) << "a second time";
    EXPECT_FALSE(offer.tells_end()) << "other work came behind it";
    EXPECT_EQ(take_end_stamp(stream), end) << "each may be the last one";
    EXPECT_TRUE(offer.tells_end());
  }
  {
    const TimeStampOffer offer(nullptr, nullptr, stream, StampOrder::unknown);
    EXPECT_EQ(take_time_stamp(stream), nullptr) << "was not offered";
    EXPECT_EQ(take_end_stamp(stream), nullptr) << "was not offered";
    EXPECT_FALSE(offer.is_taken());
    EXPECT_FALSE(offer.tells_end());
  }
  EXPECT_EQ(take_time_stamp(stream), nullptr) << "without an offer";
}

/// Work is empty where somebody says so for its stream, and nobody asks for a word.
TEST(TimeStamp, OfferIsEmptyWhereItIsToldSo) {
  DOVETAIL_REQUIRE_GPU();
  const auto stream = c10::cuda::getStreamFromPool();
  const auto other = c10::cuda::getStreamFromPool();
  const TimeStampWords words(1, stream);
  tell_no_work(stream);
  for (const bool asks_for_start : {false, true}) {
    const TimeStampOffer offer(nullptr, words.word(0), stream, StampOrder::unknown);
    EXPECT_FALSE(offer.is_empty()) << "was told to nobody";
    tell_no_work(other);
    EXPECT_FALSE(offer.is_empty()) << "of another stream";
    std::thread([&] { tell_no_work(stream); }).join();
    EXPECT_FALSE(offer.is_empty()) << "of another thread";
    tell_no_work(stream);
    EXPECT_TRUE(offer.is_empty());
    static_cast<void>(asks_for_start ? take_time_stamp(stream) : take_end_stamp(stream));
    EXPECT_FALSE(offer.is_empty()) << "a launcher has asked";
    tell_no_work(stream);
    EXPECT_FALSE(offer.is_empty()) << "before";
  }
}

/// The end is that of the last work on the stream, or it is not known.
TEST(TimeStamp, OfAnEndIsOfTheLastKernelOnly) {
  DOVETAIL_REQUIRE_GPU();
  const Captured captured;
  auto* const word = captured.words.word(0);
  const auto launch = [&] { launch_timer_look(word, captured.stream); };
  {
    const TimeStampOffer offer(nullptr, word, captured.stream);
    EXPECT_EQ(take_time_stamp(captured.stream), nullptr) << "the start was not offered";
    EXPECT_FALSE(offer.tells_end()) << "nobody took it";
    EXPECT_EQ(take_end_stamp(captured.other), nullptr) << "of another stream";
    EXPECT_EQ(take_end_stamp(captured.stream), word);
    EXPECT_FALSE(offer.tells_end()) << "nothing was launched";
    launch();
    EXPECT_TRUE(offer.tells_end());
    launch_timer_look(captured.scratch.word(0), captured.stream);
    EXPECT_FALSE(offer.tells_end()) << "other work came behind it";
    EXPECT_EQ(take_end_stamp(captured.stream), word) << "each may be the last one";
    launch();
    EXPECT_TRUE(offer.tells_end());
    captured.scratch.clear(captured.stream);
    EXPECT_FALSE(offer.tells_end()) << "a memset came behind it";
  }
  {
    const TimeStampOffer offer(nullptr, word, captured.stream);
    EXPECT_EQ(take_end_stamp(captured.stream), word);
    launch_timer_look(captured.scratch.word(0), captured.other);
    captured.fork.record(captured.other);
    captured.fork.hold(captured.stream);
    launch();
    EXPECT_FALSE(offer.tells_end()) << "it waits for another stream, too";
  }
  {
    const TimeStampOffer offer(nullptr, nullptr, captured.stream);
    EXPECT_EQ(take_end_stamp(captured.stream), nullptr) << "was not offered";
    launch();
    EXPECT_FALSE(offer.tells_end());
  }
  EXPECT_EQ(take_end_stamp(captured.stream), nullptr) << "without an offer";
}

TEST(TimeStamp, WordsAreClearedAndRead) {
  DOVETAIL_REQUIRE_GPU();
  const auto stream = c10::cuda::getStreamFromPool();
  const TimeStampWords words(3, stream);
  EXPECT_EQ(words.read(stream), std::vector<std::uint64_t>(3, 0));
  launch_timer_look(words.word(1), stream);
  const auto read = words.read(stream);
  EXPECT_EQ(read[0], 0U);
  EXPECT_GT(read[1], 0U);
  EXPECT_EQ(read[2], 0U);
  words.clear(stream);
  EXPECT_EQ(words.read(stream), std::vector<std::uint64_t>(3, 0));
  EXPECT_THROW(static_cast<void>(words.word(3)), ContractError);
}

TEST(TimeStamp, IsPutOnTheHostsClock) {
  DOVETAIL_REQUIRE_GPU();
  const auto stream = c10::cuda::getStreamFromPool();
  const TimeStampWords words(1, stream);
  ClockAlignment alignment;
  EXPECT_THROW(align_time_stamps(stream, alignment), ContractError) << "before the events";
  for (int i = 0; i < 3; ++i) {
    const std::int64_t before_ns = now_ns();
    launch_timer_look(words.word(0), stream);
    const auto written = words.read(stream).front();
    const std::int64_t after_ns = now_ns();
    align_clock(stream, alignment);
    const auto of_events_ns = alignment.error_ns;
    align_time_stamps(stream, alignment);
    EXPECT_GT(alignment.error_ns, of_events_ns);
    EXPECT_GE(alignment.host_ns_of_stamp(written), before_ns - alignment.error_ns);
    EXPECT_LE(alignment.host_ns_of_stamp(written), after_ns + alignment.error_ns);
    EXPECT_EQ(alignment.host_ns_of_stamp(written + 70), alignment.host_ns_of_stamp(written) + 70);
  }
}

}  // namespace
}  // namespace dovetail

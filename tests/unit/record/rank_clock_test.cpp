// Clocks that drift, simulated: what two estimates say of the times between them.
#include "framework/record/rank_clock.hpp"

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using test::TempFolder;

constexpr std::int64_t kSecondNs = 1'000'000'000;

/// A rank's clock that began elsewhere and runs faster or slower than rank 0's.
struct DriftingClock {
  std::int64_t start_ns;  ///< what to add at time 0
  double drift;           ///< how much more that is after a second, in seconds

  double true_offset(std::int64_t at_ns) const {
    return static_cast<double>(start_ns) + drift * static_cast<double>(at_ns);
  }

  /// An estimate whose error is anywhere within its bound.
  ClockPoint estimate(std::int64_t at_ns, std::int64_t error_ns, std::mt19937_64& random) const {
    std::uniform_real_distribution<double> within(-1, 1);
    const double off = within(random) * static_cast<double>(error_ns - 1);
    return {at_ns, std::llround(true_offset(at_ns) + off), error_ns};
  }
};

class Drift : public ::testing::Test {
 protected:
  const unsigned seed_ = std::random_device{}();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
};

TEST_F(Drift, IsRemovedAndTheBoundHolds) {
  std::uniform_int_distribution<std::int64_t> start(-(std::int64_t{1} << 45),
                                                    std::int64_t{1} << 45);
  std::uniform_real_distribution<double> drift(-200e-6, 200e-6);
  std::uniform_int_distribution<std::int64_t> error(1, 200'000);
  for (int run = 0; run < 200; ++run) {
    const DriftingClock clock = {start(random_), drift(random_)};
    std::vector<ClockPoint> points;
    points.reserve(7);
    for (int i = 0; i < 6; ++i) {
      points.push_back(clock.estimate(3 * kSecondNs + i * kSecondNs, error(random_), random_));
    }
    points.insert(points.begin() + 2, ClockPoint{});  // not estimated
    const RankClock line(points);
    std::uniform_int_distribution<std::int64_t> time(3 * kSecondNs, 8 * kSecondNs);
    for (int i = 0; i < 100; ++i) {
      const auto at_ns = time(random_);
      const auto off =
          std::abs(static_cast<double>(line.offset_ns(at_ns)) - clock.true_offset(at_ns));
      EXPECT_LE(off, static_cast<double>(line.error_ns(at_ns)) + 1) << "at " << at_ns;
      EXPECT_LE(line.error_ns(at_ns), line.largest_error_ns());
    }
    EXPECT_LE(line.largest_error_ns(), 400'000) << "at most twice that of the estimates";
  }
}

/// The twin: without the second estimate a clock of 100 parts in a million is soon far off.
TEST_F(Drift, IsThereWithOneEstimateOnly) {
  const DriftingClock clock = {1'000'000, 100e-6};
  const auto before = clock.estimate(0, 1000, random_);
  const auto after = clock.estimate(10 * kSecondNs, 1000, random_);
  const auto off_at = [&](const std::vector<ClockPoint>& points) {
    return std::abs(static_cast<double>(RankClock(points).offset_ns(9 * kSecondNs)) -
                    clock.true_offset(9 * kSecondNs));
  };
  EXPECT_GT(off_at({before}), 890'000);
  EXPECT_LE(off_at({before, after}), 2000);
}

/// What estimates are unsure of is no drift, and bends no duration.
TEST_F(Drift, IsNotTakenFromNoise) {
  const RankClock line(std::vector<ClockPoint>{{1000, 500, 40}, {2000, 560, 50}});
  EXPECT_EQ(line.offset_ns(1000), 525) << "the middle of 510 to 540";
  EXPECT_EQ(line.offset_ns(1999), 525);
  EXPECT_EQ(line.error_ns(1000), 65) << "460 to 540 were possible";
  EXPECT_EQ(line.error_ns(500), 65) << "before the first as at it";
  EXPECT_EQ(line.offset_ns(3000), 560);
  EXPECT_EQ(line.error_ns(3000), 50);
}

TEST(RankClock, DriftsAsLittleAsTheBoundsAllow) {
  const RankClock line(std::vector<ClockPoint>{{0, 100, 10}, {1000, 200, 20}, {2000, 100, 5}});
  EXPECT_EQ(line.offset_ns(0), 110);
  EXPECT_EQ(line.offset_ns(500), 145) << "from 110 to 180";
  EXPECT_EQ(line.error_ns(500), 20) << "135 to 165 were possible";
  EXPECT_EQ(line.offset_ns(1500), 143) << "from 180 down to 105";
}

TEST(RankClock, WhatIsNoClockIsRefused) {
  const auto problem = [](const std::vector<ClockPoint>& points) { return clock_problem(points); };
  EXPECT_EQ(problem({{5, 1, 1}}), "");
  EXPECT_EQ(problem({{}, {}}), "no estimate of a clock");
  EXPECT_EQ(problem({{5, 1, -1}}), "clock_error_ns -1 is no bound of an error");
  EXPECT_EQ(problem({{5, kMaxTimeNs + 1, 1}}),
            "clock_offset_ns 2305843009213693953 is no offset of a clock");
  EXPECT_EQ(problem({{5, 1, 1}, {5, 1, 1}}), "a clock that runs backwards at 5 ns");
  EXPECT_EQ(problem({{5, 1000, 1}, {105, 800, 1}}), "a clock that runs backwards at 105 ns");
  EXPECT_THROW(RankClock(std::vector<ClockPoint>{}), ContractError);
}

TEST(RankClock, IsReadFromTheFileWithItsDrift) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  auto spec = test::full_spec();
  spec.rounds = 2;
  {
    RankRecorder recorder(path, spec);
    recorder.write_clock(0, {1000, 100, 0});
    recorder.write_clock(1, {2000, 200, 0});
    recorder.write_clock(5, {4000, 400, 7});
    recorder.finish(RunStatus::complete);
  }
  const RankFile file(path);
  EXPECT_EQ(file.clock().offset_ns(1500), 150);
  EXPECT_EQ(file.clock().offset_ns(3000), 297) << "from 200 to 393";
  EXPECT_EQ(file.clock_error_ns(), 14);
}

/// As before schema version 6.
TEST(RankClock, OfAFileWithoutEstimatesIsTheOneOffset) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_full_file(path, test::full_spec());
  const RankFile file(path);
  for (const std::int64_t at_ns : {std::int64_t{0}, std::int64_t{1} << 50}) {
    EXPECT_EQ(file.clock().offset_ns(at_ns), -17);
    EXPECT_EQ(file.clock().error_ns(at_ns), 5);
  }
}

}  // namespace
}  // namespace dovetail

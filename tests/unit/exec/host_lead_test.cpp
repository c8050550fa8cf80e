// Where the host is expected ahead of the device.
#include "framework/exec/host_lead.hpp"

#include <cstdint>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kFar = HostLead::kExpectedNs + 1;
constexpr std::int64_t kNear = HostLead::kLeastNs + 1;

Schedule step_of(std::size_t num_ops) {
  Schedule schedule;
  schedule.ops.resize(num_ops);
  return schedule;
}

struct Lead {
  const Schedule schedule = step_of(2);
  HostLead host;

  /// Steps in which op 0 ends so long after what follows it was launched; whether the last one's
  /// end could be told.
  bool step(std::int64_t lead_ns, int count = 1) {
    bool is_told = false;
    for (int i = 0; i < count; ++i) {
      host.begin_step(schedule, PassKind::full, false);
      is_told = host.tells_end(0, 1'000'000, 1'000'000 + lead_ns);
    }
    return is_told;
  }

  bool is_expected(PassKind pass = PassKind::full, bool in_pieces = false) {
    host.begin_step(schedule, pass, in_pieces);
    return host.is_expected(0);
  }
};

TEST(HostLead, IsExpectedOnceStepsHaveShownIt) {
  Lead lead;
  EXPECT_FALSE(lead.is_expected());
  lead.step(kFar, HostLead::kExpectedSteps - 1);
  EXPECT_FALSE(lead.is_expected());
  lead.step(kFar);
  EXPECT_TRUE(lead.is_expected());
  EXPECT_FALSE(lead.host.is_expected(1)) << "another op";
  EXPECT_FALSE(lead.is_expected(PassKind::comm_only)) << "another pass";
  EXPECT_FALSE(lead.is_expected(PassKind::full, true)) << "pieces of a graph";
  EXPECT_TRUE(lead.is_expected());
}

TEST(HostLead, MustBeFarToBeExpectedAndNearToTellAnEnd) {
  Lead lead;
  EXPECT_TRUE(lead.step(kNear, HostLead::kExpectedSteps)) << "right, but not to be relied on";
  EXPECT_FALSE(lead.is_expected());
  lead.step(kFar, HostLead::kExpectedSteps - 1);
  lead.step(kNear);
  lead.step(kFar, HostLead::kExpectedSteps - 1);
  EXPECT_FALSE(lead.is_expected()) << "not in a row";
  lead.step(kFar);
  EXPECT_TRUE(lead.step(kNear));
  EXPECT_TRUE(lead.is_expected()) << "it was right";
}

TEST(HostLead, IsDoubtedForLongWhereItWasWrong) {
  Lead lead;
  lead.step(kFar, HostLead::kExpectedSteps);
  EXPECT_FALSE(lead.step(HostLead::kLeastNs));
  EXPECT_FALSE(lead.is_expected());
  lead.step(kFar, HostLead::kStepsOfDoubt - 1);
  EXPECT_FALSE(lead.is_expected());
  lead.step(kFar);
  EXPECT_TRUE(lead.is_expected());
}

/// A step that was wrong where nothing was expected proves nothing new.
TEST(HostLead, IsNotDoubtedMoreWhereItWasNotExpected) {
  Lead lead;
  EXPECT_FALSE(lead.step(-5, 3));
  lead.step(kFar, HostLead::kExpectedSteps);
  EXPECT_TRUE(lead.is_expected());
}

TEST(HostLead, IsOfSchedulesThatAreAlike) {
  Lead lead;
  lead.step(kFar, HostLead::kExpectedSteps);
  const auto is_expected_of = [&](const Schedule& schedule) {
    lead.host.begin_step(schedule, PassKind::full, false);
    return lead.host.is_expected(0);
  };
  EXPECT_TRUE(is_expected_of(Schedule(lead.schedule))) << "a copy";
  EXPECT_FALSE(is_expected_of(step_of(3)));
  Schedule renamed = lead.schedule;
  renamed.name = "another";
  EXPECT_FALSE(is_expected_of(renamed));
}

TEST(HostLead, NeedsAStep) {
  EXPECT_THROW(static_cast<void>(HostLead().is_expected(0)), ContractError);
}

}  // namespace
}  // namespace dovetail

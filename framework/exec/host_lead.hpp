// How far the host is ahead of the device, learned from the steps before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// For each op of a step: whether what follows it will be in the device's queue well before the op
/// ends, so that it begins as soon as the op has ended. Steps of a schedule are alike; where one is
/// not, tells_end() says so behind it. Knows no device; calls come from one thread.
class HostLead {
 public:
  /// A kernel that has been given to an idle stream begins sooner: one that began later after its
  /// launch had to wait for what was before it. On an H200 it takes 3 to 6 us.
  static constexpr std::int64_t kLeastNs = 10'000;
  /// What was far ahead in some steps will be ahead.
  static constexpr std::int64_t kExpectedNs = 30'000;
  static constexpr int kExpectedSteps = 2;
  /// Once it was not, after having been expected, this many steps must show it.
  static constexpr int kStepsOfDoubt = 50;

  /// Ahead of a step. Those of schedules of one name and length, of one pass and `in_pieces` (of
  /// graphs) are alike.
  void begin_step(const Schedule& schedule, PassKind pass, bool in_pieces);

  /// Whether the host is to be expected ahead at the end of the op.
  bool is_expected(std::size_t op) const;

  /// Behind the step: the first kernel of what follows the op had been launched by `launched_ns`,
  /// and the op ended at `end_ns`, or, where that kernel tells the end, this began then. True where
  /// it had been launched early enough to tell it.
  bool tells_end(std::size_t op, std::int64_t launched_ns, std::int64_t end_ns);

 private:
  using Key = std::tuple<std::string, std::size_t, PassKind, bool>;

  std::map<Key, std::vector<int>> steps_ahead_;  ///< [ops] in a row; negative: in doubt
  std::vector<int>* now_ = nullptr;
};

}  // namespace dovetail

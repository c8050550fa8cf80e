#include "launch/start_ranks.hpp"

#include <cstdlib>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "launch/command_line.hpp"
#include "launch/early_start.hpp"

namespace dovetail {

int start_ranks(const RankWork& work, const RefuseEarly& refuse_early) {
  const bool is_first = is_first_process();
  const auto refuse = [is_first](const std::string& problem) {
    if (is_first) {
      log_line(problem);
    }
    return kExitBadInput;
  };
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing writes the environment
  const auto started = find_started_processes(std::getenv);
  if (const auto missing = find_missing_pmi(std::getenv)) {
    return refuse(*missing);
  }
  if (refuse_early) {
    refuse_early(started);
  }
  const SignalWatch signals;
  StartLimit start(read_start_limit(std::getenv(kStartLimitVariable)), process_number(std::getenv));
  // NOLINTEND(concurrency-mt-unsafe)
  std::optional<GoAhead> go_ahead;
  if (is_first) {
    go_ahead.emplace();
  }
  const MpiSession session(nullptr, nullptr);
  go_ahead.reset();
  set_log_rank(session.rank().value);
  if (const auto lost = find_lost_ranks(started, session.world_size())) {
    return refuse(*lost);
  }
  return work({session, signals, start});
}

}  // namespace dovetail

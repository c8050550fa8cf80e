// The common verdict of all ranks on a test: reports go to rank 0, the verdict comes back. Only
// non-blocking calls, so that a lost rank becomes a named failure.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "framework/mpi/comm.hpp"

namespace dovetail::test {

enum class Outcome { passed, skipped, failed };

/// One rank's view of a test.
struct Report {
  std::string test;
  Outcome outcome = Outcome::passed;
  std::string messages;
};

struct Verdict {
  Outcome outcome = Outcome::passed;
  std::vector<std::string> lines;  ///< on rank 0: what ranks had to say; empty elsewhere
};

/// Pure: passed or skipped only where all ranks say so of the same test; anything else is failed,
/// with lines that name the ranks.
Verdict judge(const std::vector<Report>& reports);

/// Exchanges reports over `comm`; every rank gets the same outcome. Collective. Ends the job with
/// exit code 1, naming the ranks that are missing, where a report or the verdict does not come
/// before `deadline`, or within a few seconds of a failure.
Verdict exchange_verdict(const MpiComm& comm,
                         const Report& local,
                         std::chrono::steady_clock::time_point deadline);

}  // namespace dovetail::test

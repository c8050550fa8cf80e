// Main of every MPI test. Every rank runs every test in the same order; after each test the ranks
// agree on one verdict, so that a failure anywhere is a failure everywhere. Rank 0 prints for all.
#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/log.hpp"
#include "tests/support/mpi_world.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/watchdog.hpp"

namespace dovetail::test {
namespace {

const MpiSession* current_session = nullptr;

// Seconds that the whole process may take; under CTest's own limit, which could name no test.
std::chrono::seconds time_limit() {
  const char* text = std::getenv("DOVETAIL_TEST_LIMIT_S");  // NOLINT(concurrency-mt-unsafe)
  return std::chrono::seconds(text == nullptr ? 50 : std::stoi(text));
}

class RankListener : public ::testing::EmptyTestEventListener {
 public:
  RankListener(const MpiSession& session,
               Watchdog& watchdog,
               std::chrono::steady_clock::time_point deadline)
      : comm_(session.world()),
        // A stuck rank's own watchdog speaks first. Rank 0, which knows who is missing, waits a
        // little longer, the others longer still.
        verdict_deadline_(deadline + std::chrono::seconds(session.rank().value == 0 ? 1 : 2)),
        watchdog_(watchdog) {}

  /// The verdict on the whole process; `result` is what RUN_ALL_TESTS returned here.
  bool finish(int result) {
    return agree("the end of all tests", result == 0 ? Outcome::passed : Outcome::failed) ==
           Outcome::passed;
  }

  int num_skipped() const { return num_skipped_; }

  void OnTestStart(const ::testing::TestInfo& info) override { watchdog_.enter(name(info)); }

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.passed() || in_verdict_ || comm_.rank() == 0) {  // rank 0 has GoogleTest's printer
      return;
    }
    if (result.file_name() != nullptr) {
      messages_ +=
          std::string(result.file_name()) + ":" + std::to_string(result.line_number()) + ": ";
    }
    messages_ += std::string(result.message()) + "\n";
  }

  void OnTestEnd(const ::testing::TestInfo& info) override {
    const auto& result = *info.result();
    const Outcome local = result.Failed()    ? Outcome::failed
                          : result.Skipped() ? Outcome::skipped
                                             : Outcome::passed;
    const Outcome agreed = agree(name(info), local);
    num_skipped_ += agreed == Outcome::skipped ? 1 : 0;
    if (agreed == Outcome::failed && local != Outcome::failed) {
      in_verdict_ = true;
      ADD_FAILURE() << "failed on another rank";
      in_verdict_ = false;
    }
    watchdog_.enter("what follows " + name(info));
  }

 private:
  static std::string name(const ::testing::TestInfo& info) {
    return std::string(info.test_suite_name()) + "." + info.name();
  }

  Outcome agree(const std::string& test, Outcome local) {
    watchdog_.enter("the verdict on " + test, std::chrono::seconds(3));
    const Verdict verdict = exchange_verdict(comm_, {test, local, messages_}, verdict_deadline_);
    messages_.clear();
    for (const std::string& line : verdict.lines) {
      std::cout << line << std::endl;
    }
    return verdict.outcome;
  }

  MpiComm comm_;
  std::chrono::steady_clock::time_point verdict_deadline_;
  Watchdog& watchdog_;
  std::string messages_;
  int num_skipped_ = 0;
  bool in_verdict_ = false;
};

int run_tests(int argc, char** argv) {
  const auto deadline = std::chrono::steady_clock::now() + time_limit();
  Watchdog watchdog(deadline);  // before MPI, so that it also looks on start and finalisation
  const MpiSession session(&argc, &argv);
  current_session = &session;
  set_log_rank(session.rank().value);
  ::testing::InitGoogleTest(&argc, argv);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (session.rank().value != 0) {
    delete listeners.Release(listeners.default_result_printer());
  }
  // The listener stays with us: it must be gone before MPI is.
  const auto listener = std::make_unique<RankListener>(session, watchdog, deadline);
  listeners.Append(listener.get());
  const int result = RUN_ALL_TESTS();
  const bool passed = listener->finish(result);
  listeners.Release(listener.get());
  if (passed && listener->num_skipped() > 0 && session.rank().value == 0) {
    std::cout << "ALL PASSED OR SKIPPED" << std::endl;  // CTest reads this
  }
  current_session = nullptr;
  return passed ? 0 : 1;
}

}  // namespace

const MpiSession& session() {
  return *current_session;
}

int world_rank() {
  return session().rank().value;
}

int world_size() {
  return session().world_size();
}

}  // namespace dovetail::test

int main(int argc, char** argv) {
  try {
    return dovetail::test::run_tests(argc, argv);
  } catch (const std::exception& error) {
    dovetail::test::cut(std::string("outside all tests: ") + error.what());
  }
}

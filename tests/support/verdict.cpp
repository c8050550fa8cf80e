#include "tests/support/verdict.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <thread>

#include "framework/base/log.hpp"
#include "framework/mpi/check.hpp"
#include "tests/support/watchdog.hpp"

namespace dovetail::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kReportTag = 1;
constexpr int kVerdictTag = 2;
// How long a rank that has failed waits for the others, which may be waiting for it.
constexpr std::chrono::seconds kAfterFailure{5};

// "<outcome>\n<test>\n<messages>"
std::string encode(const Report& report) {
  return std::to_string(static_cast<int>(report.outcome)) + "\n" + report.test + "\n" +
         report.messages;
}

Report decode(const std::string& text) {
  std::istringstream stream(text);
  std::string outcome;
  Report report;
  std::getline(stream, outcome);
  std::getline(stream, report.test);
  report.outcome = static_cast<Outcome>(std::stoi(outcome));
  report.messages = text.substr(outcome.size() + report.test.size() + 2);
  return report;
}

void append_prefixed(std::vector<std::string>& lines, int rank, const std::string& text) {
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back("[rank " + std::to_string(rank) + "] " + line);
  }
}

void pause() {
  std::this_thread::sleep_for(std::chrono::microseconds(200));
}

void print_and_cut(const std::vector<std::string>& lines, const std::string& last) {
  for (const std::string& line : lines) {
    log_line(line);
  }
  cut(last);
}

// Rank 0: takes one report from every other rank.
std::vector<Report> collect(const MpiComm& comm, const Report& local, Clock::time_point deadline) {
  const int num_ranks = comm.size();
  std::vector<Report> reports(static_cast<std::size_t>(num_ranks));
  std::vector<bool> here(static_cast<std::size_t>(num_ranks), false);
  reports[0] = local;
  here[0] = true;
  std::vector<std::string> lines;
  bool any_failed = false;
  const auto note = [&](const Report& report, int rank) {
    append_prefixed(lines, rank, report.messages);
    if (report.outcome == Outcome::failed && !any_failed) {
      any_failed = true;
      deadline = std::min(deadline, Clock::now() + kAfterFailure);
    }
  };
  note(local, 0);
  for (int num_here = 1; num_here < num_ranks;) {
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    DOVETAIL_MPI(MPI_Improbe(MPI_ANY_SOURCE, kReportTag, comm.raw(), &found, &message, &status));
    if (found != 0) {
      int size = 0;
      DOVETAIL_MPI(MPI_Get_count(&status, MPI_CHAR, &size));
      std::string text(static_cast<std::size_t>(size), '\0');
      DOVETAIL_MPI(MPI_Mrecv(text.data(), size, MPI_CHAR, &message, MPI_STATUS_IGNORE));
      const auto source = static_cast<std::size_t>(status.MPI_SOURCE);
      reports[source] = decode(text);
      here[source] = true;
      note(reports[source], status.MPI_SOURCE);
      ++num_here;
    } else if (Clock::now() >= deadline) {
      std::string missing;
      for (int rank = 0; rank < num_ranks; ++rank) {
        missing += here[static_cast<std::size_t>(rank)] ? "" : " " + std::to_string(rank);
      }
      print_and_cut(lines, local.test + ": no report from ranks" + missing);
    } else {
      pause();
    }
  }
  return reports;
}

}  // namespace

Verdict judge(const std::vector<Report>& reports) {
  Verdict verdict{reports.at(0).outcome, {}};
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    const Report& report = reports[rank];
    append_prefixed(verdict.lines, static_cast<int>(rank), report.messages);
    if (report.test != reports[0].test) {
      verdict.outcome = Outcome::failed;
      append_prefixed(verdict.lines,
                      static_cast<int>(rank),
                      "runs " + report.test + " while rank 0 runs " + reports[0].test);
    } else if (report.outcome == Outcome::failed) {
      verdict.outcome = Outcome::failed;
    } else if (report.outcome != reports[0].outcome && reports[0].outcome != Outcome::failed) {
      verdict.outcome = Outcome::failed;
      append_prefixed(verdict.lines, static_cast<int>(rank), "ranks disagree on skipping");
    }
  }
  return verdict;
}

Verdict exchange_verdict(const MpiComm& comm, const Report& local, Clock::time_point deadline) {
  const int num_ranks = comm.size();
  if (comm.rank() == 0) {
    Verdict verdict = judge(collect(comm, local, deadline));
    const int code = static_cast<int>(verdict.outcome);
    for (int rank = 1; rank < num_ranks; ++rank) {
      // Four bytes to a rank that has posted its receive: never blocks in practice; the watchdog
      // looks on.
      DOVETAIL_MPI(MPI_Send(&code, 1, MPI_INT, rank, kVerdictTag, comm.raw()));
    }
    return verdict;
  }
  const std::string text = encode(local);
  int code = -1;
  std::array<MPI_Request, 2> requests{};
  DOVETAIL_MPI(MPI_Irecv(&code, 1, MPI_INT, 0, kVerdictTag, comm.raw(), requests.data()));
  DOVETAIL_MPI(MPI_Isend(text.data(),
                         static_cast<int>(text.size()),
                         MPI_CHAR,
                         0,
                         kReportTag,
                         comm.raw(),
                         &requests[1]));
  if (local.outcome == Outcome::failed) {
    deadline = std::min(deadline, Clock::now() + kAfterFailure);
  }
  for (int done = 0; done == 0;) {
    DOVETAIL_MPI(MPI_Testall(2, requests.data(), &done, MPI_STATUSES_IGNORE));
    if (done == 0 && Clock::now() >= deadline) {
      std::vector<std::string> lines;
      append_prefixed(lines, comm.rank(), local.messages);
      print_and_cut(lines, local.test + ": no verdict from rank 0");
    }
    pause();
  }
  return {static_cast<Outcome>(code), {}};
}

}  // namespace dovetail::test

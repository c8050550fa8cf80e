// Small collectives for set-up and for the end of a run. None blocks inside MPI: all start a
// non-blocking call and wait for it with a bound.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/failure_text.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Every rank's `text` becomes rank 0's. Collective over `comm`. Throws as wait_all does.
void broadcast_text(const MpiComm& comm, std::string& text, const WaitPolicy& policy);

/// On rank 0 the texts of all ranks, by rank; elsewhere empty. Collective over `comm`. Throws as
/// wait_all does.
std::vector<std::string> gather_texts(const MpiComm& comm,
                                      const std::string& text,
                                      const WaitPolicy& policy);

enum class Reduction { sum, min, max };

/// Replaces each value by its reduction over the ranks; all ranks give equally many. Collective
/// over `comm`. Throws as wait_all does.
void all_reduce(const MpiComm& comm,
                std::span<std::int64_t> values,
                Reduction reduction,
                const WaitPolicy& policy);

/// The sum (mod 2^64) over the ranks. Collective over `comm`. Throws as wait_all does.
std::uint64_t sum_over(const MpiComm& comm, std::uint64_t value, const WaitPolicy& policy);

/// Whether all ranks give the same value; equal on all ranks. Collective over `comm`. Throws as
/// wait_all does.
bool equal_on_all_ranks(const MpiComm& comm, std::uint64_t value, const WaitPolicy& policy);

/// A problem that all ranks know of: every rank throws it, so every rank may end in the ordinary
/// way. Only rank 0's has a text, so that the problem is printed once.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// A problem that one rank has found by itself.
struct LocalError {
  int exit_code = kExitRunFailure;
  std::string message;
};

/// One text of what the ranks say: equal messages once, with their ranks: "ranks 0-2, 4: no such
/// file". `messages[r]` is rank r's; nothing = rank r is well. Where all ranks say the same, the
/// message stands alone. Pure.
std::string merge_messages(const std::vector<std::optional<std::string>>& messages);

/// Called by every rank before a collective that a rank with a problem would not reach. Returns
/// where no rank has one. Otherwise every rank throws AgreedError with the largest exit code; on
/// rank 0 with the merged messages. Collective over `comm`.
void all_ranks_ok(const MpiComm& comm,
                  const std::optional<LocalError>& local,
                  const WaitPolicy& policy);

/// Every rank reads the files that an experiment names for itself, and all must read the same.
/// Collective over `comm`. Throws AgreedError that says `problem`, with the exit code of bad input,
/// where digests differ.
void require_equal_digests(const MpiComm& comm,
                           std::uint64_t digest,
                           const std::string& problem,
                           const WaitPolicy& policy);

/// Runs `work`, which may fail on some ranks and must not communicate (it is a LocalScope), then
/// all_ranks_ok.
/// Collective over `comm`.
template <class Work>
void run_on_all_ranks(const MpiComm& comm, const WaitPolicy& policy, Work&& work) {
  std::optional<LocalError> problem;
  try {
    const LocalScope scope;
    work();
  } catch (const Error& error) {
    problem = LocalError{error.exit_code(), error.what()};
  } catch (const std::exception& error) {
    problem = LocalError{kExitRunFailure, failure_text(error)};
  }
  all_ranks_ok(comm, problem, policy);
}

}  // namespace dovetail

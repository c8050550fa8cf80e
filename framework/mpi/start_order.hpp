// Ranks that share too few cores start in an order that lets the first one speak first.
#pragma once

#include <array>
#include <cstddef>

namespace dovetail {

/// What Open MPI's launcher says of a process; -1 = nothing.
struct StartPlace {
  int rank = -1;
  int local_rank = -1;
  int ranks_on_host = -1;
};

/// Milliseconds that a process of a launcher waits at most before it loads its libraries. Where
/// each core has several ranks to start, these take seconds, and the first rank, which reads the
/// experiment and may have to refuse it, would wait for its turn among all: so the others wait
/// until it lets them go ahead, or for a second where they cannot see that. 0 elsewhere. Pure.
constexpr int start_delay_ms(const StartPlace& place, int cores) {
  constexpr int ranks_per_core = 4;
  constexpr int unseen_ms = 1000;
  constexpr int seen_ms = 20'000;
  if (place.rank <= 0 || place.ranks_on_host <= ranks_per_core * cores) {
    return 0;
  }
  // Local ranks follow the order of ranks: equal ones are on the first rank's host.
  return place.rank == place.local_rank ? seen_ms : unseen_ms;
}

/// The file by which the first rank lets the others of its host go ahead, in the launcher's own
/// folder of the job.
class GoAheadFile {
 public:
  static constexpr const char* kFolderVariable = "PMIX_SERVER_TMPDIR";
  static constexpr const char* kJobVariable = "PMIX_NAMESPACE";

  /// Of the values of the variables; null = not set. Takes no memory from the heap: the first of
  /// its users runs before the C library is ready.
  constexpr GoAheadFile(const char* folder, const char* job) {
    if (folder != nullptr && job != nullptr) {
      add(folder);
      add("/dovetail-go-ahead-");
      add(job);
    }
  }

  /// Empty where the launcher names no folder, or one with too long a name.
  constexpr const char* path() const { return path_.data(); }

  constexpr bool is_known() const { return path_[0] != '\0'; }

 private:
  constexpr void add(const char* text) {
    for (; *text != '\0'; ++text) {
      if (size_ + 1 == path_.size()) {
        path_[0] = '\0';
        return;
      }
      path_[size_++] = *text;
    }
  }

  std::array<char, 1024> path_{};
  std::size_t size_ = 0;
};

}  // namespace dovetail

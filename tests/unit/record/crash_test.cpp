// Kills a recording process with SIGKILL at random moments: what it reported as written is in the
// file, and every file opens. The twin records in the usual way and must fail the same check.
#include <chrono>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <random>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"
#include "tests/unit/record/record_support.hpp"

extern char** environ;

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using test::origin;
using test::TempFolder;

constexpr std::int64_t kIterations = 1200;
constexpr std::int64_t kNothing = -2;  // no report yet

/// A crash_writer that waits for start(). Killed and reaped at the latest by the destructor.
class Writer {
 public:
  Writer(const char* mode, const fs::path& file) {
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
      throw std::runtime_error("pipe");
    }
    // The smallest pipe: 512 reports. So the writer is never further ahead of wait_for(), and a
    // kill in the first half always finds it at work.
    if (fcntl(out[1], F_SETPIPE_SZ, 4096) != 4096) {
      throw std::runtime_error("pipe size");
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    std::string arguments[] = {
        DOVETAIL_CRASH_WRITER, mode, file.string(), std::to_string(kIterations)};
    char* pointers[] = {arguments[0].data(),
                        arguments[1].data(),
                        arguments[2].data(),
                        arguments[3].data(),
                        nullptr};
    const int failed = posix_spawn(&child_, pointers[0], &actions, nullptr, pointers, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    to_ = in[1];
    from_ = out[0];
    if (failed != 0) {
      child_ = -1;
      throw std::runtime_error("cannot start " + arguments[0]);
    }
  }

  ~Writer() {
    kill_now();
    close(to_);
    close(from_);
  }

  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  Writer(Writer&&) = delete;
  Writer& operator=(Writer&&) = delete;

  void start() const { ASSERT_EQ(::write(to_, "g", 1), 1); }

  /// Reads reports until `number` came, the writer is gone, or 60 s have passed.
  void wait_for(std::int64_t number) {
    while (last_ < number && read_one(60'000)) {
    }
    ASSERT_GE(last_, number) << "the writer ended early";
  }

  void kill_now() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
      child_ = -1;
    }
  }

  /// The last report, with all that was still in the pipe. Only after kill_now().
  std::int64_t last_report() {
    while (read_one(0)) {
    }
    return last_;
  }

 private:
  bool read_one(int timeout_ms) {
    pollfd ready{from_, POLLIN, 0};
    std::int64_t number = 0;
    if (poll(&ready, 1, timeout_ms) <= 0 ||
        ::read(from_, &number, sizeof(number)) != sizeof(number)) {
      return false;
    }
    last_ = number;
    return true;
  }

  pid_t child_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::int64_t last_ = kNothing;
};

/// When the writer is killed: `delay_ns` after report `after` (kNothing: after the start; nothing:
/// before it).
struct Moment {
  std::optional<std::int64_t> after;
  std::int64_t delay_ns = 0;
};

/// Runs a writer into `file`, kills it at the moment and returns its last report.
std::int64_t run_and_kill(const char* mode, const fs::path& file, const Moment& moment) {
  Writer writer(mode, file);
  if (moment.after) {
    writer.start();
    writer.wait_for(*moment.after);
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(moment.delay_ns);
    while (std::chrono::steady_clock::now() < end) {
    }
  }
  writer.kill_now();
  return writer.last_report();
}

/// What is wrong with /timing/step_ns after report `last`; empty = nothing. Every row up to the
/// report is there; of the others at most the next one, for its report may not have been sent.
std::string check_steps(const std::vector<std::int64_t>& steps, std::int64_t last) {
  if (last >= 0 && static_cast<std::int64_t>(steps.size()) < 2 * std::min(last + 1, kIterations)) {
    return "iterations are missing after report " + std::to_string(last);
  }
  for (std::size_t place = 0; place < steps.size(); ++place) {
    const auto i = static_cast<std::int64_t>(place / 2);
    const auto step = static_cast<std::int64_t>(place % 2);
    const bool whole = steps[place] == origin(1, i, step);
    if (i <= last ? !whole : !(steps[place] == -1 || (whole && i == last + 1))) {
      return "iteration " + std::to_string(i) + " after report " + std::to_string(last);
    }
  }
  return "";
}

/// Where there is a step time, its decision is there, too.
std::string check_decisions(const std::vector<std::int64_t>& steps,
                            const std::vector<std::int64_t>& decisions) {
  for (std::size_t place = 0; place < steps.size(); ++place) {
    const auto wanted = test::decision_of(static_cast<std::int64_t>(place / 2),
                                          static_cast<std::int64_t>(place % 2));
    const auto* row = decisions.data() + kNumDecisionColumns * place;
    const DecisionRow found{row[0], row[1], row[2], row[3], row[4], row[5], row[6]};
    if (steps[place] != -1 && !(found == wanted)) {
      return "decision of iteration " + std::to_string(place / 2);
    }
  }
  return "";
}

/// What is wrong with the file of a killed writer whose last report was `last`; empty = nothing.
/// `status` is set where the file can be read.
std::string check_file(const fs::path& path, std::int64_t last, std::optional<RunStatus>& status) {
  if (!fs::exists(path)) {
    return last == kNothing ? "" : "no file after report " + std::to_string(last);
  }
  try {
    const RankFile file(path);
    status = file.status();
    if (last == kIterations && file.status() != RunStatus::complete) {
      return "finished, but the status is not complete";
    }
    if (last < kIterations - 1 && file.status() != RunStatus::running) {
      return "not finished, but the status is not running";
    }
    const auto steps = file.read<std::int64_t>(path::kStepNs).values;
    const auto problem = check_steps(steps, last);
    return problem.empty() ? check_decisions(steps, file.read<std::int64_t>(path::kDecision).values)
                           : problem;
  } catch (const Error& error) {
    return error.what();
  }
}

/// check_steps for a file that has /timing/step_ns and nothing else of the schema.
std::string check_chunked_file(const fs::path& path, std::int64_t last) {
  try {
    const auto file = hdf5::File::open(path.string(), hdf5::Access::read);
    const auto dataset = file.open_dataset(path::kStepNs);
    std::vector<std::int64_t> steps(static_cast<std::size_t>(hdf5::num_elements(dataset.shape())));
    dataset.read(std::as_writable_bytes(std::span(steps)));
    return check_steps(steps, last);
  } catch (const Error& error) {
    return error.what();
  }
}

/// 50 moments: 2 before the start, 14 while the file is made, 20 while it is written, 12 while it
/// is finished, 2 after the end.
std::vector<Moment> random_moments(std::mt19937_64& random, std::int64_t creation_ns) {
  const auto below = [&random](std::int64_t bound) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound));
  };
  std::vector<Moment> moments(2);
  for (int i = 0; i < 14; ++i) {
    moments.push_back({kNothing, below(creation_ns)});
  }
  for (int i = 0; i < 20; ++i) {
    moments.push_back({below(kIterations / 2) - 1, below(20'000)});
  }
  for (int i = 0; i < 12; ++i) {
    moments.push_back({kIterations - 1, below(300'000)});
  }
  moments.insert(moments.end(), 2, {kIterations, 0});
  return moments;
}

std::int64_t measure_creation_ns(const fs::path& file) {
  Writer writer("recorder", file);
  const auto start = std::chrono::steady_clock::now();
  writer.start();
  writer.wait_for(-1);
  return std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
}

TEST(Crash, FiftyKillsLoseNothingThatWasReported) {
  std::mt19937_64 random(test::fresh_seed("Crash"));
  TempFolder folder;
  const auto creation_ns = measure_creation_ns(folder.path() / "measured.h5");
  std::vector<fs::path> files;
  std::vector<RunStatus> statuses;
  int before = 0;
  int during = 0;
  int after = 0;
  int number = 0;
  for (const auto& moment : random_moments(random, creation_ns)) {
    const auto path = folder.path() / ("rank-" + std::to_string(number++) + ".h5");
    const auto last = run_and_kill("recorder", path, moment);
    std::optional<RunStatus> status;
    EXPECT_EQ(check_file(path, last, status), "") << path << ", kill " << number;
    before += last < 0 ? 1 : 0;
    during += last >= 0 && last < kIterations ? 1 : 0;
    after += last == kIterations ? 1 : 0;
    if (status) {
      files.push_back(path);
      statuses.push_back(*status);
    }
  }
  std::cout << "killed before the first iteration " << before << ", during " << during
            << ", after the end " << after << "; files " << files.size() << "\n";
  EXPECT_EQ(number, 50);
  EXPECT_GE(before, 2);
  EXPECT_GE(during, 20);
  EXPECT_GE(after, 2);
  const auto dump = test::h5py_dump(files);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto& found = dump.at(files[i].string());
    EXPECT_EQ(found.at("attributes").at("status"), to_string(statuses[i]));
    const auto ours = RankFile(files[i]).read<std::int64_t>(path::kStepNs).values;
    EXPECT_EQ(found.at("datasets").at(path::kStepNs).at("values").get<std::vector<std::int64_t>>(),
              ours);
  }
}

// The twin: the usual way of recording under the same kills loses what was reported. If this
// passed, the test above could not fail.
TEST(Crash, ChunkedUnflushedFilesLoseWhatWasReported) {
  std::mt19937_64 random(test::fresh_seed("CrashTwin"));
  TempFolder folder;
  const auto whole = folder.path() / "whole.h5";
  EXPECT_EQ(check_chunked_file(whole, run_and_kill("chunked", whole, {kIterations, 0})), "");
  for (int i = 0; i < 5; ++i) {
    const auto path = folder.path() / ("rank-" + std::to_string(i) + ".h5");
    const Moment moment{static_cast<std::int64_t>(random() % (kIterations / 2)), 0};
    const auto last = run_and_kill("chunked", path, moment);
    ASSERT_LT(last, kIterations);
    const auto problem = check_chunked_file(path, last);
    EXPECT_NE(problem, "") << "nothing was lost after report " << last;
    std::cout << "lost: " << problem << "\n";
  }
}

// A check that overlooks a lost or a foreign row proves nothing.
TEST(Crash, CheckFindsALostAndAForeignRow) {
  TempFolder folder;
  auto spec = test::full_spec();
  spec.iterations = kIterations;
  const auto write = [&](const fs::path& path, std::int64_t lost, std::int64_t foreign) {
    RankRecorder recorder(path, spec);
    for (std::int64_t i = 0; i < 100; ++i) {
      for (std::int64_t step = 0; step < spec.steps; ++step) {
        if (i != lost) {
          recorder.write_step(
              i, step, origin(1, i, step) + (i == foreign ? 1 : 0), test::decision_of(i, step));
        }
      }
    }
  };
  std::optional<RunStatus> status;
  write(folder.path() / "good.h5", -1, -1);
  EXPECT_EQ(check_file(folder.path() / "good.h5", 99, status), "");
  EXPECT_EQ(check_file(folder.path() / "good.h5", 98, status), "");  // written, not yet reported
  EXPECT_EQ(check_file(folder.path() / "good.h5", 100, status), "iteration 100 after report 100");
  EXPECT_EQ(check_file(folder.path() / "good.h5", 50, status), "iteration 52 after report 50");
  write(folder.path() / "lost.h5", 7, -1);
  EXPECT_EQ(check_file(folder.path() / "lost.h5", 99, status), "iteration 7 after report 99");
  write(folder.path() / "foreign.h5", -1, 42);
  EXPECT_EQ(check_file(folder.path() / "foreign.h5", 99, status), "iteration 42 after report 99");
}

}  // namespace
}  // namespace dovetail

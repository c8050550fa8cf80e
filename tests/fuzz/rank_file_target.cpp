// Rank files, read by all that reads results, each in a child process: HDF5 crashes on damaged
// ones, and the process must end as damage_guard.hpp says.
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/verify.hpp"
#include "framework/record/damage_guard.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/trace.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail::fuzz {
namespace {

/// A good result, and a folder for a damaged copy of it.
class Results {
 public:
  Results() {
    std::filesystem::create_directory(good());
    std::filesystem::create_directory(damaged());
    auto spec = test::full_spec();
    spec.config = "experiment: unit\n";
    test::write_full_file(good() / rank_file_name(0), spec);
  }

  std::filesystem::path good() const { return folder_.path() / "good"; }

  std::filesystem::path damaged() const { return folder_.path() / "damaged"; }

  std::filesystem::path file() const { return damaged() / rank_file_name(0); }

 private:
  ScratchFolder folder_{"/dev/shm"};
};

const Results& results() {
  static const Results all;
  return all;
}

void read_all(const RankFile& file) {
  file.attributes();
  file.schedules();
  file.config();
  for (const auto& dataset : file.numeric_datasets()) {
    file.read_bytes(dataset);
  }
}

std::vector<std::string> seeds() {
  return {test::read_file(results().good() / rank_file_name(0))};
}

std::vector<std::string> tokens() {
  return {"SNOD",
          "TREE",
          "HEAP",
          "GCOL",
          "OHDR",
          "FRHP",
          "FSHD",
          "BTHD",
          "\x89HDF\r\n\x1a\n",
          std::string("\x01\0", 2),
          std::string("\x02\0\0\0", 4),
          std::string("\0\x10\0\0\0\0\0\0", 8),
          "complete",
          "running",
          "\xff"};
}

/// Ends of the child beside kExitBadInput, which the guard takes.
constexpr int kAccepted = 0;
constexpr int kRefused = 10;
constexpr int kBroken = 11;

/// Opened, then read by one of the readers, which the bytes choose.
int read_one_way(const std::string& bytes) {
  using Reader = std::function<void()>;
  static const std::array<Reader, 3> others = {
      [] { chrome_trace(PolicyFolder(results().damaged())); },
      [] { to_text(compare_policies({results().damaged()})); },
      [] { to_text(verify_policies(results().good(), results().damaged())); }};
  const std::string place = results().damaged().string();
  const auto chosen = std::hash<std::string>{}(bytes) % (others.size() + 1);
  const bool accepted = is_read(place, [chosen] {
    const RankFile file(results().file());
    if (chosen == others.size()) {
      read_all(file);
    }
  });
  if (chosen < others.size()) {
    is_read(place, others.at(chosen));
  }
  return accepted ? kAccepted : kRefused;
}

/// Does not return. What it prints lands in `log`.
[[noreturn]] void be_child(const std::string& log, const std::string& bytes) {
  dup2(open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  const rlimit seconds = {10, 10};
  setrlimit(RLIMIT_CPU, &seconds);
  damage_guard_ms = 100;
  int exit_code = kBroken;
  try {
    exit_code = read_one_way(bytes);
  } catch (const BrokenContract& broken) {
    dprintf(STDERR_FILENO, "%s", broken.what());
  }
  _exit(exit_code);
}

bool accepts(const std::string& bytes) {
  const std::string log = (results().good() / "log").string();
  write_input(results().file(), bytes);
  const pid_t child = fork();
  if (child == 0) {
    be_child(log, bytes);
  }
  require(child > 0, "no child process");
  int status = 0;
  while (waitpid(child, &status, 0) != child) {
    require(errno == EINTR, "a child process that cannot be waited for");
  }
  const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (exit_code == kAccepted || exit_code == kRefused) {
    return exit_code == kAccepted;
  }
  const std::string said = test::read_file(log);
  // Behind what the C library may say of its heap. HDF5 may crash when it reads the next file.
  const std::string line = "dovetail: " + results().good().parent_path().string();
  require(exit_code == kExitBadInput && said.find(line) != std::string::npos,
          "the reading process ended with signal " +
              std::to_string(WIFSIGNALED(status) ? WTERMSIG(status) : 0) + ", exit code " +
              std::to_string(exit_code) + ": " + said);
  return false;
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz

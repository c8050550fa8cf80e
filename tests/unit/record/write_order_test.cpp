// The order in which a rank file is written: a process that is killed leaves the writes that it has
// made up to then, so after each of them the file must be true. A status other than `running` says
// that everything is there.
#include <cstdint>
#include <dlfcn.h>
#include <map>
#include <string>
#include <sys/types.h>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using test::full_spec;
using test::origin;
using test::TempFolder;

struct Write {
  std::size_t offset = 0;
  std::string bytes;
};

/// Of the one file that is written meanwhile; null = none is looked at.
std::vector<Write>* noted_writes = nullptr;

/// Notes every write of the process from now on.
class WriteNotes {
 public:
  WriteNotes() { noted_writes = &writes_; }

  ~WriteNotes() { noted_writes = nullptr; }

  WriteNotes(const WriteNotes&) = delete;
  WriteNotes& operator=(const WriteNotes&) = delete;
  WriteNotes(WriteNotes&&) = delete;
  WriteNotes& operator=(WriteNotes&&) = delete;

  const std::vector<Write>& writes() const { return writes_; }

 private:
  std::vector<Write> writes_;
};

}  // namespace
}  // namespace dovetail

/// In the place of the C library's, for libhdf5 too: this program's symbols come first.
extern "C" ssize_t pwrite(int file, const void* data, std::size_t size, off_t offset) {
  using Call = ssize_t (*)(int, const void*, std::size_t, off_t);
  static const auto call = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "pwrite"));
  const ssize_t written = call(file, data, size, offset);
  if (dovetail::noted_writes != nullptr && written > 0) {
    dovetail::noted_writes->push_back(
        {static_cast<std::size_t>(offset),
         {static_cast<const char*>(data), static_cast<std::size_t>(written)}});
  }
  return written;
}

/// To the leak detector: libhdf5 keeps 56 bytes of each file that it could not open for want of a
/// root group, as the files of the first writes here.
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "leak:libhdf5";
}

namespace dovetail {
namespace {

/// What a file says but for its status.
struct Content {
  std::string failure;
  std::map<std::string, std::vector<std::byte>> datasets;

  friend bool operator==(const Content&, const Content&) = default;
};

Content content_of(const RankFile& file) {
  Content content{.failure = file.failure(), .datasets = {}};
  for (const auto& dataset : file.numeric_datasets()) {
    content.datasets[dataset] = file.read_bytes(dataset);
  }
  return content;
}

/// The files that a kill behind each write would leave, from the first that can be read on: their
/// status, and whether they hold all that the last one holds.
struct Moment {
  RunStatus status = RunStatus::running;
  bool is_whole = false;
};

std::vector<Moment> moments_of(const std::vector<Write>& writes, const Content& whole) {
  const TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  std::vector<Moment> moments;
  std::string bytes;
  for (const auto& write : writes) {
    bytes.resize(std::max(bytes.size(), write.offset + write.bytes.size()), '\0');
    bytes.replace(write.offset, write.bytes.size(), write.bytes);
    test::write_file(path, bytes);
    try {
      const RankFile file(path);
      moments.push_back({file.status(), content_of(file) == whole});
    } catch (const InputError& error) {
      EXPECT_TRUE(moments.empty()) << "unreadable again: " << error.what();
    }
  }
  return moments;
}

/// Writes a file that comes to an end with `status`; returns its moments.
std::vector<Moment> moments_of_run(RunStatus status, const std::string& failure) {
  const TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  const auto spec = full_spec();
  const WriteNotes notes;
  {
    RankRecorder recorder(path, spec);
    for (std::int64_t i = 0; i < spec.iterations; ++i) {
      for (std::int64_t step = 0; step < spec.steps; ++step) {
        recorder.write_step(i, step, origin(1, i, step), test::decision_of(i, step));
      }
    }
    recorder.write(path::kInputIds, std::vector<std::int64_t>{5, 4, 3, 2, 1, 0});
    recorder.write_scalar(path::kDispatchWireBytes, 4096);
    recorder.set_attribute(path::kTiming, {attribute::kDeviceClockErrorNs, std::int64_t{123}});
    recorder.finish(status, failure);
  }
  return moments_of(notes.writes(), content_of(RankFile(path)));
}

class WriteOrder : public ::testing::TestWithParam<RunStatus> {};

TEST_P(WriteOrder, AStatusSaysThatEverythingIsThere) {
  const auto status = GetParam();
  const auto moments = moments_of_run(status, status == RunStatus::complete ? "" : "why it ended");
  ASSERT_FALSE(moments.empty()) << "libhdf5 writes by another call than pwrite";
  EXPECT_EQ(moments.front().status, RunStatus::running);
  EXPECT_EQ(moments.back().status, status);
  int num_running = 0;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    num_running += moments[i].status == RunStatus::running ? 1 : 0;
    EXPECT_TRUE(moments[i].status == RunStatus::running || moments[i].is_whole)
        << "write " << i << " of " << moments.size();
  }
  EXPECT_GT(num_running, 10);
}

INSTANTIATE_TEST_SUITE_P(Ends,
                         WriteOrder,
                         ::testing::Values(RunStatus::complete,
                                           RunStatus::failed,
                                           RunStatus::stopped),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

/// The twin: a status that comes before what it speaks of is seen.
TEST(WriteOrderTwin, AStatusThatIsWrittenTooEarlyIsNoticed) {
  const TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  const std::int64_t late = 7;
  const WriteNotes notes;
  { const RankRecorder recorder(path, full_spec()); }
  {
    auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
    file.update_attribute("/", {attribute::kStatus, std::string(to_string(RunStatus::complete))});
    file.flush();
    file.open_dataset(path::kDispatchWireBytes).write(std::as_bytes(std::span(&late, 1)));
    file.close();
  }
  bool is_noticed = false;
  for (const auto& moment : moments_of(notes.writes(), content_of(RankFile(path)))) {
    is_noticed = is_noticed || (moment.status == RunStatus::complete && !moment.is_whole);
  }
  EXPECT_TRUE(is_noticed);
}

}  // namespace
}  // namespace dovetail

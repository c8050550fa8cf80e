// Rank files that break the schema, are cut or are no rank files are refused with the place.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {
using test::full_spec;
using test::origin;
using test::TempFolder;
using testing::input_error_of;

// Breaks one rule of the schema at a time in an otherwise good file.
class BrokenFile : public ::testing::Test {
 protected:
  /// The message with which a file made of `spec` after `change` is refused.
  template <class Change>
  std::string refused(Change&& change) {
    const auto path = folder_.path() / ("rank-" + std::to_string(count_++) + ".h5");
    test::write_full_file(path, full_spec());
    {
      auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
      change(file);
    }
    auto message = input_error_of([&] { RankFile file(path); });
    EXPECT_TRUE(message.empty() || message.starts_with(path.string()))
        << "does not name the file: " << message;
    return message;
  }

 private:
  TempFolder folder_;
  int count_ = 0;
};

TEST_F(BrokenFile, IsRefusedWithItsPlace) {
  const auto has = [](const std::string& message, const std::string& part) {
    return message.find(part) != std::string::npos
               ? ::testing::AssertionSuccess()
               : ::testing::AssertionFailure() << "'" << message << "' lacks '" << part << "'";
  };
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.update_attribute("/", {"schema_version", kSchemaVersion + 1});
                  }),
                  "schema version " + std::to_string(kSchemaVersion + 1) +
                      "; this build reads versions 2 to " + std::to_string(kSchemaVersion)));
  EXPECT_TRUE(
      has(refused([](auto& file) {
            file.update_attribute("/", {"schema_version", kOldestSchemaVersion - 1});
          }),
          "schema version 1; this build reads versions 2 to " + std::to_string(kSchemaVersion)));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.update_attribute("/", {"schema_version", std::int64_t{2}});
                  }),
                  "/timing/decision: shape [4, 2, 7] instead of [4, 2, 5]"));
  EXPECT_TRUE(has(refused([](auto& file) { file.remove(path::kStepEnqueueNs); }),
                  "/timing/enqueue_ns: no such dataset"));
  EXPECT_TRUE(has(refused([](auto& file) { file.remove(path::kWeightsBytes); }),
                  "/memory/weights_bytes: no such dataset"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kStepEnqueueNs);
                    file.create_dataset(path::kStepEnqueueNs, DType::int64, {8, 1});
                  }),
                  "/timing/enqueue_ns: shape [8, 1] instead of [4, 2]"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.update_attribute("/", {"status", std::string("done")});
                  }),
                  "status 'done' is none of running, complete, failed, invalid"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.update_attribute("/", {"status", std::string("d\x01ne\x7f")});
                  }),
                  "status 'd?ne?' is none of"));
  EXPECT_TRUE(has(refused([](auto& file) { file.remove(path::kStepNs); }),
                  "/timing/step_ns: no such dataset"));
  EXPECT_TRUE(has(refused([](auto& file) { file.remove(path::kTraffic); }), "/traffic: missing"));
  EXPECT_TRUE(has(refused([](auto& file) { file.remove(path::kRouterLogits); }),
                  "/route/logits: no such dataset"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kStepNs);
                    file.create_dataset(path::kStepNs, DType::int32, {4, 2});
                  }),
                  "/timing/step_ns: element type int32 instead of int64"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kStepNs);
                    file.create_dataset(path::kStepNs, DType::int64, {8});
                  }),
                  "/timing/step_ns: shape [8] instead of 2 dimensions"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kStepNs);
                    file.create_dataset(path::kStepNs, DType::int64, {5, 2});
                  }),
                  "/timing/decision: shape [4, 2, 7] instead of [5, 2, 7]"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kRequestId);
                    file.create_dataset(path::kRequestId, DType::int64, {5});
                  }),
                  "/input/request_id: shape [5] instead of [6]"));
  EXPECT_TRUE(has(refused([](auto& file) {
                    file.remove(path::kPositions);
                    file.create_dataset(path::kPositions, DType::int64, {6, 3});
                  }),
                  "/input/positions: shape [6, 3]"));
}

TEST_F(BrokenFile, UnbrokenPasses) {
  EXPECT_EQ(refused([](auto&) {}), "");
}

TEST(RankFile, MalformedScheduleIsRefused) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_full_file(path, full_spec());
  const auto write = [&](const char* waits, std::int32_t group, std::int64_t version) {
    {
      auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
      file.remove("/schedule/1");
      std::vector<std::string> all_waits(15);
      all_waits[0] = waits;
      std::vector<hdf5::Column> columns = {{"layer", std::vector<std::int32_t>(15)},
                                           {"ubatch", std::vector<std::int32_t>(15)},
                                           {"phase", std::vector<std::string>(15, "attention")},
                                           {"lane", std::vector<std::string>(15, "compute")},
                                           {"waits", all_waits}};
      if (version >= 5) {
        columns.push_back({"group", std::vector<std::int32_t>(15, group)});
      }
      file.write_table("/schedule/1", columns);
      file.remove("/schedule/0");
      file.write_table("/schedule/0", columns);
      for (const auto* table : {"/schedule/0", "/schedule/1"}) {
        file.create_attribute(table, {"name", std::string("x")});
        file.create_attribute(table, {"num_ubatches", std::int64_t{1}});
        file.create_attribute(table, {"digest", std::string()});
      }
      file.update_attribute("/", {"schema_version", version});
    }
  };
  const auto refused =
      [&](const char* waits, std::int32_t group = -1, std::int64_t version = kSchemaVersion) {
        write(waits, group, version);
        return input_error_of([&] { static_cast<void>(RankFile(path).schedules()); });
      };
  EXPECT_EQ(refused("3,14"), "");
  for (const auto* waits : {"3,x", "-1", ",", "3,,4", "99999999999"}) {
    EXPECT_EQ(refused(waits),
              path.string() + ": /schedule/0: waits '" + waits + "' is not a list of indices");
  }
  EXPECT_EQ(refused("0\x01"), path.string() + ": /schedule/0: waits '0?' is not a list of indices");
  EXPECT_EQ(refused("3,15"), path.string() + ": /schedule/0: waits for op 15; allowed: 0 to 14");
  EXPECT_EQ(refused("3", 1024), path.string() + ": /schedule/0: group 1024; allowed: -1 to 1023");
  EXPECT_EQ(refused("3", -2), path.string() + ": /schedule/0: group -2; allowed: -1 to 1023");
  write("3", 7, kSchemaVersion);
  EXPECT_EQ(RankFile(path).schedules().at(1).ops.at(3).group, 7);
  write("3", 7, 4);
  EXPECT_EQ(RankFile(path).schedules().at(1).ops.at(3).group, -1) << "version 4 has no groups";
}

TEST(RankFile, ForeignFilesAreRefused) {
  TempFolder folder;
  const auto path = folder.path() / "a.h5";
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }), path.string() + ": no such file");
  test::write_file(path, std::string(5000, 'x'));
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }).find(path.string() + ": not a readable"),
            0U);
  test::write_file(path, "");
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }).find(path.string() + ": not a readable"),
            0U);
  std::filesystem::remove(path);
  hdf5::File::create(path.string());
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }),
            path.string() + ": /: attribute 'schema_version' is missing");
}

TEST(RankFile, WhatGoesOnBehindItsEndIsRefusedAtOnce) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_full_file(path, full_spec());
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size + (std::uintmax_t{1} << 37));  // a hole: no disk is used
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }),
            path.string() + ": the file goes on for 137438953472 bytes behind its end, byte " +
                std::to_string(size) + "; something else was written into it");
  std::filesystem::resize_file(path, size);
  EXPECT_EQ(input_error_of([&] { RankFile file(path); }), "");
}

TEST(RankFile, APipeIsRefusedAtOnce) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  testing::expect_pipe_refused(path, [&] { RankFile file(path); });
  testing::expect_pipe_refused(path, [&] { PolicyFolder policy(folder.path()); });
}

TEST(RankFile, CutFileIsRefusedOrWhole) {
  TempFolder folder;
  const auto whole = folder.path() / "rank-00000.h5";
  const auto cut = folder.path() / "rank-00001.h5";
  test::write_full_file(whole, full_spec());
  const std::string bytes = test::read_file(whole);
  ::testing::internal::CaptureStderr();
  int refused = 0;
  for (std::size_t length = 0; length < bytes.size(); length += 512) {
    test::write_file(cut, bytes.substr(0, length));
    const auto message = input_error_of([&] { RankFile file(cut); });
    EXPECT_EQ(message.find(cut.string()), 0U) << "cut at " << length << ": '" << message << "'";
    refused += message.empty() ? 0 : 1;
    if (length >= 512) {
      EXPECT_NE(message.find("the file is cut"), std::string::npos) << message;
    }
  }
  test::write_file(cut, bytes.substr(0, bytes.size() - 1));
  EXPECT_NE(input_error_of([&] { RankFile file(cut); }), "");
  EXPECT_GT(refused, 20);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  test::write_file(cut, bytes);
  EXPECT_EQ(RankFile(cut).read<std::int64_t>(path::kStepNs).values.back(), origin(1, 3, 1));
}

}  // namespace
}  // namespace dovetail

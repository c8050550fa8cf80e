// The table of what a rank file records: its rows are sound, files of every schema version are
// read, and results/README.md says what the rows say.
//
// DOVETAIL_UPDATE_README=1 writes the tables of results/README.md instead of comparing them.
#include <set>

#include <gtest/gtest.h>

#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/support/readme_table.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

using test::TempFolder;

/// "int64 [iteration, step, column (7)]".
std::string describe_type(const DatasetRow& row) {
  std::string text(to_string(row.element));
  const char* separator = " [";
  for (const Dimension dimension : row.shape) {
    const auto length = fixed_length(dimension, kSchemaVersion);
    text += separator + std::string(to_string(dimension)) +
            (length ? " (" + std::to_string(*length) + ")" : "");
    separator = ", ";
  }
  return text + (row.shape.size() > 0 ? "]" : "");
}

std::string dataset_table() {
  std::string text = "| path | type, shape | unit | content |\n|---|---|---|---|\n";
  for (const DatasetRow& row : kDatasetRows) {
    text += "| `" + std::string(row.path) + "` | " + describe_type(row) + " | " +
            std::string(row.unit) + " | " + std::string(row.meaning) +
            (row.since > kOldestSchemaVersion ? " Since version " + std::to_string(row.since) + "."
                                              : "") +
            " |\n";
  }
  return text;
}

std::string attribute_table() {
  std::string text = "| object | attribute | type | content |\n|---|---|---|---|\n";
  for (const AttributeRow& row : attribute_rows()) {
    text += "| `" + std::string(row.object) + "` | `" + std::string(row.name) + "` | " +
            std::string(to_string(row.kind)) + " | " + std::string(row.meaning) + " |\n";
  }
  return text;
}

TEST(Schema, ReadmeSaysWhatTheRowsSay) {
  const std::string readme = DOVETAIL_SOURCE_DIR "/results/README.md";
  testing::expect_readme_table(readme, "datasets", dataset_table());
  testing::expect_readme_table(readme, "attributes", attribute_table());
}

TEST(Schema, RowsAreSound) {
  std::set<std::string_view> paths;
  for (const DatasetRow& row : kDatasetRows) {
    EXPECT_TRUE(paths.insert(row.path).second) << row.path << " is there twice";
    EXPECT_TRUE(row.path.starts_with("/")) << row.path;
    EXPECT_TRUE(row.meaning.ends_with(".")) << row.path;
    EXPECT_EQ(row.meaning.find_first_of("|\n"), std::string_view::npos) << row.path;
    EXPECT_EQ(row.path.ends_with("_ns"),
              row.unit == "ns" && row.path.find("/ops") == std::string::npos)
        << row.path;
    EXPECT_EQ(row.path.ends_with("_bytes"), row.unit == "bytes") << row.path;
    EXPECT_TRUE(row.over_ranks == OverRanks::left_out || row.is_scalar()) << row.path;
  }
  std::set<std::pair<std::string_view, std::string_view>> attributes;
  for (const AttributeRow& row : attribute_rows()) {
    EXPECT_TRUE(attributes.insert({row.object, row.name}).second) << row.name << " twice";
    EXPECT_TRUE(row.meaning.ends_with(".")) << row.name;
    EXPECT_EQ(row.kind == AttributeKind::fixed_text, row.capacity > 0) << row.name;
  }
}

/// A file of an older version lacks what later ones added, and reads as "not known".
TEST(Schema, FilesOfEveryVersionAreRead) {
  TempFolder folder;
  for (std::int64_t version = kOldestSchemaVersion; version <= kSchemaVersion; ++version) {
    const auto path = folder.path() / ("rank-0000" + std::to_string(version) + ".h5");
    test::write_full_file(path, test::full_spec());
    {
      auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
      file.update_attribute("/", {attribute::kSchemaVersion, version});
      for (const DatasetRow& row : kDatasetRows) {
        if (row.since > version && file.exists(std::string(row.path))) {
          file.remove(std::string(row.path));
        }
      }
      if (num_decision_columns(version) != kNumDecisionColumns) {
        file.remove(path::kDecision);
        file.create_dataset(path::kDecision, DType::int64, {4, 2, num_decision_columns(version)});
      }
    }
    const RankFile file(path);
    EXPECT_EQ(file.schema_version(), version);
    for (const DatasetRow& row : kDatasetRows) {
      if (row.is_scalar()) {
        EXPECT_EQ(file.scalar(std::string(row.path)) == -1, row.since > version) << row.path;
      }
    }
  }
}

TEST(Schema, AScalarThatIsNotWrittenIsNotKnown) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  {
    RankRecorder recorder(path, test::full_spec());
    recorder.write_scalar(path::kCacheBytes, 7);
    EXPECT_THROW(recorder.write_scalar(path::kStepNs, 7), ContractError);
  }
  const RankFile file(path);
  for (const DatasetRow& row : kDatasetRows) {
    if (row.is_scalar()) {
      EXPECT_EQ(file.scalar(std::string(row.path)), row.path == path::kCacheBytes ? 7 : -1)
          << row.path;
    }
  }
}

}  // namespace
}  // namespace dovetail

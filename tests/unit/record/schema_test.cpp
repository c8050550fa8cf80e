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

/// A line of a table in results/README.md: rows of one place and type that say little share it.
struct TableLine {
  std::string place;
  std::string name;
  std::string type;
  std::string content;
};

/// The longest content that several rows share.
constexpr std::size_t kSharedContent = 150;

std::string write_table(const std::string& header, const std::vector<TableLine>& rows) {
  std::vector<TableLine> lines;
  for (const TableLine& row : rows) {
    TableLine* last = lines.empty() ? nullptr : &lines.back();
    if (last == nullptr || last->place != row.place || last->type != row.type ||
        last->content.size() + row.content.size() >= kSharedContent) {
      lines.push_back(row);
      continue;
    }
    last->name += ", " + row.name;
    last->content += last->content == row.content ? "" : " " + row.content;
  }
  std::string text = header + "\n|---|---|---|\n";
  for (const TableLine& line : lines) {
    text += "| " + line.name + " | " + line.type + " | " + line.content + " |\n";
  }
  return text;
}

std::string dataset_table() {
  std::vector<TableLine> rows;
  for (const DatasetRow& row : kDatasetRows) {
    const std::string path(row.path);
    const bool is_in_summary = row.over_ranks != OverRanks::left_out;  // and so in the glossary
    const std::string since =
        row.since > kOldestSchemaVersion ? " (Since " + std::to_string(row.since) + ".)" : "";
    rows.push_back(
        {.place = path.substr(0, path.rfind('/')) + (is_in_summary ? " " + since : ""),
         .name = "`" + path + "`",
         .type = describe_type(row),
         .content = (is_in_summary ? "As in `summary.json`." : std::string(row.meaning)) + since});
  }
  return write_table("| path | type, shape | content |", rows);
}

std::string attribute_table() {
  std::vector<TableLine> rows;
  for (const AttributeRow& row : attribute_rows()) {
    const std::string object(row.object);
    rows.push_back(
        {.place = object,
         .name = "`" + (object == "/" ? "" : object + "` `") + std::string(row.name) + "`",
         .type = std::string(to_string(row.kind)),
         .content = std::string(row.meaning)});
  }
  return write_table("| object, attribute | type | content |", rows);
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

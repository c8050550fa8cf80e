#include "framework/record/rank_file_layout.hpp"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/file_system.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/unfinished_file.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

void write_attribute(hdf5::File& file, const AttributeRow& row, const RankFileSpec& spec) {
  const std::string object(row.object);
  const std::string name(row.name);
  if (row.kind == AttributeKind::fixed_text) {
    file.create_fixed_text(object, name, row.capacity, std::get<std::string>(row.initial(spec)));
  } else {
    file.create_attribute(object, {name, row.initial(spec)});
  }
}

void write_root_attributes(hdf5::File& file, const RankFileSpec& spec) {
  for (const auto& row : attribute_rows()) {
    if (row.object == "/" && row.initial != nullptr) {
      write_attribute(file, row, spec);
    }
  }
  for (const auto& one : spec.attributes) {
    DOVETAIL_CHECK(!file.has_attribute("/", one.name), "attribute given twice: " + one.name);
    file.create_attribute("/", one);
  }
}

std::string join(const std::vector<std::int32_t>& waits) {
  std::string text;
  for (const auto wait : waits) {
    text += (text.empty() ? "" : ",") + std::to_string(wait);
  }
  return text;
}

void write_schedules(hdf5::File& file, const std::vector<ScheduleRecord>& schedules) {
  file.create_group(path::kSchedule);
  for (std::size_t k = 0; k < schedules.size(); ++k) {
    const auto& schedule = schedules[k];
    std::vector<std::int32_t> layers;
    std::vector<std::int32_t> ubatches;
    std::vector<std::string> phases;
    std::vector<std::string> lanes;
    std::vector<std::string> waits;
    std::vector<std::int32_t> groups;
    for (const auto& op : schedule.ops) {
      layers.push_back(op.layer);
      ubatches.push_back(op.ubatch);
      phases.push_back(op.phase);
      lanes.push_back(op.lane);
      waits.push_back(join(op.waits));
      groups.push_back(op.group);
    }
    const std::string table = std::string(path::kSchedule) + "/" + std::to_string(k);
    file.write_table(table,
                     {{"layer", std::move(layers)},
                      {"ubatch", std::move(ubatches)},
                      {"phase", std::move(phases)},
                      {"lane", std::move(lanes)},
                      {"waits", std::move(waits)},
                      {"group", std::move(groups)}});
    file.create_attribute(table, {attribute::kName, schedule.name});
    file.create_attribute(table, {attribute::kNumUbatches, schedule.num_ubatches});
    file.create_attribute(table, {attribute::kDigest, schedule.digest});
  }
}

void write_layout(hdf5::File& file, const RankFileSpec& spec) {
  write_root_attributes(file, spec);
  file.write_text(path::kConfig, spec.config);
  write_schedules(file, spec.schedules);
  file.create_group(path::kOutput);
  for (const auto& dataset : rank_file_datasets(spec)) {
    file.create_dataset(dataset.path, dataset.dtype, dataset.shape);
  }
  for (const auto& row : attribute_rows()) {
    if (row.object != "/" && row.initial != nullptr) {
      write_attribute(file, row, spec);
    }
  }
}

}  // namespace

void create_rank_file(const fs::path& path, const RankFileSpec& spec) {
  if (is_name_taken(path)) {
    refuse_existing(path);
  }
  fs::path creating = path;
  creating += ".creating";
  if (is_name_taken(creating)) {
    refuse_existing(creating);
  }
  UnfinishedFile unfinished(creating);
  auto file = hdf5::File::create(creating.string());
  write_layout(file, spec);
  file.close();
  unfinished.publish_new(path);
}

}  // namespace dovetail

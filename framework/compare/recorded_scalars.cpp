#include "framework/compare/recorded_scalars.hpp"

#include <algorithm>
#include <string>

#include <nlohmann/json.hpp>

#include "framework/compare/json_number.hpp"

namespace dovetail {
namespace {

std::int64_t join(const PolicyFolder& folder, const DatasetRow& row) {
  const std::string path(row.path);
  if (row.over_ranks == OverRanks::first) {
    return folder.rank(0).scalar(path);
  }
  std::int64_t largest = -1;
  std::int64_t sum = 0;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    if (row.over_ranks == OverRanks::sum && !file.has(path)) {
      return -1;
    }
    const std::int64_t own = file.scalar(path);
    largest = std::max(largest, own);
    sum += std::max<std::int64_t>(0, own);
  }
  return row.over_ranks == OverRanks::sum ? sum : largest;
}

}  // namespace

RecordedScalars::RecordedScalars(const PolicyFolder& folder) {
  for (const DatasetRow& row : kDatasetRows) {
    if (row.over_ranks != OverRanks::left_out) {
      values_[row.path] = join(folder, row);
    }
  }
}

std::int64_t RecordedScalars::at(std::string_view path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? -1 : found->second;
}

nlohmann::json RecordedScalars::to_json(std::string_view group) const {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [path, value] : values_) {
    if (path.starts_with(std::string(group) + "/")) {
      json[std::string(path.substr(group.size() + 1))] = known_number(value);
    }
  }
  return json;
}

}  // namespace dovetail

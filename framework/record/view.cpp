#include "framework/record/view.hpp"

#include <algorithm>
#include <map>

#include "framework/base/error.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/unfinished_file.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// One dataset as seen over all ranks.
struct Joined {
  DType dtype = DType::int64;
  hdf5::Shape longest;
  std::vector<hdf5::VirtualBlock> blocks;
};

void join(std::map<std::string, Joined>& all, const RankFile& file, std::int64_t rank) {
  for (const auto& dataset : file.numeric_datasets()) {
    auto shape = file.shape(dataset);
    const auto [place, is_new] = all.try_emplace(dataset, Joined{file.dtype(dataset), shape, {}});
    auto& joined = place->second;
    if (joined.dtype != file.dtype(dataset) || joined.longest.size() != shape.size()) {
      throw InputError(file.path().string() + ": " + dataset +
                       ": element type or number of dimensions differs from that of another rank");
    }
    for (std::size_t i = 0; i < shape.size(); ++i) {
      joined.longest[i] = std::max(joined.longest[i], shape[i]);
    }
    // HDF5 maps no empty block.
    if (hdf5::num_elements(shape) > 0) {
      joined.blocks.push_back({rank, file.path().filename().string(), dataset, std::move(shape)});
    }
  }
}

void write_joined(hdf5::File& view,
                  const std::string& path,
                  const Joined& joined,
                  std::int64_t num_ranks) {
  hdf5::Shape shape = {num_ranks};
  shape.insert(shape.end(), joined.longest.begin(), joined.longest.end());
  if (hdf5::num_elements(shape) == 0) {
    view.create_dataset(path, joined.dtype, shape);
  } else {
    view.create_virtual_dataset(path, joined.dtype, shape, joined.blocks);
  }
}

void write_ranks(hdf5::File& view, const PolicyFolder& folder) {
  std::vector<std::int32_t> rank;
  std::vector<std::string> status;
  std::vector<std::string> host;
  std::vector<std::string> file;
  for (const auto& entry : folder.ranks()) {
    rank.push_back(static_cast<std::int32_t>(entry.rank));
    file.push_back(entry.path.filename().string());
    if (entry.file) {
      status.emplace_back(to_string(entry.file->status()));
      host.push_back(entry.file->text(attribute::kHost));
    } else {
      status.emplace_back(entry.problem == kMissing ? "missing" : "unreadable");
      host.emplace_back();
    }
  }
  view.write_table("/ranks",
                   {{"rank", std::move(rank)},
                    {"status", std::move(status)},
                    {"host", std::move(host)},
                    {"file", std::move(file)}});
}

}  // namespace

fs::path write_view(const fs::path& policy_folder) {
  const PolicyFolder folder(policy_folder);
  std::map<std::string, Joined> all;
  const RankFile* first = nullptr;
  for (const auto& entry : folder.ranks()) {
    if (entry.file) {
      first = first == nullptr ? &*entry.file : first;
      join(all, *entry.file, entry.rank);
    }
  }
  fs::path path = policy_folder / kViewFileName;
  UnfinishedFile unfinished(unfinished_name(path));
  auto view = hdf5::File::create(unfinished.path().string());
  view.create_attribute("/", {attribute::kSchemaVersion, first->schema_version()});
  for (const auto* name : {attribute::kExperiment, attribute::kPolicy}) {
    view.create_attribute("/", {name, first->text(name)});
  }
  view.create_attribute("/", {attribute::kLink, first->link()});
  view.create_attribute("/", {attribute::kWorldSize, folder.world_size()});
  write_ranks(view, folder);
  for (const auto& [dataset, joined] : all) {
    write_joined(view, dataset, joined, folder.world_size());
  }
  view.create_attribute(path::kDecision,
                        {attribute::kColumns, first->text(attribute::kColumns, path::kDecision)});
  view.close();
  unfinished.replace(path);
  return path;
}

}  // namespace dovetail

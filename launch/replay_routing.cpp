#include <map>
#include <utility>
#include <variant>

#include <ATen/ops/full.h>

#include "framework/mpi/collectives.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/schema.hpp"
#include "launch/run_setup.hpp"

namespace dovetail {
namespace {

using TokenKey = std::pair<std::int64_t, std::int64_t>;  // request, position

at::Tensor read_routing(const std::string& folder_path,
                        const RankWorkload& workload,
                        std::int64_t num_layers,
                        std::int64_t top_k) {
  std::map<TokenKey, std::int64_t> rows;  // of this rank's tokens
  for (std::size_t row = 0; row < workload.request_ids.size(); ++row) {
    rows[{workload.request_ids[row], workload.positions[row]}] = static_cast<std::int64_t>(row);
  }
  const auto num_tokens = static_cast<std::int64_t>(rows.size());
  auto ids = at::full({num_layers, num_tokens, top_k}, -1, at::TensorOptions().dtype(at::kLong));
  auto* values = ids.mutable_data_ptr<std::int64_t>();
  const PolicyFolder folder(folder_path);
  folder.require_complete();
  std::int64_t found = 0;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    const auto requests = file.read<std::int64_t>(path::kRequestId);
    const auto positions = file.read<std::int64_t>(path::kPositions);
    const auto routing = file.read<std::int32_t>(path::kExpertIds);
    if (routing.shape.at(0) != num_layers || routing.shape.at(2) != top_k) {
      throw InputError(file.path().string() + ": " + path::kExpertIds + " is " +
                       hdf5::to_string(routing.shape) + "; the model has " +
                       std::to_string(num_layers) + " layers and chooses " + std::to_string(top_k) +
                       " experts");
    }
    const auto tokens = routing.shape.at(1);
    for (std::int64_t token = 0; token < tokens; ++token) {
      const auto index = static_cast<std::size_t>(token);
      const auto row = rows.find({requests.values.at(index), positions.values.at(index)});
      if (row == rows.end()) {
        continue;
      }
      ++found;
      for (std::int64_t layer = 0; layer < num_layers; ++layer) {
        for (std::int64_t k = 0; k < top_k; ++k) {
          values[(layer * num_tokens + row->second) * top_k + k] =
              routing.values[static_cast<std::size_t>((layer * tokens + token) * top_k + k)];
        }
      }
    }
  }
  if (found != num_tokens) {
    throw InputError(folder_path + ": holds the routing of " + std::to_string(found) +
                     " of this rank's " + std::to_string(num_tokens) +
                     " tokens; replay needs the same requests");
  }
  return ids;
}

}  // namespace

at::Tensor load_replay_routing(const RankContext& context,
                               const RankWorkload& workload,
                               const Model& model) {
  at::Tensor ids;
  run_on_all_ranks(context.groups.world, patient(context.wait), [&] {
    if (const auto* replay = std::get_if<ReplayRouting>(&context.experiment.workload.routing)) {
      ids = read_routing(replay->folder, workload, model.shape().num_layers(), model.dims().top_k);
    }
  });
  return ids;
}

}  // namespace dovetail

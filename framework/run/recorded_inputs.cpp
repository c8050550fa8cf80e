#include "framework/run/recorded_inputs.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <variant>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "framework/base/text.hpp"
#include "framework/config/load.hpp"
#include "framework/config/validate.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// The steps of a rank.
using Steps = std::vector<StepWorkload>;

/// A token: its rank (as an index), a step of the iteration and a row of its batch.
struct TokenPlace {
  std::size_t rank = 0;
  std::size_t step = 0;
  std::int64_t row = 0;
};

/// Tokens by request and position, to find them in the files of another run.
class TokenPlaces {
 public:
  explicit TokenPlaces(const std::vector<const Steps*>& ranks) : tokens_(ranks.size()) {
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      for (std::size_t step = 0; step < ranks[rank]->size(); ++step) {
        const auto& tokens = (*ranks[rank])[step];
        for (std::size_t row = 0; row < tokens.request_ids.size(); ++row) {
          const bool is_new =
              places_
                  .insert_or_assign({tokens.request_ids[row], tokens.positions[row]},
                                    TokenPlace{rank, step, static_cast<std::int64_t>(row)})
                  .second;
          tokens_[rank] += is_new ? 1 : 0;
        }
      }
    }
  }

  std::size_t num_ranks() const { return tokens_.size(); }

  /// Calls `visit(row of the file, place)` for each token that the file holds, by its lists of
  /// requests and positions; adds to the numbers that were found, by rank.
  void for_each_in(
      const RankFile& file,
      const char* request_id,
      const char* position,
      std::vector<std::size_t>& found,
      const std::function<void(std::int64_t row, const TokenPlace& place)>& visit) const {
    const auto requests = file.read<std::int64_t>(request_id);
    const auto positions = file.read<std::int64_t>(position);
    for (std::size_t row = 0; row < requests.values.size(); ++row) {
      const auto place = places_.find({requests.values[row], positions.values.at(row)});
      if (place != places_.end()) {
        ++found[place->second.rank];
        visit(static_cast<std::int64_t>(row), place->second);
      }
    }
  }

  void require_all(const std::vector<std::size_t>& found,
                   const std::string& folder,
                   const std::string& what) const {
    for (std::size_t rank = 0; rank < tokens_.size(); ++rank) {
      if (found[rank] != tokens_[rank]) {
        fail(rank, found[rank], folder, what);
      }
    }
  }

 private:
  [[noreturn]] void fail(std::size_t rank,
                         std::size_t found,
                         const std::string& folder,
                         const std::string& what) const {
    const auto whose = tokens_.size() == 1 ? "this rank" : "rank " + std::to_string(rank);
    throw InputError(folder + ": holds the " + what + " of " + std::to_string(found) + " of " +
                     whose + "'s " + counted(static_cast<std::int64_t>(tokens_[rank]), "token") +
                     "; the run must have had the same requests and steps");
  }

  std::map<std::pair<std::int64_t, std::int64_t>, TokenPlace> places_;
  std::vector<std::size_t> tokens_;  ///< by rank
};

/// Of one token: an exchange sends its row once to each rank, with a weight for each expert.
void check_distinct(const RankFile& file, const char* dataset, std::span<const std::int32_t> ids) {
  for (auto id = ids.begin(); id != ids.end(); ++id) {
    if (*id >= 0 && std::find(ids.begin(), id, *id) != id) {
      throw InputError(file.path().string() + ": " + dataset + " gives a token expert " +
                       std::to_string(*id) + " twice; the experts of a token are different ones");
    }
  }
}

void check_expert_ids(const RankFile& file,
                      const char* dataset,
                      const std::vector<std::int32_t>& ids,
                      const ModelDims& dims) {
  for (const std::int32_t id : ids) {
    if (id < -1 || id >= dims.num_experts) {
      throw InputError(file.path().string() + ": " + dataset + " holds expert " +
                       std::to_string(id) + "; the model has experts 0 to " +
                       std::to_string(dims.num_experts - 1));
    }
  }
  const auto k = static_cast<std::size_t>(dims.top_k);
  const int group_size = dims.num_experts / dims.expert_groups.num_groups;
  for (std::size_t first = 0; first + k <= ids.size(); first += k) {
    check_distinct(file, dataset, std::span(ids).subspan(first, k));
    std::set<std::int32_t> groups;
    for (std::size_t i = first; i < first + k && ids[i] >= 0; ++i) {
      groups.insert(ids[i] / group_size);
    }
    if (std::ssize(groups) > dims.expert_groups.num_chosen) {
      throw InputError(file.path().string() + ": " + dataset + " gives a token experts of " +
                       counted(std::ssize(groups), "group") + "; the model allows experts of " +
                       std::to_string(dims.expert_groups.num_chosen) + " of its " +
                       counted(dims.expert_groups.num_groups, "group"));
    }
  }
}

/// The experiment that a rank file records.
Experiment recorded_experiment(const RankFile& file) {
  return parse_experiment(file.config(), file.path().string() + ": /config").experiment;
}

/// Throws InputError unless the run in `file` was of the stage that ends where ours begins, on the
/// same workload.
void check_stage_before(const RankFile& file, const Experiment& own) {
  const auto name = file.path().string();
  const auto before = recorded_experiment(file);
  const auto first = own.model.stage() != nullptr ? own.model.stage()->first : 0;
  if (before.model.stage() == nullptr || before.model.stage()->last != first) {
    throw InputError(name + ": is of layers " + ModelConfig::write_layers(before.model) +
                     "; allowed for layers from " + std::to_string(first) +
                     " on: a run of the layers up to " + std::to_string(first));
  }
  const auto other = find_difference_of_stages(before, own);
  if (!other.empty()) {
    throw InputError(name + ": was run with another " + other +
                     "; a stage continues the hidden states of its own model and workload");
  }
}

/// Checks a policy folder's routing and calls `visit(routing, row, place)` for each of the tokens.
template <class Visit>
void visit_routing(const std::string& path,
                   const TokenPlaces& places,
                   const RecordedRouting& recorded,
                   const ModelShape& shape,
                   const ModelDims& dims,
                   const Visit& visit) {
  const std::int64_t num_layers = shape.num_layers();
  const std::int64_t top_k = dims.top_k;
  const PolicyFolder folder(path);
  folder.require_complete();
  std::vector<std::size_t> found(places.num_ranks());
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    if (recorded.expert_ids == kContextRouting.expert_ids && !file.has(recorded.expert_ids)) {
      continue;  // a rank without contexts
    }
    const auto routing = file.read<std::int32_t>(recorded.expert_ids);
    if (routing.shape.at(0) != num_layers || routing.shape.at(2) != top_k) {
      throw InputError(file.path().string() + ": " + recorded.expert_ids + " is " +
                       hdf5::to_string(routing.shape) + "; the model has " +
                       counted(num_layers, "layer") + " and chooses " + counted(top_k, "expert"));
    }
    check_expert_ids(file, recorded.expert_ids, routing.values, dims);
    places.for_each_in(
        file,
        recorded.request_id,
        recorded.positions,
        found,
        [&](std::int64_t row, const TokenPlace& place) { visit(routing, row, place); });
  }
  places.require_all(found, path, "routing");
}

/// The same for the hidden states of the stage before: `visit(rows, row, place)`.
template <class Visit>
void visit_hidden(const std::string& path,
                  const TokenPlaces& places,
                  const ModelDims& dims,
                  const Experiment& experiment,
                  const Visit& visit) {
  const std::string dataset = std::string(path::kOutput) + "/hidden";
  const PolicyFolder folder(path);
  folder.require_complete();
  std::vector<std::size_t> found(places.num_ranks());
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    check_stage_before(file, experiment);
    const auto rows = file.read_floats(dataset);
    if (rows.shape.at(1) != dims.hidden) {
      throw InputError(file.path().string() + ": " + dataset + " is " +
                       hdf5::to_string(rows.shape) + "; the model's hidden size is " +
                       std::to_string(dims.hidden));
    }
    places.for_each_in(file,
                       path::kRequestId,
                       path::kPositions,
                       found,
                       [&](std::int64_t row, const TokenPlace& place) { visit(rows, row, place); });
  }
  places.require_all(found, path, "hidden states");
}

}  // namespace

std::vector<at::Tensor> read_routing(const std::string& path,
                                     const std::vector<StepWorkload>& steps,
                                     const RecordedRouting& recorded,
                                     const ModelShape& shape,
                                     const ModelDims& dims) {
  const std::int64_t num_layers = shape.num_layers();
  const std::int64_t top_k = dims.top_k;
  std::vector<at::Tensor> ids;
  ids.reserve(steps.size());
  for (const auto& step : steps) {
    ids.push_back(at::full(
        {num_layers, step.batch.num_tokens(), top_k}, -1, at::TensorOptions().dtype(at::kLong)));
  }
  const auto copy = [&](const Array<std::int32_t>& routing, std::int64_t row, const auto& place) {
    auto* values = ids[place.step].template mutable_data_ptr<std::int64_t>();
    const auto own_tokens = ids[place.step].size(1);
    const auto tokens = routing.shape.at(1);
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      for (std::int64_t k = 0; k < top_k; ++k) {
        values[(layer * own_tokens + place.row) * top_k + k] =
            routing.values[static_cast<std::size_t>((layer * tokens + row) * top_k + k)];
      }
    }
  };
  visit_routing(path, TokenPlaces({&steps}), recorded, shape, dims, copy);
  return ids;
}

std::vector<at::Tensor> read_hidden(const std::string& path,
                                    const RankWorkload& workload,
                                    const ModelDims& dims,
                                    const Experiment& experiment) {
  std::vector<at::Tensor> hidden;
  for (const auto& step : workload.steps) {
    hidden.push_back(at::empty({step.batch.num_tokens(), dims.hidden}, at::kFloat));
  }
  const auto copy = [&](const Array<float>& rows, std::int64_t row, const TokenPlace& place) {
    const auto* first = rows.values.data() + row * dims.hidden;
    std::copy(first,
              first + dims.hidden,
              hidden[place.step].mutable_data_ptr<float>() + place.row * dims.hidden);
  };
  visit_hidden(path, TokenPlaces({&workload.steps}), dims, experiment, copy);
  for (auto& tensor : hidden) {
    tensor = tensor.to(dims.dtype);
  }
  return hidden;
}

void check_recorded_inputs(const Experiment& experiment,
                           const std::vector<RankWorkload>& ranks,
                           const ModelShape& shape,
                           const ModelDims& dims) {
  const auto& config = experiment.workload;
  const auto ignore = [](const auto& /*values*/, std::int64_t /*row*/, const auto& /*place*/) {};
  std::vector<const Steps*> steps;
  std::vector<const Steps*> context_steps;
  for (const RankWorkload& rank : ranks) {
    steps.push_back(&rank.steps);
    context_steps.push_back(&rank.context_steps);
  }
  if (config.inputs.kind == InputKind::hidden) {
    visit_hidden(config.inputs.folder, TokenPlaces(steps), dims, experiment, ignore);
  }
  if (const auto* replay = std::get_if<ReplayRouting>(&config.routing)) {
    check_layers(replay->folder, experiment.model);
    visit_routing(replay->folder, TokenPlaces(steps), kStepRouting, shape, dims, ignore);
    if (!context_steps.front()->empty()) {
      visit_routing(
          replay->folder, TokenPlaces(context_steps), kContextRouting, shape, dims, ignore);
    }
  }
}

void check_layers(const std::string& path, const ModelConfig& own) {
  const PolicyFolder folder(path);
  const auto source = recorded_experiment(folder.rank(0));
  if (source.model.layers != own.layers) {
    throw InputError(path + ": has the routing of layers " +
                     ModelConfig::write_layers(source.model) + "; this run is of layers " +
                     ModelConfig::write_layers(own));
  }
}

}  // namespace dovetail

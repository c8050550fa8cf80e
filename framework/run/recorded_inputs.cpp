#include "framework/run/recorded_inputs.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "framework/base/text.hpp"
#include "framework/config/load.hpp"
#include "framework/config/validate.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// A token of this rank: a step of the iteration and a row of its batch.
struct TokenPlace {
  std::size_t step = 0;
  std::int64_t row = 0;
};

/// This rank's tokens by request and position, to find them in the files of another run.
class TokenPlaces {
 public:
  explicit TokenPlaces(const std::vector<StepWorkload>& steps) {
    for (std::size_t step = 0; step < steps.size(); ++step) {
      const auto& tokens = steps[step];
      for (std::size_t row = 0; row < tokens.request_ids.size(); ++row) {
        places_[{tokens.request_ids[row], tokens.positions[row]}] = {
            step, static_cast<std::int64_t>(row)};
      }
    }
  }

  /// Calls `visit(row of the file, place)` for each token of this rank that the file holds, by its
  /// lists of requests and positions; returns their number.
  std::size_t for_each_in(
      const RankFile& file,
      const char* request_id,
      const char* position,
      const std::function<void(std::int64_t row, const TokenPlace& place)>& visit) const {
    const auto requests = file.read<std::int64_t>(request_id);
    const auto positions = file.read<std::int64_t>(position);
    std::size_t found = 0;
    for (std::size_t row = 0; row < requests.values.size(); ++row) {
      const auto place = places_.find({requests.values[row], positions.values.at(row)});
      if (place != places_.end()) {
        ++found;
        visit(static_cast<std::int64_t>(row), place->second);
      }
    }
    return found;
  }

  void require_all(std::size_t found, const std::string& folder, const std::string& what) const {
    if (found != places_.size()) {
      throw InputError(folder + ": holds the " + what + " of " + std::to_string(found) +
                       " of this rank's " + counted(std::ssize(places_), "token") +
                       "; the run must have had the same requests and steps");
    }
  }

 private:
  std::map<std::pair<std::int64_t, std::int64_t>, TokenPlace> places_;
};

void check_expert_ids(const RankFile& file,
                      const char* dataset,
                      const std::vector<std::int32_t>& ids,
                      int num_experts) {
  for (const std::int32_t id : ids) {
    if (id < -1 || id >= num_experts) {
      throw InputError(file.path().string() + ": " + dataset + " holds expert " +
                       std::to_string(id) + "; the model has experts 0 to " +
                       std::to_string(num_experts - 1));
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
  const auto first = own.model.layers ? own.model.layers->first : 0;
  if (!before.model.layers || before.model.layers->last != first) {
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

}  // namespace

std::vector<at::Tensor> read_routing(const std::string& path,
                                     const std::vector<StepWorkload>& steps,
                                     const RecordedRouting& recorded,
                                     const Model& model) {
  const std::int64_t num_layers = model.shape().num_layers();
  const std::int64_t top_k = model.dims().top_k;
  std::vector<at::Tensor> ids;
  ids.reserve(steps.size());
  for (const auto& step : steps) {
    ids.push_back(at::full(
        {num_layers, step.batch.num_tokens(), top_k}, -1, at::TensorOptions().dtype(at::kLong)));
  }
  const TokenPlaces places(steps);
  const PolicyFolder folder(path);
  folder.require_complete();
  std::size_t found = 0;
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
    check_expert_ids(file, recorded.expert_ids, routing.values, model.dims().num_experts);
    const auto tokens = routing.shape.at(1);
    const auto copy = [&](std::int64_t row, const TokenPlace& place) {
      auto* values = ids[place.step].mutable_data_ptr<std::int64_t>();
      const auto own_tokens = ids[place.step].size(1);
      for (std::int64_t layer = 0; layer < num_layers; ++layer) {
        for (std::int64_t k = 0; k < top_k; ++k) {
          values[(layer * own_tokens + place.row) * top_k + k] =
              routing.values[static_cast<std::size_t>((layer * tokens + row) * top_k + k)];
        }
      }
    };
    found += places.for_each_in(file, recorded.request_id, recorded.positions, copy);
  }
  places.require_all(found, path, "routing");
  return ids;
}

std::vector<at::Tensor> read_hidden(const std::string& path,
                                    const RankWorkload& workload,
                                    const Model& model,
                                    const Experiment& experiment) {
  const auto& dims = model.dims();
  const std::string dataset = std::string(path::kOutput) + "/hidden";
  std::vector<at::Tensor> hidden;
  for (const auto& step : workload.steps) {
    hidden.push_back(at::empty({step.batch.num_tokens(), dims.hidden}, at::kFloat));
  }
  const TokenPlaces places(workload.steps);
  const PolicyFolder folder(path);
  folder.require_complete();
  std::size_t found = 0;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    check_stage_before(file, experiment);
    const auto rows = file.read_floats(dataset);
    if (rows.shape.at(1) != dims.hidden) {
      throw InputError(file.path().string() + ": " + dataset + " is " +
                       hdf5::to_string(rows.shape) + "; the model's hidden size is " +
                       std::to_string(dims.hidden));
    }
    const auto copy = [&](std::int64_t row, const TokenPlace& place) {
      const auto* first = rows.values.data() + row * dims.hidden;
      std::copy(first,
                first + dims.hidden,
                hidden[place.step].mutable_data_ptr<float>() + place.row * dims.hidden);
    };
    found += places.for_each_in(file, path::kRequestId, path::kPositions, copy);
  }
  places.require_all(found, path, "hidden states");
  for (auto& tensor : hidden) {
    tensor = tensor.to(dims.dtype);
  }
  return hidden;
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

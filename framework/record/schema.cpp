#include "framework/record/schema.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/record/rank_clock.hpp"

namespace dovetail {
namespace {

std::int64_t most_ops(const RankFileSpec& spec) {
  std::int64_t most = spec.max_ops;
  for (const auto& schedule : spec.schedules) {
    most = std::max(most, static_cast<std::int64_t>(schedule.ops.size()));
  }
  return most;
}

std::int64_t length_of(Dimension dimension, const RankFileSpec& spec) {
  if (const auto fixed = fixed_length(dimension, kSchemaVersion)) {
    return *fixed;
  }
  switch (dimension) {
    case Dimension::iteration:
      return spec.iterations;
    case Dimension::step:
      return spec.steps;
    case Dimension::round:
      return spec.rounds;
    case Dimension::clock_point:
      return clock_points(spec.rounds);
    case Dimension::variant:
      return spec.variants;
    case Dimension::profiled_step:
      return spec.profiled;
    case Dimension::op:
      return most_ops(spec);
    case Dimension::token:
      return spec.tokens;
    case Dimension::request_row:
      return spec.requests;
    case Dimension::layer:
      return spec.traffic_layers;
    case Dimension::expert:
      return spec.experts_per_rank;
    case Dimension::reason:
      return std::ssize(names<EagerReason>());
    case Dimension::route_layer:
      return spec.route_layers;
    case Dimension::top_k:
      return spec.route_top_k;
    case Dimension::route_expert:
      return spec.route_experts;
    case Dimension::context_token:
      return spec.context_tokens;
    default:
      throw ContractError("the spec gives no length of " + std::string(to_string(dimension)));
  }
}

hdf5::Shape shape_of(const Dimensions& dimensions, const RankFileSpec& spec) {
  hdf5::Shape shape;
  for (const Dimension dimension : dimensions) {
    shape.push_back(length_of(dimension, spec));
  }
  return shape;
}

void add_outputs(const RankFileSpec& spec, std::vector<DatasetSpec>& all) {
  for (const auto& output : spec.outputs) {
    all.push_back({std::string(path::kOutput) + "/" + output.name, output.dtype, output.shape});
  }
}

bool is_in_file(Presence presence, const RankFileSpec& spec) {
  const bool has_routing = spec.route_layers > 0;
  const bool has_context = has_routing && spec.context_tokens > 0;
  switch (presence) {
    case Presence::always:
      return true;
    case Presence::with_mrope_positions:
      return spec.has_mrope_positions;
    case Presence::with_output:
      return !spec.outputs.empty();
    case Presence::with_routing:
      return has_routing;
    case Presence::with_router_scores:
      return has_routing && spec.has_router_scores;
    case Presence::with_context_router_scores:
      return has_context && spec.has_router_scores;
    case Presence::with_given_routing:
      return has_routing && spec.has_given_routing;
    case Presence::with_context_routing:
      return has_context;
    case Presence::with_given_context_routing:
      return has_context && spec.has_given_context_routing;
  }
  throw ContractError("unknown presence");
}

/// Of a dataset that is no output; nothing for texts and tables.
std::optional<DType> dtype_in(const DatasetRow& row, const RankFileSpec& spec) {
  return row.element == Element::own ? spec.route_dtype : dtype_of(row.element);
}

}  // namespace

RunStatus parse_run_status(const std::string& text, const std::string& file) {
  if (const auto status = parse<RunStatus>(text)) {
    return *status;
  }
  throw InputError(file + ": status '" + printable(text) + "' is none of " +
                   join_names(names<RunStatus>()));
}

std::vector<DatasetSpec> rank_file_datasets(const RankFileSpec& spec) {
  std::vector<DatasetSpec> all;
  bool has_outputs = false;
  for (const DatasetRow& row : kDatasetRows) {
    if (row.presence == Presence::with_output) {
      if (!std::exchange(has_outputs, true)) {  // all of them with the first of their rows
        add_outputs(spec, all);
      }
    } else if (const auto dtype = dtype_in(row, spec); dtype && is_in_file(row.presence, spec)) {
      all.push_back({std::string(row.path), *dtype, shape_of(row.shape, spec)});
    }
  }
  return all;
}

}  // namespace dovetail

#include "framework/compare/not_finite.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/json_number.hpp"
#include "framework/compare/output_names.hpp"
#include "framework/compare/tensor_diff.hpp"

namespace dovetail {
namespace {

/// Requests and positions of the rows of a tensor.
struct RowNames {
  std::vector<std::int64_t> requests;
  std::vector<std::int64_t> positions;
};

RowNames read_names(const RankFile& file, const char* requests, const char* positions) {
  RowNames names{file.read<std::int64_t>(requests).values,
                 file.read<std::int64_t>(positions).values};
  if (names.requests.size() != names.positions.size()) {
    throw InputError(file.path().string() + ": " + requests + " and " + positions +
                     " are not of one length");
  }
  return names;
}

/// Of a row of `size` elements; `size` where all are finite.
template <class T>
std::size_t first_not_finite(std::span<const T> row) {
  const auto found =
      std::find_if(row.begin(), row.end(), [](T value) { return !std::isfinite(value); });
  return static_cast<std::size_t>(found - row.begin());
}

class Finder {
 public:
  explicit Finder(const RankFile& file)
      : file_(file),
        tokens_(read_names(file, path::kRequestId, path::kPositions)),
        requests_(read_names(file, path::kRequests, path::kRequestPosition)) {}

  std::optional<NotFinite> find_in_output(const std::string& name) const {
    const std::string dataset = output_path(name);
    if (!file_.has(dataset) || !is_float(file_.dtype(dataset))) {
      return std::nullopt;
    }
    const auto& rows = has_row_per_request(name) ? requests_ : tokens_;
    const auto bytes = file_.read_bytes(dataset);
    if (rows.requests.empty() || bytes.empty()) {
      return std::nullopt;
    }
    if (file_.shape(dataset).at(0) != std::ssize(rows.requests)) {
      throw InputError(file_.path().string() + ": " + dataset + " has " +
                       counted(file_.shape(dataset).at(0), "row") + " instead of " +
                       std::to_string(rows.requests.size()));
    }
    const std::size_t row_bytes = bytes.size() / rows.requests.size();
    std::vector<double> values;
    for (std::size_t row = 0; row < rows.requests.size(); ++row) {
      decode_row(
          file_.dtype(dataset), std::span(bytes).subspan(row * row_bytes, row_bytes), values);
      if (const auto element = first_not_finite<double>(values); element < values.size()) {
        return found(name, rows, row, element, values[element]);
      }
    }
    return std::nullopt;
  }

  /// A dense layer has no router: its rows hold no logits.
  std::optional<NotFinite> find_in_routing(std::int64_t layer) const {
    if (!file_.has(path::kRouterLogits) || tokens_.requests.empty()) {
      return std::nullopt;
    }
    const auto ids = file_.read<std::int32_t>(path::kExpertIds);
    const auto logits = file_.read_floats(path::kRouterLogits, layer, 1);
    const auto num_rows = tokens_.requests.size();
    const auto top_k = static_cast<std::size_t>(ids.shape.at(2));
    const auto num_experts = logits.values.size() / num_rows;
    for (std::size_t row = 0; row < num_rows; ++row) {
      if (ids.values.at((static_cast<std::size_t>(layer) * num_rows + row) * top_k) < 0) {
        continue;
      }
      const auto values = std::span(logits.values).subspan(row * num_experts, num_experts);
      if (const auto element = first_not_finite<float>(values); element < num_experts) {
        return found(
            "router_logits_" + std::to_string(layer), tokens_, row, element, values[element]);
      }
    }
    return std::nullopt;
  }

 private:
  NotFinite found(const std::string& tensor,
                  const RowNames& rows,
                  std::size_t row,
                  std::size_t element,
                  double value) const {
    return {.tensor = tensor,
            .rank = file_.rank(),
            .request = rows.requests[row],
            .position = rows.positions[row],
            .element = static_cast<std::int64_t>(element),
            .value = value};
  }

  const RankFile& file_;
  RowNames tokens_;
  RowNames requests_;
};

}  // namespace

std::string NotFinite::describe() const {
  return tensor + " of rank " + std::to_string(rank) + ", request " + std::to_string(request) +
         ", position " + std::to_string(position) + ", element " + std::to_string(element) +
         " is " +
         (std::isnan(value) ? "nan"
          : value > 0       ? "inf"
                            : "-inf");
}

std::optional<NotFinite> find_not_finite(const PolicyFolder& folder) {
  std::vector<Finder> ranks;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    ranks.emplace_back(folder.rank(rank));
  }
  const RankFile& first = folder.rank(0);
  auto names = first.outputs();
  sort_by_data_flow(names);
  for (const auto& name : names) {
    for (const auto& rank : ranks) {
      if (auto found = rank.find_in_output(name)) {
        return found;
      }
    }
  }
  const auto num_layers = first.has(path::kRouterLogits) ? first.shape(path::kRouterLogits)[0] : 0;
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    for (const auto& rank : ranks) {
      if (auto found = rank.find_in_routing(layer)) {
        return found;
      }
    }
  }
  return std::nullopt;
}

nlohmann::json to_json(const NotFinite& found) {
  return {{"tensor", found.tensor},
          {"rank", found.rank},
          {"request", found.request},
          {"position", found.position},
          {"element", found.element},
          {"value", json_number(found.value)},
          {"text", found.describe()}};
}

}  // namespace dovetail

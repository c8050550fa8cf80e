// The tensor part of a verification: every output of the baseline, row by matched row.
#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <utility>

#include "framework/base/text.hpp"
#include "framework/compare/output_names.hpp"
#include "framework/compare/table.hpp"
#include "framework/compare/tensor_diff.hpp"
#include "framework/compare/verify_context.hpp"

namespace dovetail::detail {
namespace {

ElementPlace place_of(const TensorDiff::Element& element, const std::vector<MatchedRow>& rows) {
  if (element.row < 0) {
    return {};
  }
  const MatchedRow& row = rows[static_cast<std::size_t>(element.row)];
  return {.policy_rank = row.policy.rank,
          .baseline_rank = row.baseline.rank,
          .request = row.request,
          .position = row.position,
          .column = element.column,
          .policy_value = element.a,
          .baseline_value = element.b};
}

/// One output on every rank of a folder.
using RankBytes = std::vector<std::vector<std::byte>>;

class OutputComparison {
 public:
  explicit OutputComparison(VerifyContext& context)
      : context_(context), baseline_(context.baseline.rank(0)) {
    const auto& tokens = context_.rows.tokens;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      token_at_[{tokens[i].request, tokens[i].position}] = i;
    }
  }

  TensorReport compare(const std::string& name) const {
    const std::string dataset = output_path(name);
    TensorReport tensor;
    tensor.name = name;
    tensor.layer = layer_of(name);
    const DType dtype = baseline_.dtype(dataset);
    tensor.dtype = to_string(dtype);
    if (!context_.exact) {
      tensor.bounds = bounds_of(name, dtype);
    }
    const RankBytes other = read(context_.baseline, name, tensor.problem);
    const RankBytes own =
        tensor.problem.empty() ? read(context_.policy, name, tensor.problem) : RankBytes{};
    if (!tensor.problem.empty()) {
      return tensor;
    }
    hdf5::Shape row_shape = baseline_.shape(dataset);
    row_shape[0] = 1;
    const std::size_t row_bytes =
        static_cast<std::size_t>(hdf5::num_elements(row_shape)) * size_of(dtype);
    const auto row_of = [row_bytes](const RankBytes& ranks, RowPlace place) {
      return std::span(ranks[static_cast<std::size_t>(place.rank)])
          .subspan(static_cast<std::size_t>(place.row) * row_bytes, row_bytes);
    };
    const auto& rows = has_row_per_request(name) ? context_.rows.requests : context_.rows.tokens;
    TensorDiff diff(dtype);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      diff.add_row(static_cast<std::int64_t>(i),
                   row_of(own, rows[i].policy),
                   row_of(other, rows[i].baseline),
                   is_excluded(name, i));
    }
    judge(diff, rows, tensor);
    return tensor;
  }

 private:
  /// Of the coarser of the output's dtype and that of the activations it is computed from; integers
  /// must be equal.
  RowBounds bounds_of(const std::string& name, DType dtype) const {
    if (!is_float(dtype)) {
      return {};
    }
    const std::int64_t layer = layer_of(name);
    const std::int64_t depth = layer < 0 ? context_.num_layers : layer + 1;
    const bool coarser = unit_roundoff(dtype) > unit_roundoff(context_.activation_dtype);
    return row_bounds(coarser ? dtype : context_.activation_dtype,
                      depth,
                      context_.reduction_length,
                      context_.devices,
                      context_.layer_roundings);
  }

  /// Bytes of an output on every rank; fills `problem` where a rank lacks it or its shape or dtype
  /// is not what the baseline's first rank and the rank's own rows ask for.
  RankBytes read(const PolicyFolder& folder, const std::string& name, std::string& problem) const {
    const std::string dataset = output_path(name);
    RankBytes bytes;
    for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
      const RankFile& file = folder.rank(rank);
      const std::string where = " in " + file.path().string();
      if (!file.has(dataset)) {
        problem = "missing" + where;
        return {};
      }
      if (file.dtype(dataset) != baseline_.dtype(dataset)) {
        problem = "dtype " + std::string(to_string(file.dtype(dataset))) + where + " against " +
                  std::string(to_string(baseline_.dtype(dataset))) + " in " +
                  baseline_.path().string();
        return {};
      }
      hdf5::Shape wanted = baseline_.shape(dataset);
      if (!wanted.empty()) {
        wanted[0] = file.shape(has_row_per_request(name) ? path::kRequests : path::kInputIds).at(0);
      }
      if (wanted.empty() || file.shape(dataset) != wanted) {
        problem = "shape " + hdf5::to_string(file.shape(dataset)) + where + " instead of " +
                  hdf5::to_string(wanted);
        return {};
      }
      bytes.push_back(file.read_bytes(dataset));
    }
    return bytes;
  }

  /// Whether the row means something else on each side, because a near tie fell the other way.
  bool is_excluded(const std::string& name, std::size_t row) const {
    const std::int64_t of_name = layer_of(name) >= 0 ? layer_of(name) : context_.num_layers - 1;
    const std::int64_t layer = is_of_cache(name) ? of_name - 1 : of_name;
    if (!has_row_per_request(name)) {
      return context_.excluded_from[row] <= layer;
    }
    const MatchedRow& logits = context_.rows.requests[row];
    const auto token = token_at_.find({logits.request, logits.position});
    return token != token_at_.end() && context_.excluded_from[token->second] <= layer;
  }

  void judge(const TensorDiff& diff,
             const std::vector<MatchedRow>& rows,
             TensorReport& tensor) const {
    tensor.num_rows = diff.num_rows();
    tensor.num_excluded_rows = diff.num_excluded_rows();
    tensor.error = diff.row_error();
    tensor.element_error = diff.element_error();
    tensor.num_different_bits = diff.num_different_bits();
    const bool row_is_worse =
        tensor.error * tensor.bounds.element >= tensor.element_error * tensor.bounds.row;
    tensor.worst = place_of(diff.worst_row().row < 0 ? diff.first_different_bits()
                            : row_is_worse           ? diff.worst_row()
                                                     : diff.worst_element(),
                            rows);
    if (diff.has_non_finite()) {
      tensor.worst = place_of(diff.non_finite(), rows);
      tensor.problem = "not finite: " + tensor.worst.describe();
    } else if (context_.exact && tensor.num_different_bits > 0) {
      tensor.problem = counted(tensor.num_different_bits, "element") +
                       (tensor.num_different_bits == 1 ? " differs" : " differ") +
                       " in bits, the worst at " + tensor.worst.describe();
    } else if (!context_.exact && !(tensor.error <= tensor.bounds.row)) {
      tensor.problem = "row error " + format_error(tensor.error) + " above " +
                       format_error(tensor.bounds.row) + ", at " + tensor.worst.describe();
    } else if (!context_.exact && !(tensor.element_error <= tensor.bounds.element)) {
      tensor.problem = "element error " + format_error(tensor.element_error) + " above " +
                       format_error(tensor.bounds.element) + ", at " + tensor.worst.describe();
    }
  }

  VerifyContext& context_;
  const RankFile& baseline_;
  /// (request, position) -> index into rows.tokens.
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> token_at_;
};

}  // namespace

void compare_outputs(VerifyContext& context) {
  std::vector<std::string> names = context.baseline.rank(0).outputs();
  if (names.empty() || context.rows.tokens.empty()) {
    context.report.verdict = Verdict::not_comparable;
    context.add_problem("nothing to compare: the baseline recorded no " +
                        std::string(names.empty() ? "outputs" : "tokens"));
    return;
  }
  sort_by_data_flow(names);  // the first tensor that differs stands near the cause
  const OutputComparison comparison(context);
  for (const std::string& name : names) {
    TensorReport tensor = comparison.compare(name);
    if (!tensor.problem.empty()) {
      context.add_problem(name + ": " + tensor.problem);
    }
    context.report.tensors.push_back(std::move(tensor));
  }
}

}  // namespace dovetail::detail

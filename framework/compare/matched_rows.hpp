// Which row of which rank holds the same token (or request) in two runs: rows are matched by
// (request id, position), so the grids of the runs may differ.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// A row of a rank's tensors.
struct RowPlace {
  std::int64_t rank = 0;
  std::int64_t row = 0;
};

/// One row in both runs: a token, or the last token of a request in a step.
struct MatchedRow {
  std::int64_t request = 0;
  std::int64_t position = 0;  ///< of the token within its request
  RowPlace policy;
  RowPlace baseline;

  /// "request 3, position 17".
  std::string describe() const;
};

struct MatchedRows {
  std::vector<MatchedRow> tokens;    ///< ascending by (request, position): rows of hidden, layer_*
  std::vector<MatchedRow> contexts;  ///< the same of /context_route
  std::vector<MatchedRow> requests;  ///< ascending by (request, position): rows of logits
  /// What keeps the runs from having the same rows: a row twice or on one side only, another input
  /// id. A sentence each, the first of its kind by name and the number of others.
  std::vector<std::string> problems;
  std::vector<std::string> context_problems;  ///< the same of contexts
};

/// Reads /input of all ranks; every rank must have a file. Throws InputError where lengths in
/// /input contradict one another.
MatchedRows match_rows(const PolicyFolder& policy, const PolicyFolder& baseline);

}  // namespace dovetail

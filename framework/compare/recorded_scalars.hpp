// The scalars of the ranks of a policy (/graph, /memory, /traffic), as summary.json shows them. The
// rows of schema_table.hpp say which there are and how they are joined.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

class RecordedScalars {
 public:
  /// Of no policy: nothing is known.
  RecordedScalars() = default;

  /// Every rank must have a file. `sum`: what a rank did not record counts as none. InputError as
  /// RankFile.
  explicit RecordedScalars(const PolicyFolder& folder);

  /// By the path of its row; -1 = not known.
  std::int64_t at(std::string_view path) const;

  /// Those of a group ("/memory"), each under its own name; null where not known.
  nlohmann::json to_json(std::string_view group) const;

 private:
  std::map<std::string_view, std::int64_t> values_;  ///< by path
};

}  // namespace dovetail

// Recorded outputs that hold NaN or Inf: such an output is broken whatever it is compared with, and
// nothing can be verified against it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// The first element that is not finite: of the outputs in the order of the data flow, of the ranks
/// ascending, of the rows as they are recorded.
struct NotFinite {
  std::string tensor;  ///< as under /output, or "router_logits_<layer>" of /route
  std::int64_t rank = 0;
  std::int64_t request = 0;
  std::int64_t position = 0;  ///< of the token within its request
  std::int64_t element = 0;   ///< of the row
  double value = 0;           ///< NaN, Inf or -Inf

  /// "hidden of rank 1, request 3, position 17, element 5 is nan".
  std::string describe() const;
};

/// Nothing where all recorded outputs and router logits are finite. Reads all of them. Throws
/// InputError where a rank's file is missing, or contradicts itself.
std::optional<NotFinite> find_not_finite(const PolicyFolder& folder);

nlohmann::json to_json(const NotFinite& found);

}  // namespace dovetail

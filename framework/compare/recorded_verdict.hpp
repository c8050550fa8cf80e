// What a run has found out about a policy, as its summary.json says: times of outputs that are
// wrong are no measurement.
#pragma once

#include <filesystem>
#include <string>

namespace dovetail {

struct RecordedVerdict {
  std::string status;   ///< "mismatch" or "not_finite"; empty = nothing speaks against the times
  std::string problem;  ///< why; empty as `status`
  std::string remark;   ///< what else the reader must know: outputs not finite, an injected
                        ///< fault, that another point of the sweep has measured it
};

/// Of a policy folder; all empty where it has no summary.json, or none that can be read.
RecordedVerdict read_recorded_verdict(const std::filesystem::path& policy_folder);

}  // namespace dovetail

// The content of summary.json: one policy folder in one document.
#pragma once

#include <filesystem>
#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "framework/compare/verify.hpp"

namespace dovetail {

struct SummaryOptions {
  /// Of the same run; for speed-up and split tax. Empty = no baseline.
  std::filesystem::path baseline_dir;
  /// The verdict on this policy; nothing = it was not verified.
  std::optional<VerifyReport> verification;
};

/// Identity, versions and environment (the root attributes of rank 0), step statistics, metrics,
/// decisions, traffic with tokens per expert and imbalance (max / mean), verdict. A run that is not
/// complete, or whose verification found a mismatch, has null for all times ("timings": "invalid").
/// Throws InputError where `policy_dir` does not exist or has no rank files.
nlohmann::json policy_summary(const std::filesystem::path& policy_dir,
                              const SummaryOptions& options = {});

}  // namespace dovetail

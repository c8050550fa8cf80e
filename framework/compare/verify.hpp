// Verifies a policy's outputs against a baseline's: two policy folders of HDF5 rank files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/compare/tolerance.hpp"
#include "framework/compare/verify_iterations.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

struct VerifyOptions {
  CompareMode mode = CompareMode::tolerance;
};

/// not_comparable: a folder is no complete result (missing, unreadable, running or failed rank), or
/// nothing was recorded that could be compared. mismatch: both are complete and differ.
enum class Verdict { verified, mismatch, not_comparable };

template <>
struct EnumNames<Verdict> {
  static constexpr std::array<std::string_view, 3> kTable = {
      "verified", "mismatch", "not_comparable"};
};

/// The exit code of `run` and `verify`: 0 verified, 4 mismatch, 2 not comparable.
int exit_code_of(Verdict verdict);

/// One element of a tensor, by name.
struct ElementPlace {
  std::int64_t policy_rank = -1;  ///< -1: no element (e.g. all are equal)
  std::int64_t baseline_rank = -1;
  std::int64_t request = -1;
  std::int64_t position = -1;  ///< first component; -1 for rows of logits
  std::int64_t column = -1;
  double policy_value = 0;
  double baseline_value = 0;

  /// "rank 1, request 3, position 17, element 5: 0.5 against 0.25".
  std::string describe() const;
};

/// The comparison of one output over all ranks.
struct TensorReport {
  std::string name;  ///< as under /output
  std::int64_t layer =
      -1;  ///< of layer_<n>, key_<n>, value_<n>; -1 for what follows the last layer
  std::string dtype;
  std::int64_t num_rows = 0;  ///< compared
  std::int64_t num_excluded_rows = 0;
  double error = 0;          ///< the largest ||a-b|| / ||b|| of a compared row
  double element_error = 0;  ///< the largest |a-b| / max(|b|, rms of b's row)
  RowBounds bounds;          ///< of both; 0 in bitwise mode
  std::int64_t num_different_bits = 0;
  /// The worst element, or that of the worst row, whichever is further from its bound; where all
  /// are equal, the first element whose bits differ.
  ElementPlace worst;
  std::string problem;  ///< empty = passed
};

/// routing_diff.hpp says what is judged and how.
struct RoutingReport {
  RoutingSource source = RoutingSource::natural;  ///< of the policy's experts
  std::int64_t num_judged = 0;                    ///< token-layers, those of contexts included
  std::int64_t num_mismatches = 0;
  std::int64_t num_different = 0;  ///< where the routers chose other experts, as a near tie allows
  std::int64_t num_reordered = 0;
  double max_gap = 0;                   ///< the most that logits of such experts are apart
  double max_gap_share = 0;             ///< of what the bound allows
  double logits_share = 0;              ///< largest error of the logits in units of its bound
  std::int64_t num_context_tokens = 0;  ///< whose routing was judged as well
  double excluded_share = 0;            ///< of the tokens, at the last layer; 0 unless natural
  std::string problem;                  ///< empty = passed
};

struct VerifyReport {
  Verdict verdict = Verdict::not_comparable;
  std::string baseline;  ///< folder
  std::string policy;    ///< folder
  CompareMode mode = CompareMode::tolerance;
  GridRelation grid = GridRelation::same;
  std::string baseline_link = kNoLink;  ///< "none", or how the link was emulated
  std::string policy_link = kNoLink;
  ToleranceRule rule;                 ///< of the activation dtype; used in tolerance mode
  std::vector<std::string> problems;  ///< a sentence each, gravest kind first; empty = verified
  std::string advice;  ///< of a mismatch that cannot be told from what is right, else empty
  std::optional<RoutingReport> routing;        ///< nothing where the baseline recorded none
  std::vector<TensorReport> tensors;           ///< in the order of the data flow
  std::optional<IterationsReport> iterations;  ///< nothing where tensors are not compared
  std::optional<IterationsReport> baseline_iterations;  ///< likewise

  /// The tensor that is furthest beyond (or nearest to) its bound; null without tensors.
  const TensorReport* worst_tensor() const;
};

/// Compares, in this order: completeness of all ranks, digests of weights and inputs, the input
/// rows themselves, routing, outputs, each of whose rows has a bound of its own, and by hashes the
/// iterations whose outputs are not recorded, of both. Rows are matched
/// by (request id, position) over all ranks, so the grids may differ. Every output of the baseline
/// must be in the policy. NaN or Inf anywhere is a mismatch. Problems of the input are reported
/// (Verdict::not_comparable), not thrown.
VerifyReport verify_policies(const std::filesystem::path& baseline_dir,
                             const std::filesystem::path& policy_dir,
                             const VerifyOptions& options = {});

/// "replayed, 12 of 49152 choices differ (by 0.031 at most, 23 % of what rounding allows)".
std::string to_text(const RoutingReport& routing);

/// A few lines for people: verdict, problems, table of tensors, in blocks where it is wider than
/// `width` (0: none is).
std::string to_text(const VerifyReport& report, std::size_t width = 0);

/// Non-finite numbers become text ("nan", "inf").
nlohmann::json to_json(const VerifyReport& report);

}  // namespace dovetail

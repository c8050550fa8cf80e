// The parts of a verification that share state; internal to verify*.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/compare/matched_rows.hpp"
#include "framework/compare/verify.hpp"
#include "framework/record/policy_folder.hpp"

namespace dovetail::detail {

struct VerifyContext {
  const PolicyFolder& baseline;
  const PolicyFolder& policy;
  bool exact = false;  ///< bitwise mode
  VerifyReport& report;
  MatchedRows rows{};
  DType activation_dtype = DType::float32;
  std::int64_t num_layers = 1;
  std::int64_t reduction_length = 0;  ///< of the longest sum of a layer (tolerance.hpp)
  DeviceRelation devices = DeviceRelation::same;
  std::vector<double> layer_roundings{};  ///< by layer, of the baseline (tolerance.hpp)
  /// Per matched token: the first layer whose output is not compared (routing_diff.hpp).
  std::vector<std::int64_t> excluded_from{};

  void add_problem(const std::string& text) { report.problems.push_back(text); }
};

/// Compares /route and fills excluded_from.
void compare_routing(VerifyContext& context);

/// Compares everything under /output.
void compare_outputs(VerifyContext& context);

}  // namespace dovetail::detail

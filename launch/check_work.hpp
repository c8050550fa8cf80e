// What the phases of a step cost, in `dovetail check`.
#pragma once

#include <nlohmann/json.hpp>

#include "framework/run/checked_run.hpp"

namespace dovetail {

using OrderedJson = nlohmann::ordered_json;

/// Of the first step of each policy, on the rank that has most tokens in it: which one, how its
/// tokens are cut, and by phase what PhaseWork has.
OrderedJson describe_work(const CheckedRun& run);

/// A table for each way in which the tokens are cut, to stdout.
void print_work(const OrderedJson& work);

}  // namespace dovetail

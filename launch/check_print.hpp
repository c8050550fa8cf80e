// The tables of `dovetail check`, from the report that --format json prints.
#pragma once

#include <nlohmann/json.hpp>

#include "framework/config/sweep.hpp"

namespace dovetail {

using OrderedJson = nlohmann::ordered_json;

/// The report of one experiment, to stdout.
void print_check(const OrderedJson& report);

/// A line for each point of a sweep, to stdout.
void print_points(const Sweep& sweep, const OrderedJson& points);

}  // namespace dovetail

// What `dovetail compare` says below its tables.
#pragma once

#include <string>

#include "framework/compare/compare.hpp"

namespace dovetail {

/// Whether ops of the policy were timed.
bool has_reasons(const PolicyComparison& policy);

/// The policy's name, told apart from those of other runs.
std::string label_of(const CompareReport& report, const PolicyComparison& policy);

/// A line for each policy that has a note: they are too long for a column.
std::string note_lines(const CompareReport& report);

/// What no table counts, how to get the tables that are missing, and what columns mean.
std::string closing_lines(const CompareReport& report);

}  // namespace dovetail

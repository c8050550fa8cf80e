// What `dovetail compare` says below its tables.
#pragma once

#include <string>
#include <vector>

#include "framework/compare/compare.hpp"

namespace dovetail {

/// Whether ops of the policy were timed.
bool has_reasons(const PolicyComparison& policy);

/// The policy's name, told apart from those of other runs.
std::string label_of(const CompareReport& report, const PolicyComparison& policy);

/// A line for each policy that has notes: they are too long for a column.
std::string note_lines(const CompareReport& report);

/// Where figures are to be taken with care: a sentence each, which names the policies.
std::vector<std::string> warnings_of(const CompareReport& report);

/// What no table counts, the warnings, how to get the tables that are missing, and what columns
/// mean.
std::string closing_lines(const CompareReport& report);

/// What chance alone would claim in so many comparisons, with a line end; empty below two of them.
/// Pure.
std::string chance_line(std::size_t num_comparisons);

/// All that is said of these policies, and not of any: "dual_batch: drift: ..." for each note, the
/// warnings, and `with_advice` what is missing and how to get it.
std::vector<std::string> notes_of(const CompareReport& report, bool with_advice = true);

}  // namespace dovetail

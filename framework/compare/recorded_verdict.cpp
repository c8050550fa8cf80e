#include "framework/compare/recorded_verdict.hpp"

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text_file.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// Null where there is none that can be read.
nlohmann::json read_summary(const std::filesystem::path& policy_folder) {
  const auto file = (policy_folder / kSummaryFileName).string();
  try {
    return parse_strict_json(read_text_file(file, kSummaryText), {.file = file});
  } catch (const InputError&) {
    return {};
  }
}

/// The member, or null where `object` is none or lacks it.
nlohmann::json member(const nlohmann::json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : nlohmann::json();
}

/// The first of a list of texts; empty where there is none.
std::string first_text(const nlohmann::json& list) {
  return list.is_array() && !list.empty() && list.front().is_string()
             ? list.front().get<std::string>()
             : std::string();
}

std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

}  // namespace

RecordedVerdict read_recorded_verdict(const std::filesystem::path& policy_folder) {
  const nlohmann::json summary = read_summary(policy_folder);
  RecordedVerdict verdict;
  const bool is_invalid = text_of(member(summary, "timings")) == "invalid";
  const nlohmann::json verification = member(summary, "verification");
  const auto not_finite = text_of(member(member(summary, "not_finite"), "text"));
  const auto mismatch = text_of(member(verification, "verdict")) == "mismatch"
                            ? first_text(member(verification, "problems"))
                            : first_text(member(member(summary, "iterations"), "problems"));
  if (is_invalid && !mismatch.empty()) {
    verdict.status = "mismatch";
    verdict.problem = "does not equal its baseline, or itself: " + mismatch;
  } else if (is_invalid && !not_finite.empty()) {
    verdict.status = "not_finite";
    verdict.problem = "not finite: " + not_finite;
  } else if (!not_finite.empty()) {
    verdict.remark = "not finite: " + not_finite;
  }
  const auto fault = text_of(member(summary, "fault"));
  if (!fault.empty() && fault != kNoFault) {
    verdict.remark += (verdict.remark.empty() ? "" : "; ") + ("no measurement: fault " + fault);
  }
  if (const nlohmann::json point = member(summary, "measured_in_point");
      point.is_number_unsigned()) {
    verdict.remark += (verdict.remark.empty() ? "" : "; ") + ("measured in point " + point.dump());
  }
  return verdict;
}

}  // namespace dovetail

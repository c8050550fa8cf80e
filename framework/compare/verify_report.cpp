// A verification report as text and as JSON.
#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "framework/base/text.hpp"
#include "framework/compare/json_number.hpp"
#include "framework/compare/quantities.hpp"
#include "framework/compare/table.hpp"
#include "framework/compare/verify.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

std::string print_value(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "%.9g", value);
  return buffer;
}

constexpr double kWorst = std::numeric_limits<double>::infinity();

/// How far beyond its bounds a tensor is; comparable between tensors.
double severity(const TensorReport& tensor) {
  if (tensor.bounds.row == 0) {  // bitwise, or integers
    return tensor.problem.empty() ? 0.0 : kWorst;
  }
  const double severity =
      std::max(tensor.error / tensor.bounds.row, tensor.element_error / tensor.bounds.element);
  if (!tensor.problem.empty() && !(severity > 1)) {
    return kWorst;  // missing, not finite, of another shape: worse than any number
  }
  return severity;
}

std::string routing_line(const RoutingReport& routing) {
  return "routing: " + to_text(routing) + ", " + std::to_string(routing.num_mismatches) +
         " wrong, " + std::to_string(routing.num_reordered) + " in another order, logits within " +
         format_percent(routing.logits_share) + " of their bound" +
         (routing.num_context_tokens > 0
              ? ", " + counted(routing.num_context_tokens, "token") + " of contexts included"
              : "") +
         (routing.source == RoutingSource::natural
              ? ", " + format_percent(routing.excluded_share) + " of the tokens excluded"
              : "") +
         "\n";
}

Json place_json(const ElementPlace& place) {
  if (place.policy_rank < 0) {
    return nullptr;
  }
  return {{"rank", place.policy_rank},
          {"baseline_rank", place.baseline_rank},
          {"request", place.request},
          {"position", place.position},
          {"element", place.column},
          {"policy_value", json_number(place.policy_value)},
          {"baseline_value", json_number(place.baseline_value)}};
}

}  // namespace

std::string ElementPlace::describe() const {
  if (policy_rank < 0) {
    return "no element";
  }
  return "rank " + std::to_string(policy_rank) + ", request " + std::to_string(request) +
         (position >= 0 ? ", position " + std::to_string(position) : "") + ", element " +
         std::to_string(column) + ": " + print_value(policy_value) + " against " +
         print_value(baseline_value);
}

const TensorReport* VerifyReport::worst_tensor() const {
  const auto worst =
      std::max_element(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
        return severity(a) < severity(b);
      });
  return worst == tensors.end() ? nullptr : &*worst;
}

std::string to_text(const RoutingReport& routing) {
  std::string text = std::string(to_string(routing.source)) + ", " +
                     std::to_string(routing.num_different) + " of " +
                     std::to_string(routing.num_judged) + " choices differ";
  if (routing.num_different > 0) {
    char gap[80];
    std::snprintf(gap,
                  sizeof(gap),
                  " (by %.2g at most, %.0f %% of what rounding allows)",
                  routing.max_gap,
                  100 * routing.max_gap_share);
    text += gap;
  }
  return text;
}

std::string to_text(const VerifyReport& report, std::size_t width) {
  std::string text = std::string(to_string(report.verdict)) + ": " + report.policy + " against " +
                     report.baseline + " (" + std::string(to_string(report.mode)) + ", " +
                     (report.grid == GridRelation::same ? "same" : "different") + " grid)\n";
  if (report.policy_link != kNoLink || report.baseline_link != kNoLink) {
    text += "link " + report.policy_link + ", of the baseline " + report.baseline_link + "\n";
  }
  for (const std::string& problem : report.problems) {
    text += "  " + problem + "\n";
  }
  if (!report.advice.empty()) {
    text += "  " + report.advice + "\n";
  }
  if (report.routing.has_value()) {
    text += routing_line(*report.routing);
  }
  if (report.iterations.has_value()) {
    text += to_text(*report.iterations);
  }
  if (report.tensors.empty()) {
    return text;
  }
  TextTable table(columns_of(Report::verify));
  for (const TensorReport& tensor : report.tensors) {
    table.add_row({tensor.name,
                   tensor.dtype,
                   std::to_string(tensor.num_rows),
                   std::to_string(tensor.num_excluded_rows),
                   format_error(tensor.error),
                   format_error(tensor.bounds.row),
                   format_error(tensor.element_error),
                   format_error(tensor.bounds.element),
                   std::to_string(tensor.num_different_bits),
                   tensor.worst.policy_rank < 0 ? "-" : tensor.worst.describe(),
                   tensor.problem.empty() ? "ok" : "MISMATCH"});
  }
  text += table.to_string(width);
  if (report.mode == CompareMode::tolerance && !report.rule.reason.empty()) {
    text += "rule: " + report.rule.reason + "\n";
  }
  return text;
}

nlohmann::json to_json(const VerifyReport& report) {
  Json json = {{"verdict", to_string(report.verdict)},
               {"baseline", report.baseline},
               {"policy", report.policy},
               {"mode", to_string(report.mode)},
               {"grid", report.grid == GridRelation::same ? "same" : "different"},
               {"link", report.policy_link},
               {"baseline_link", report.baseline_link},
               {"problems", report.problems},
               {"advice", report.advice},
               {"tensors", Json::array()}};
  if (report.mode == CompareMode::tolerance) {
    json["rule"] = {{"max_error", report.rule.bounds.row},
                    {"max_element_error", report.rule.bounds.element},
                    {"max_excluded_share", report.rule.max_excluded_share},
                    {"reason", report.rule.reason}};
  }
  for (const TensorReport& tensor : report.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"dtype", tensor.dtype},
                               {"rows", tensor.num_rows},
                               {"excluded_rows", tensor.num_excluded_rows},
                               {"error", json_number(tensor.error)},
                               {"max_error", json_number(tensor.bounds.row)},
                               {"element_error", json_number(tensor.element_error)},
                               {"max_element_error", json_number(tensor.bounds.element)},
                               {"different_bits", tensor.num_different_bits},
                               {"worst", place_json(tensor.worst)},
                               {"passed", tensor.problem.empty()},
                               {"problem", tensor.problem}});
  }
  json["iterations"] = report.iterations ? to_json(*report.iterations) : Json(nullptr);
  json["baseline_iterations"] =
      report.baseline_iterations ? to_json(*report.baseline_iterations) : Json(nullptr);
  const TensorReport* worst = report.worst_tensor();
  json["worst_tensor"] = worst == nullptr ? Json(nullptr) : Json(worst->name);
  if (report.routing.has_value()) {
    const RoutingReport& routing = *report.routing;
    json["routing"] = {{"source", to_string(routing.source)},
                       {"judged_token_layers", routing.num_judged},
                       {"context_tokens", routing.num_context_tokens},
                       {"wrong", routing.num_mismatches},
                       {"different", routing.num_different},
                       {"reordered", routing.num_reordered},
                       {"max_gap", json_number(routing.max_gap)},
                       {"max_gap_share", json_number(routing.max_gap_share)},
                       {"logits_share", json_number(routing.logits_share)},
                       {"excluded_share", routing.excluded_share},
                       {"passed", routing.problem.empty()},
                       {"problem", routing.problem}};
  }
  return json;
}

}  // namespace dovetail

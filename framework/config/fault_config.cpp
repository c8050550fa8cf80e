#include "framework/config/fault_config.hpp"

#include "framework/config/map_reader.hpp"
#include "framework/config/write_value.hpp"

namespace dovetail {

/// `policy: ""` states that none is named.
void FaultConfig::read_policy(const MapReader& map, FaultConfig& fault) {
  const Located value = map.at("policy");
  if (value.node->kind != YamlNode::Kind::scalar || !value.node->text.empty()) {
    fault.policy = value.as_text("the name of a policy");
  }
}

std::string FaultConfig::write_policy(const FaultConfig& fault) {
  return write_value(fault.policy);
}

std::vector<std::string> silent_fault_names() {
  std::vector<std::string> all;
  for (const auto name : names<FaultKind>()) {
    if (is_silent(*parse<FaultKind>(name))) {
      all.emplace_back(name);
    }
  }
  return all;
}

std::vector<std::string> fault_phases(FaultKind kind) {
  switch (kind) {
    case FaultKind::skipped_wait:
      return {"attention", "dispatch", "experts", "combine", "output"};
    case FaultKind::stale_buffer:
    case FaultKind::early_reuse:
      return {"dispatch", "combine"};
    case FaultKind::swapped_tokens:
      return {"combine"};
    case FaultKind::flipped_element:
      return {"embed", "attention", "route", "shared_experts", "combine", "mlp", "output"};
    case FaultKind::wrong_expert:
      return {"route", "dispatch"};
    case FaultKind::dropped_weight:
      return {"route"};
    case FaultKind::stale_kv:
      return {"attention"};
    case FaultKind::wrong_position:
      return {"embed"};
    case FaultKind::exception:
    case FaultKind::hang:
    case FaultKind::slow:
    case FaultKind::kill:
    case FaultKind::veto:
    case FaultKind::capture:
    case FaultKind::delay:
      break;
  }
  return {};
}

std::string describe(const FaultConfig& fault) {
  const auto kind = fault.kind;
  std::string text = std::string(to_string(kind)) + " at rank " + std::to_string(fault.rank);
  if (kind != FaultKind::veto) {
    text += ", ubatch " + std::to_string(fault.ubatch);
    text += fault.layer < 0 ? "" : ", layer " + std::to_string(fault.layer);
    text += ", phase " + fault.phase;
    text += fault.group > 0 ? ", group " + std::to_string(fault.group) : "";
  }
  if (kind == FaultKind::delay) {
    return text + ", every step, " + std::to_string(fault.delay_us) + " us";
  }
  text += ", iteration " + std::to_string(fault.iteration);
  const bool is_of_a_token = is_data_fault(kind) && kind != FaultKind::skipped_wait &&
                             kind != FaultKind::stale_buffer && kind != FaultKind::early_reuse;
  if (is_of_a_token) {
    text += ", token " + std::to_string(fault.token);
  }
  if (kind == FaultKind::wrong_expert || kind == FaultKind::dropped_weight) {
    text += fault.choice < 0 ? ", last choice" : ", choice " + std::to_string(fault.choice);
  }
  if (kind == FaultKind::flipped_element) {
    text += fault.element < 0 ? ", largest element" : ", element " + std::to_string(fault.element);
  }
  return text;
}

bool hits(const FaultConfig& fault, std::string_view policy, std::string_view baseline) {
  if (!fault.policy.empty()) {
    return fault.policy == policy;
  }
  return !is_data_fault(fault.kind) || baseline.empty() || policy != baseline;
}

}  // namespace dovetail

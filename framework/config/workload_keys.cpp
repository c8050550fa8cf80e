// The values of `workload` that are no plain ones: requests, inputs, rank_scale and routing.
#include <optional>
#include <string_view>

#include "framework/config/key_table.hpp"
#include "framework/config/workload_config.hpp"

namespace dovetail {
namespace {

using Names = std::vector<std::string_view>;

RequestLengths read_lengths(const Located& value, WorkPhase phase) {
  const MapReader map(value, {"lengths", "context_lengths"});
  RequestLengths requests;
  if (map.has("context_lengths")) {
    requests.context_lengths = map.at("context_lengths").as_counts(0, Limits::kTokens);
  }
  if (phase == WorkPhase::decode && !map.has("lengths")) {
    requests.lengths.assign(requests.context_lengths.size(), 1);
    return requests;
  }
  requests.lengths = map.at("lengths").as_counts(1, Limits::kTokens);
  if (map.has("context_lengths") && requests.context_lengths.size() != requests.lengths.size()) {
    map.at("context_lengths")
        .fail("as many context lengths as lengths, " + std::to_string(requests.lengths.size()));
  }
  return requests;
}

/// In decode the lengths that are drawn are context lengths, so there is no other.
Names lognormal_names(WorkPhase phase) {
  Names names = keys_of<LognormalRequests>().names();
  if (phase == WorkPhase::decode) {
    std::erase(names, "context_length");
  }
  return names;
}

RequestGroup read_group(const Located& value, WorkPhase phase) {
  const auto& uniform = keys_of<UniformRequests>();
  Names names = uniform.names();
  names.insert(names.end(), {"lengths", "context_lengths", "lognormal", "file"});
  const MapReader map(value, names);
  if (map.has("lengths") || map.has("context_lengths")) {
    return read_lengths(value, phase);
  }
  if (map.has("lognormal") || map.has("file")) {
    if (map.only_key() == "file") {
      return RequestFile{map.at("file").as_text("the path of a file of requests")};
    }
    LognormalRequests requests;
    keys_of<LognormalRequests>().read(MapReader(map.at("lognormal"), lognormal_names(phase)),
                                      requests);
    return requests;
  }
  UniformRequests requests;
  uniform.read(value, requests);
  if (phase != WorkPhase::decode) {
    map.at("length");  // must be there
  }
  return requests;
}

struct WriteGroup {
  WorkPhase phase = WorkPhase::prefill;

  std::string operator()(const UniformRequests& requests) const {
    return keys_of<UniformRequests>().write_one_line(requests);
  }

  std::string operator()(const RequestLengths& requests) const {
    const std::string contexts =
        requests.context_lengths.empty()
            ? ""
            : ", context_lengths: " + write_value(requests.context_lengths);
    return "{lengths: " + write_value(requests.lengths) + contexts + "}";
  }

  std::string operator()(const LognormalRequests& requests) const {
    const auto& keys = keys_of<LognormalRequests>();
    return "{lognormal: " + keys.write_one_line(requests, lognormal_names(phase)) + "}";
  }

  std::string operator()(const RequestFile& requests) const {
    return "{file: " + write_value(requests.path) + "}";
  }
};

struct WriteRouting {
  std::string operator()(const NaturalRouting& /*routing*/) const { return "natural"; }

  std::string operator()(const BalancedRouting& /*routing*/) const { return "balanced"; }

  std::string operator()(const ZipfRouting& routing) const {
    return "{zipf: " + write_value(routing.exponent) + "}";
  }

  std::string operator()(const ReplayRouting& routing) const {
    return "{replay: " + write_value(routing.folder) + "}";
  }
};

}  // namespace

void WorkloadConfig::read_requests(const MapReader& map, WorkloadConfig& workload) {
  const Located value = map.at("requests");
  workload.requests.clear();
  if (value.node->kind != YamlNode::Kind::sequence) {
    workload.requests.push_back(read_group(value, workload.phase));
    return;
  }
  const std::string expected = "a group of requests or a list of at least one group";
  for (const Located& item : value.items(expected)) {
    workload.requests.push_back(read_group(item, workload.phase));
    if (item.node->find("file") != nullptr) {
      item.fail("a group of requests other than a file, which is alone");
    }
  }
  if (workload.requests.empty()) {
    value.fail(expected);
  }
}

std::string WorkloadConfig::write_requests(const WorkloadConfig& workload) {
  std::string text;
  for (const RequestGroup& group : workload.requests) {
    text += (text.empty() ? "" : ", ") + std::visit(WriteGroup{workload.phase}, group);
  }
  return workload.requests.size() == 1 ? text : "[" + text + "]";
}

void WorkloadConfig::read_inputs(const MapReader& map, WorkloadConfig& workload) {
  const Located value = map.at("inputs");
  if (value.node->kind == YamlNode::Kind::map) {
    const MapReader hidden(value, {"hidden"});
    workload.inputs = {InputKind::hidden,
                       hidden.at("hidden").as_text("the folder of a policy's results")};
    return;
  }
  const auto kind = value.node->kind == YamlNode::Kind::scalar ? parse<InputKind>(value.node->text)
                                                               : std::nullopt;
  if (!kind || *kind == InputKind::hidden) {
    value.fail("one of ids, embeds, {hidden: policy folder}");
  }
  workload.inputs = {*kind, ""};
}

std::string WorkloadConfig::write_inputs(const WorkloadConfig& workload) {
  const InputsConfig& inputs = workload.inputs;
  return inputs.kind == InputKind::hidden ? "{hidden: " + write_value(inputs.folder) + "}"
                                          : write_value(inputs.kind);
}

void WorkloadConfig::read_rank_scale(const MapReader& map, WorkloadConfig& workload) {
  workload.rank_scale.clear();
  for (const Located& item : map.at("rank_scale").items("a list of numbers, one a rank")) {
    workload.rank_scale.push_back(item.as_number(0.0, 1000.0));
  }
}

std::string WorkloadConfig::write_rank_scale(const WorkloadConfig& workload) {
  return write_value(workload.rank_scale);
}

void WorkloadConfig::read_routing(const MapReader& map, WorkloadConfig& workload) {
  const Located value = map.at("routing");
  if (value.is_word("natural")) {
    workload.routing = NaturalRouting{};
    return;
  }
  if (value.is_word("balanced")) {
    workload.routing = BalancedRouting{};
    return;
  }
  if (value.node->kind != YamlNode::Kind::map) {
    value.fail("one of natural, balanced, {zipf: exponent}, {replay: policy folder}");
  }
  const MapReader routing(value, {"zipf", "replay"});
  if (routing.only_key() == "zipf") {
    workload.routing = ZipfRouting{routing.at("zipf").as_number(0.0, 100.0)};
  } else {
    workload.routing =
        ReplayRouting{routing.at("replay").as_text("the folder of a policy's results")};
  }
}

std::string WorkloadConfig::write_routing(const WorkloadConfig& workload) {
  return std::visit(WriteRouting{}, workload.routing);
}

}  // namespace dovetail

#include <optional>
#include <string_view>

#include "framework/config/read_parts.hpp"

namespace dovetail {
namespace {

constexpr double kMaxNumber = 1e6;

RequestGroup read_lognormal(const Located& value, WorkPhase phase) {
  const bool of_contexts = phase == WorkPhase::decode;
  const MapReader map(value,
                      of_contexts
                          ? std::vector<std::string_view>{"count", "median", "sigma", "max_length"}
                          : std::vector<std::string_view>{
                                "count", "median", "sigma", "max_length", "context_length"});
  LognormalRequests requests;
  requests.count = map.at("count").as_int(1, kMaxCount);
  requests.median = map.at("median").as_number(1.0, kMaxNumber);
  requests.sigma = map.at("sigma").as_number(0.0, 10.0);
  map.read_int("max_length", requests.max_length, 0, kMaxTokens);
  map.read_int("context_length", requests.context_length, 0, kMaxTokens);
  return requests;
}

RequestGroup read_lengths(const Located& value, WorkPhase phase) {
  const MapReader map(value, {"lengths", "context_lengths"});
  RequestLengths requests;
  if (map.has("context_lengths")) {
    requests.context_lengths = read_counts(map.at("context_lengths"), 0);
  }
  if (phase == WorkPhase::decode && !map.has("lengths")) {
    requests.lengths.assign(requests.context_lengths.size(), 1);
    return requests;
  }
  requests.lengths = read_counts(map.at("lengths"), 1);
  if (map.has("context_lengths") && requests.context_lengths.size() != requests.lengths.size()) {
    map.at("context_lengths")
        .fail("as many context lengths as lengths, " + std::to_string(requests.lengths.size()));
  }
  return requests;
}

RequestGroup read_uniform(const Located& value, WorkPhase phase) {
  const MapReader map(value, {"count", "length", "context_length"});
  UniformRequests requests;
  requests.count = map.at("count").as_int(1, kMaxCount);
  if (phase != WorkPhase::decode) {
    map.at("length");  // must be there
  }
  map.read_int("length", requests.length, 1, kMaxTokens);
  map.read_int("context_length", requests.context_length, 0, kMaxTokens);
  return requests;
}

RequestGroup read_group(const Located& value, WorkPhase phase) {
  const MapReader map(
      value,
      {"count", "length", "context_length", "lengths", "context_lengths", "lognormal", "file"});
  if (map.has("lengths") || map.has("context_lengths")) {
    return read_lengths(value, phase);
  }
  if (map.has("lognormal") || map.has("file")) {
    if (map.only_key() == "lognormal") {
      return read_lognormal(map.at("lognormal"), phase);
    }
    return RequestFile{map.at("file").as_text("the path of a file of requests")};
  }
  return read_uniform(value, phase);
}

RequestsConfig read_requests(const Located& value, WorkPhase phase) {
  if (value.node->kind != YamlNode::Kind::sequence) {
    return {read_group(value, phase)};
  }
  const std::string expected = "a group of requests or a list of at least one group";
  RequestsConfig groups;
  for (const Located& item : value.items(expected)) {
    groups.push_back(read_group(item, phase));
    if (std::holds_alternative<RequestFile>(groups.back()) || item.node->find("file") != nullptr) {
      item.fail("a group of requests other than a file, which is alone");
    }
  }
  if (groups.empty()) {
    value.fail(expected);
  }
  return groups;
}

InputsConfig read_inputs(const Located& value) {
  if (value.node->kind == YamlNode::Kind::map) {
    const MapReader map(value, {"hidden"});
    return {InputKind::hidden, map.at("hidden").as_text("the folder of a policy's results")};
  }
  const auto kind = value.node->kind == YamlNode::Kind::scalar ? parse<InputKind>(value.node->text)
                                                               : std::nullopt;
  if (!kind || *kind == InputKind::hidden) {
    value.fail("one of ids, embeds, {hidden: policy folder}");
  }
  return {*kind, ""};
}

RoutingConfig read_routing(const Located& value) {
  if (value.is_word("natural")) {
    return NaturalRouting{};
  }
  if (value.is_word("balanced")) {
    return BalancedRouting{};
  }
  if (value.node->kind != YamlNode::Kind::map) {
    value.fail("one of natural, balanced, {zipf: exponent}, {replay: policy folder}");
  }
  const MapReader map(value, {"zipf", "replay"});
  if (map.only_key() == "zipf") {
    return ZipfRouting{map.at("zipf").as_number(0.0, 100.0)};
  }
  return ReplayRouting{map.at("replay").as_text("the folder of a policy's results")};
}

}  // namespace

void read_workload(const Located& value, WorkloadConfig& workload) {
  const MapReader map(value,
                      {"phase",
                       "requests",
                       "seed",
                       "inputs",
                       "positions",
                       "rank_scale",
                       "routing",
                       "context",
                       "steps"});
  map.read_choice("phase", workload.phase);
  workload.requests = read_requests(map.at("requests"), workload.phase);
  map.read_unsigned("seed", workload.seed);
  if (map.has("inputs")) {
    workload.inputs = read_inputs(map.at("inputs"));
  }
  map.read_choice("positions", workload.positions);
  if (map.has("rank_scale")) {
    for (const Located& item : map.at("rank_scale").items("a list of numbers, one a rank")) {
      workload.rank_scale.push_back(item.as_number(0.0, 1000.0));
    }
  }
  if (map.has("routing")) {
    workload.routing = read_routing(map.at("routing"));
  }
  map.read_choice("context", workload.context);
  map.read_int("steps", workload.steps, 1, kMaxCount);
}

std::vector<std::int64_t> read_counts(const Located& value, std::int64_t min) {
  std::vector<std::int64_t> counts;
  const auto items = value.items("a list of whole numbers");
  if (items.empty()) {
    fail_at(value.node->mark, value.path + ": an empty list; allowed: at least one whole number");
  }
  counts.reserve(items.size());
  for (const Located& item : items) {
    counts.push_back(item.as_int(min, kMaxTokens));
  }
  return counts;
}

}  // namespace dovetail

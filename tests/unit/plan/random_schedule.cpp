#include "tests/unit/plan/random_schedule.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>
#include <tuple>

#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"

namespace dovetail::testing {
namespace {

int pick(std::mt19937_64& random, int below) {
  return static_cast<int>(random() % static_cast<std::uint64_t>(below));
}

/// The phases of one ubatch as a chain, with the shared experts beside it: (layer, phase) and the
/// positions that must come first.
struct Node {
  int layer = kNoLayer;
  Phase phase = Phase::embed;
  int group = kNoGroup;
  std::vector<std::size_t> needs;
};

std::vector<Node> nodes_of(const std::vector<LayerShape>& layers, int num_groups) {
  std::vector<Node> nodes = {{kNoLayer, Phase::embed, kNoGroup, {}}};
  std::vector<std::size_t> ends = {0};
  const auto add =
      [&](int layer, Phase phase, const std::vector<std::size_t>& needs, int group = kNoGroup) {
        nodes.push_back({layer, phase, group, needs});
        return nodes.size() - 1;
      };
  for (int l = 0; l < static_cast<int>(layers.size()); ++l) {
    const auto& shape = layers[static_cast<std::size_t>(l)];
    const auto attention = add(l, Phase::attention, ends);
    if (!shape.is_moe) {
      ends = {add(l, Phase::mlp, {attention})};
      continue;
    }
    const auto route = add(l, Phase::route, {attention});
    std::array<std::vector<std::size_t>, 3> before = {{{route}, {}, {}}};  // of the group before
    for (int g = 0; g < num_groups; ++g) {
      const int group = num_groups > 1 ? g : kNoGroup;
      const auto dispatch = add(l, Phase::dispatch, before[0], group);
      before[1].push_back(dispatch);
      const auto experts = add(l, Phase::experts, before[1], group);
      before[2].push_back(experts);
      before = {{{dispatch}, {experts}, {add(l, Phase::combine, before[2], group)}}};
    }
    ends = before[2];
    if (shape.has_shared_experts) {
      ends.push_back(add(l, Phase::shared_experts, {route}));
    }
  }
  add(kNoLayer, Phase::output, ends);
  return nodes;
}

}  // namespace

std::uint64_t fresh_seed() {
  const char* given = std::getenv("DOVETAIL_TEST_SEED");  // NOLINT(concurrency-mt-unsafe)
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "DOVETAIL_TEST_SEED=" << seed << std::endl;  // NOLINT(performance-avoid-endl)
  return seed;
}

std::vector<std::vector<LayerShape>> layer_mixes() {
  return {{},
          {kDense},
          {kMoe},
          {kShared},
          {kMoe, kMoe},
          {kDense, kMoe, kShared},
          {kShared, kDense, kDense},
          {kShared, kShared}};
}

std::vector<Schedule> all_policy_schedules(const std::vector<LayerShape>& layers) {
  std::vector<Schedule> schedules;
  for (const auto& name : policies().names()) {
    if (name == "auto") {  // the schedules of other policies
      continue;
    }
    const Policy& policy = policies().at(name);
    for (int n = policy.min_ubatches; n <= policy.max_ubatches; ++n) {
      for (const int groups : {1, 2, 3, 8}) {
        if (groups <= policy.max_groups) {
          schedules.push_back(policy.make_schedule({{layers}, WorkPhase::prefill, n, {}, groups}));
        }
      }
    }
  }
  return schedules;
}

Schedule random_schedule(std::mt19937_64& random) {
  Schedule schedule{"random", 1 + pick(random, kMaxUbatches), {}, {}};
  for (int i = pick(random, 4); i > 0; --i) {
    schedule.layers.push_back(
        std::vector{kDense, kMoe, kShared}.at(static_cast<std::size_t>(pick(random, 3))));
  }
  schedule.num_groups = std::max(1, pick(random, 6) - 2);
  const auto nodes = nodes_of(schedule.layers, schedule.num_groups);
  const int lane_rule = pick(random, 3);  // exchange on compute, on comm, on either
  const auto num_ubatches = static_cast<std::size_t>(schedule.num_ubatches);
  std::vector<std::vector<int>> op_of(num_ubatches, std::vector<int>(nodes.size(), -1));
  int last_exchange = -1;
  while (schedule.ops.size() < num_ubatches * nodes.size()) {
    const auto u = static_cast<std::size_t>(pick(random, schedule.num_ubatches));
    const auto n = static_cast<std::size_t>(pick(random, static_cast<int>(nodes.size())));
    const Node& node = nodes[n];
    const auto added = [&](std::size_t ubatch, std::size_t which) {
      return op_of[ubatch][which] >= 0;
    };
    const bool ready = std::all_of(
        node.needs.begin(), node.needs.end(), [&](std::size_t need) { return added(u, need); });
    if (added(u, n) || !ready || (node.phase == Phase::attention && u > 0 && !added(u - 1, n))) {
      continue;
    }
    Op op{node.layer, static_cast<int>(u), node.phase, Lane::compute, {}, node.group};
    if (is_exchange(op.phase) && (lane_rule == 1 || (lane_rule == 2 && pick(random, 2) == 0))) {
      op.lane = Lane::comm;
    }
    std::set<int> waits;
    const auto other_lane = [&](int index) {
      return schedule.ops[static_cast<std::size_t>(index)].lane != op.lane;
    };
    for (const std::size_t need : node.needs) {
      if (other_lane(op_of[u][need])) {
        waits.insert(op_of[u][need]);
      }
    }
    if (is_exchange(op.phase)) {
      if (last_exchange >= 0 && other_lane(last_exchange)) {
        waits.insert(last_exchange);
      }
      last_exchange = static_cast<int>(schedule.ops.size());
    }
    if (!schedule.ops.empty() && pick(random, 4) == 0) {
      waits.insert(pick(random, static_cast<int>(schedule.ops.size())));
    }
    op.waits.assign(waits.begin(), waits.end());
    op_of[u][n] = static_cast<int>(schedule.ops.size());
    schedule.ops.push_back(std::move(op));
  }
  return schedule;
}

Schedule random_lean_schedule(std::mt19937_64& random) {
  Schedule schedule = random_schedule(random);
  for (Op& op : schedule.ops) {
    const auto waits = op.waits;
    for (const int wait : waits) {
      std::erase(op.waits, wait);
      if (!schedule_errors(schedule).empty()) {
        op.waits.push_back(wait);
        std::sort(op.waits.begin(), op.waits.end());
      }
    }
  }
  return schedule;
}

}  // namespace dovetail::testing

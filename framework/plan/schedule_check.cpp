#include "framework/plan/schedule_check.hpp"

#include <algorithm>
#include <cstddef>

#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"
#include "framework/base/types.hpp"
#include "framework/plan/dependency.hpp"
#include "framework/plan/happens_before.hpp"

namespace dovetail {
namespace {

/// Where each op of the model stands in the schedule.
class OpTable {
 public:
  explicit OpTable(const Schedule& schedule)
      : num_layers_(static_cast<int>(schedule.layers.size())),
        num_ubatches_(schedule.num_ubatches),
        num_groups_(schedule.num_groups),
        indices_((schedule.layers.size() + 1) * kNumPhases *
                     static_cast<std::size_t>(schedule.num_ubatches) *
                     static_cast<std::size_t>(schedule.num_groups),
                 kNoSuchOp) {
    for (int ubatch = 0; ubatch < num_ubatches_; ++ubatch) {
      at({kNoLayer, Phase::embed}, ubatch) = kMissing;
      at({kNoLayer, Phase::output}, ubatch) = kMissing;
      for (int layer = 0; layer < num_layers_; ++layer) {
        for (const Phase phase : phases_of(schedule.layers[static_cast<std::size_t>(layer)])) {
          for (int i = 0; i < num_ops_of(phase, num_groups_); ++i) {
            at({layer, phase, group_at(i, num_groups_)}, ubatch) = kMissing;
          }
        }
      }
    }
  }

  static constexpr int kMissing = -1;
  static constexpr int kNoSuchOp = -2;

  bool in_range(const Op& op) const {
    const auto phase = static_cast<int>(op.phase);
    const bool is_in_range = op.layer >= kNoLayer && op.layer < num_layers_ && op.ubatch >= 0 &&
                             op.ubatch < num_ubatches_ && phase >= 0 && phase < kNumPhases;
    const bool is_of_group = num_groups_ > 1 && has_groups(op.phase);
    return is_in_range &&
           (is_of_group ? op.group >= 0 && op.group < num_groups_ : op.group == kNoGroup);
  }

  int& at(const LayerPhase& what, int ubatch) {
    const auto row = static_cast<std::size_t>(what.layer + 1) * kNumPhases +
                     static_cast<std::size_t>(what.phase);
    const auto of_ubatch =
        row * static_cast<std::size_t>(num_ubatches_) + static_cast<std::size_t>(ubatch);
    return indices_.at(of_ubatch * static_cast<std::size_t>(num_groups_) +
                       static_cast<std::size_t>(std::max(what.group, 0)));
  }

  /// Calls visit(layer_phase, ubatch, index) for every op of the model.
  template <class Visit>
  void for_each(const Visit& visit) {
    for (int layer = kNoLayer; layer < num_layers_; ++layer) {
      for (int i = 0; i < kNumPhases; ++i) {
        const auto phase = static_cast<Phase>(i);
        for (int ubatch = 0; ubatch < num_ubatches_; ++ubatch) {
          for (int k = 0; k < num_ops_of(phase, num_groups_); ++k) {
            const LayerPhase what = {
                layer, phase, has_groups(phase) ? group_at(k, num_groups_) : kNoGroup};
            if (const int index = at(what, ubatch); index != kNoSuchOp) {
              visit(what, ubatch, index);
            }
          }
        }
      }
    }
  }

 private:
  int num_layers_;
  int num_ubatches_;
  int num_groups_;
  std::vector<int> indices_;
};

LayerPhase layer_phase(const Op& op) {
  return {op.layer, op.phase, op.group};
}

void check_waits(const Op& op, int index, std::vector<std::string>& errors) {
  for (std::size_t i = 0; i < op.waits.size(); ++i) {
    if (op.waits[i] < 0 || op.waits[i] >= index) {
      errors.push_back(describe_op(index, op) + " waits for op " + std::to_string(op.waits[i]) +
                       "; an op waits for ops before it only");
    } else if (i > 0 && op.waits[i] <= op.waits[i - 1]) {
      errors.push_back(describe_op(index, op) + " lists its waits out of order or twice");
    }
  }
}

void check_lane(const Op& op, int index, std::vector<std::string>& errors) {
  if (lane_index(op) >= kNumLanes) {
    errors.push_back(describe_op(index, op) + " is on no lane; allowed: compute, comm");
  } else if (op.lane == Lane::comm && !is_exchange(op.phase)) {
    errors.push_back(describe_op(index, op) +
                     " is on the comm lane; only dispatch and combine may be");
  }
}

/// Every op of the model once and no other; waits backwards; lanes allowed. Fills the table.
void check_structure(const Schedule& schedule, OpTable& table, std::vector<std::string>& errors) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    const int index = static_cast<int>(i);
    if (!table.in_range(op) || table.at(layer_phase(op), op.ubatch) == OpTable::kNoSuchOp) {
      errors.push_back(describe_op(index, op) + " is not an op of this model");
    } else if (int& first = table.at(layer_phase(op), op.ubatch); first != OpTable::kMissing) {
      errors.push_back(describe_op(index, op) + " is there already as op " + std::to_string(first));
    } else {
      first = index;
    }
    check_waits(op, index, errors);
    check_lane(op, index, errors);
  }
  table.for_each([&errors](const LayerPhase& what, int ubatch, int index) {
    if (index == OpTable::kMissing) {
      const auto of = [](const char* name, int number) {
        return number < 0 ? "" : std::string(name) + std::to_string(number);
      };
      errors.push_back(std::string(to_string(what.phase)) + of(" of group ", what.group) +
                       of(" of layer ", what.layer) + " of ubatch " + std::to_string(ubatch) +
                       " is missing");
    }
  });
}

/// Requires a complete schedule. Buffers need no rule of their own: an exchange buffer of a ubatch
/// is in use from route (prepare) to the next attention or output (finish), and the data
/// dependencies order the next layer's route behind that attention.
void check_order(const Schedule& schedule, OpTable& table, std::vector<std::string>& errors) {
  const HappensBefore happens_before(schedule.ops);
  const auto require = [&](int before, int after, const std::string& why) {
    if (!happens_before(before, after)) {
      errors.push_back(
          describe_op(after, schedule.ops[static_cast<std::size_t>(after)]) + " can start before " +
          describe_op(before, schedule.ops[static_cast<std::size_t>(before)]) + " is done, " + why);
    }
  };
  table.for_each([&](const LayerPhase& what, int ubatch, int index) {
    for (const auto& needed : data_dependencies(schedule.layers, what, schedule.num_groups)) {
      require(table.at(needed, ubatch), index, "whose result it needs");
    }
    if (what.phase == Phase::attention && ubatch > 0) {
      require(table.at(what, ubatch - 1), index, "whose keys and values it may read");
    }
  });
  int last_exchange = -1;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (is_exchange(schedule.ops[i].phase)) {
      if (last_exchange >= 0) {
        require(last_exchange, static_cast<int>(i), "so ranks could exchange in different orders");
      }
      last_exchange = static_cast<int>(i);
    }
  }
}

}  // namespace

std::vector<std::string> schedule_errors(const Schedule& schedule) {
  std::vector<std::string> errors;
  if (schedule.num_ubatches < 1 || schedule.num_ubatches > kMaxUbatches) {
    errors.push_back("the schedule has " + counted(schedule.num_ubatches, "ubatch") +
                     "; allowed: 1 to " + std::to_string(kMaxUbatches));
    return errors;
  }
  if (schedule.num_groups < 1 || schedule.num_groups > kMaxGroups) {
    errors.push_back("the schedule cuts experts into " + counted(schedule.num_groups, "group") +
                     "; allowed: 1 to " + std::to_string(kMaxGroups));
    return errors;
  }
  OpTable table(schedule);
  check_structure(schedule, table, errors);
  if (errors.empty()) {
    check_order(schedule, table, errors);
  }
  return errors;
}

void check_schedule(const Schedule& schedule) {
  const auto errors = schedule_errors(schedule);
  if (errors.empty()) {
    return;
  }
  constexpr std::size_t shown = 5;
  std::string text = "schedule '" + printable(schedule.name) + "' is wrong";
  for (std::size_t i = 0; i < std::min(errors.size(), shown); ++i) {
    text += (i == 0 ? ": " : "; ") + errors[i];
  }
  if (errors.size() > shown) {
    text += "; and " + std::to_string(errors.size() - shown) + " more";
  }
  throw InputError(text);
}

std::uint64_t schedule_digest(const Schedule& schedule) {
  Fnv1a hash;
  const auto add = [&hash](auto number) { hash.add_number(static_cast<std::uint64_t>(number)); };
  add(schedule.name.size());
  for (const char c : schedule.name) {
    add(static_cast<signed char>(c));
  }
  add(schedule.num_ubatches);
  add(schedule.layers.size());
  for (const auto& layer : schedule.layers) {
    add((layer.is_moe ? 1 : 0) + (layer.has_shared_experts ? 2 : 0));
  }
  add(schedule.ops.size());
  for (const auto& op : schedule.ops) {
    add(op.layer);
    add(op.ubatch);
    add(op.phase);
    add(op.lane);
    add(op.waits.size());
    for (const int wait : op.waits) {
      add(wait);
    }
  }
  if (schedule.num_groups > 1) {  // others keep the number that they had before there were groups
    add(schedule.num_groups);
    for (const auto& op : schedule.ops) {
      add(op.group);
    }
  }
  return hash.value();
}

}  // namespace dovetail

#include "framework/plan/listed_ops.hpp"

namespace dovetail {

Lane default_lane(Phase phase) {
  return is_exchange(phase) ? Lane::comm : Lane::compute;
}

std::string name_of(Phase phase, int group) {
  return std::string(to_string(phase)) + (group == kNoGroup ? "" : " g" + std::to_string(group));
}

NamedPhase::NamedPhase(const std::string& text)
    : name(text.substr(0, text.find(' '))),
      group_text(name.size() == text.size() ? "" : text.substr(name.size() + 1)) {}

std::optional<Phase> NamedPhase::phase() const {
  return parse<Phase>(name);
}

std::optional<int> NamedPhase::group(int num_groups) const {
  for (int group = 0; group < num_groups; ++group) {
    if (group_text == "g" + std::to_string(group)) {
      return group;
    }
  }
  return std::nullopt;
}

std::vector<ListedOp> ops_of(const std::vector<StagePhase>& stage, int num_groups) {
  const auto is_all_of = [&](std::size_t item, Phase phase) {
    return item < stage.size() && stage[item].phase == to_string(phase);
  };
  std::vector<ListedOp> ops;
  for (std::size_t item = 0; item < stage.size(); ++item) {
    const NamedPhase named(stage[item].phase);
    const Phase phase = named.phase().value();
    if (!has_groups(phase)) {
      ops.push_back({item, phase});
    } else if (!named.group_text.empty()) {
      ops.push_back({item, phase, group_at(named.group(num_groups).value(), num_groups)});
    } else {
      const bool with_combine =
          is_all_of(item, Phase::experts) && is_all_of(item + 1, Phase::combine);
      for (int group = 0; group < num_groups; ++group) {
        ops.push_back({item, phase, group_at(group, num_groups)});
        if (with_combine) {
          ops.push_back({item + 1, Phase::combine, group_at(group, num_groups)});
        }
      }
      item += with_combine ? 1 : 0;
    }
  }
  return ops;
}

}  // namespace dovetail

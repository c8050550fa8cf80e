// Step bodies for tests: one that computes a result that depends on every order, and what tests
// need to make ops fail or hang.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail::testing {

/// Records when each op began and ended on one logical clock, and folds ops into values as a model
/// would: hidden state per ubatch, keys and values per layer, so that a violated order changes the
/// result. None of the values is atomic: ThreadSanitizer sees a missing happens-before.
class RecordingBody final : public StepBody {
 public:
  struct Record {
    Op op;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::thread::id thread;
  };

  explicit RecordingBody(const Schedule& schedule)
      : layers_(schedule.layers),
        num_groups_(schedule.num_groups),
        keys_(schedule.layers.size(), 1),
        shared_(schedule.layers.size() * kMaxUbatches, 0) {}

  std::function<void(const Op&)> hook;  ///< runs in the middle of each op; may throw

  void run(const Op& op) override {
    const std::uint64_t begin = clock_.fetch_add(1);
    if (hook) {
      hook(op);
    }
    work(op);
    const std::uint64_t end = clock_.fetch_add(1);
    auto& records = op.lane == Lane::comm ? comm_records_ : compute_records_;
    records.push_back({op, begin, end, std::this_thread::get_id()});
  }

  const std::vector<Record>& compute_records() const { return compute_records_; }

  const std::vector<Record>& comm_records() const { return comm_records_; }

  const std::array<std::uint64_t, kMaxUbatches>& result() const { return hidden_; }

 private:
  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    return (a ^ (b + 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;
  }

  /// What goes through dispatch, experts and combine of one group of a ubatch.
  struct Part {
    std::array<std::uint64_t, 3> values{};
  };

  using Parts = std::array<Part, kMaxGroups>;

  void work(const Op& op) {
    const auto ubatch = static_cast<std::size_t>(op.ubatch);
    auto& hidden = hidden_[ubatch];
    const auto tag =
        static_cast<std::uint64_t>(op.layer + 1) * 16 + static_cast<std::uint64_t>(op.phase);
    if (has_groups(op.phase)) {
      work_on_group(op, tag, parts_[ubatch]);
      return;
    }
    if (op.phase == Phase::attention || op.phase == Phase::output) {
      finish_layer(op.phase == Phase::output ? static_cast<int>(layers_.size()) - 1 : op.layer - 1,
                   ubatch);
    }
    if (op.layer == kNoLayer) {
      hidden = mix(hidden, tag);
      return;
    }
    const auto layer = static_cast<std::size_t>(op.layer);
    if (op.phase == Phase::attention) {
      keys_[layer] = mix(keys_[layer], hidden);
      hidden = mix(hidden, keys_[layer]);
    } else if (op.phase == Phase::shared_experts) {
      shared_[layer * kMaxUbatches + ubatch] = tag;
    } else {
      hidden = mix(hidden, tag);
    }
  }

  /// From what the phase before has made of this group, and this phase of the group before.
  void work_on_group(const Op& op, std::uint64_t tag, Parts& parts) const {
    const auto group = static_cast<std::size_t>(std::max(op.group, 0));
    const std::size_t at = op.phase == Phase::dispatch ? 0 : op.phase == Phase::experts ? 1 : 2;
    const auto& hidden = hidden_[static_cast<std::size_t>(op.ubatch)];
    auto& values = parts[group].values;
    values[at] = mix(at > 0 ? values[at - 1] : hidden, tag);
    if (group > 0) {
      values[at] = mix(values[at], parts[group - 1].values[at]);
    }
  }

  /// What the next op of the ubatch adds of a layer: the rows that came back, the shared experts.
  void finish_layer(int layer, std::size_t ubatch) {
    if (layer < 0 || !layers_[static_cast<std::size_t>(layer)].is_moe) {
      return;
    }
    const auto& last = parts_[ubatch][static_cast<std::size_t>(num_groups_ - 1)];
    hidden_[ubatch] = mix(hidden_[ubatch], last.values[2]);
    hidden_[ubatch] =
        mix(hidden_[ubatch], shared_[static_cast<std::size_t>(layer) * kMaxUbatches + ubatch]);
  }

  const std::vector<LayerShape> layers_;
  const int num_groups_;
  std::array<Parts, kMaxUbatches> parts_{};
  std::atomic<std::uint64_t> clock_{0};
  std::array<std::uint64_t, kMaxUbatches> hidden_{};
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> shared_;
  std::vector<Record> compute_records_;
  std::vector<Record> comm_records_;
};

}  // namespace dovetail::testing

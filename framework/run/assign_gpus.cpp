#include "framework/run/assign_gpus.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// Ranks and the cards that they take, by the augmenting paths of bipartite matching: an earlier
/// rank moves to another card where that lets a later one have its only one.
class Matching {
 public:
  explicit Matching(const std::vector<RankGpus>& ranks) : ranks_(ranks) {}

  /// False where no card can be found; the earlier ranks then keep theirs.
  bool place(std::size_t rank) {
    std::set<Card> tried;
    return place(rank, tried);
  }

  /// The rank that has this card; it has one.
  std::size_t holder(std::size_t seen_by, const std::string& uuid) const {
    return holders_.at(card_of(ranks_[seen_by], uuid));
  }

  std::vector<int> ordinals() const {
    std::vector<int> ordinals(ranks_.size(), -1);
    for (const auto& [card, rank] : holders_) {
      const auto& uuids = ranks_[rank].uuids;
      ordinals[rank] =
          static_cast<int>(std::find(uuids.begin(), uuids.end(), card.second) - uuids.begin());
    }
    return ordinals;
  }

 private:
  using Card = std::pair<std::string, std::string>;  // host, UUID

  /// Two hosts may give their cards the same names.
  static Card card_of(const RankGpus& rank, const std::string& uuid) { return {rank.host, uuid}; }

  bool place(std::size_t rank, std::set<Card>& tried) {
    const auto& own = ranks_[rank];
    for (const auto& uuid : own.uuids) {
      const Card card = card_of(own, uuid);
      if (holders_.count(card) == 0) {
        holders_[card] = rank;
        return true;
      }
    }
    for (const auto& uuid : own.uuids) {
      const Card card = card_of(own, uuid);
      if (tried.insert(card).second && place(holders_.at(card), tried)) {
        holders_[card] = rank;
        return true;
      }
    }
    return false;
  }

  const std::vector<RankGpus>& ranks_;
  std::map<Card, std::size_t> holders_;
};

std::string describe_rank(std::size_t rank, const RankGpus& gpus) {
  return "rank " + std::to_string(rank) + " on host " + gpus.host;
}

std::string describe_holders(const Matching& matching,
                             const std::vector<RankGpus>& ranks,
                             std::size_t rank) {
  const RankGpus& own = ranks[rank];
  if (own.uuids.empty()) {
    return describe_rank(rank, own) + " sees no GPU" +
           (own.why_none.empty() ? "" : " (" + own.why_none + ")");
  }
  std::set<std::size_t> holders;
  for (const auto& uuid : own.uuids) {
    holders.insert(matching.holder(rank, uuid));
  }
  std::vector<std::string> names;
  names.reserve(holders.size());
  for (const auto holder : holders) {
    names.push_back(std::to_string(holder));
  }
  return describe_rank(rank, own) + " sees " + counted(std::ssize(own.uuids), "GPU") +
         (names.size() == 1 ? ", which rank " : ", which ranks ") + join_names(names) +
         (names.size() == 1 ? " holds" : " hold");
}

}  // namespace

GpuAssignment assign_gpus(const std::vector<RankGpus>& ranks) {
  Matching matching(ranks);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].slice.empty()) {
      return {{},
              describe_rank(rank, ranks[rank]) + " sees " + ranks[rank].slice +
                  ", a part of a card (MIG), and NCCL joins whole cards only"};
    }
    if (!matching.place(rank)) {
      return {{}, describe_holders(matching, ranks, rank)};
    }
  }
  return {matching.ordinals(), ""};
}

std::string why_no_gpu(const char* visible_devices, const std::string& cuda_problem) {
  if (visible_devices != nullptr) {
    return "CUDA_VISIBLE_DEVICES is '" + printable(visible_devices) + "'" +
           (cuda_problem.empty() ? "" : "; " + cuda_problem);
  }
  return cuda_problem;
}

std::optional<std::string> why_on_cpu(const CpuChoice& choice) {
  if (!choice.any_visible && choice.num_installed == 0) {
    return std::nullopt;
  }
  const auto& reason = choice.needs_cpu.empty() ? choice.problem : choice.needs_cpu;
  return "execution.device: auto takes the CPU, and GPUs stay idle: " + reason;
}

}  // namespace dovetail

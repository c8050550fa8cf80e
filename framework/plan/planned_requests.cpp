#include "framework/plan/planned_requests.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numbers>
#include <set>
#include <tuple>
#include <variant>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

constexpr std::uint64_t kLengthStream =
    0x6c656e67746873;             // "lengths": apart from the seed's other uses
constexpr double kLongest = 1e9;  // as in experiment files

/// In (0, 1), from the upper 53 bits.
double unit_number(std::uint64_t hash) {
  return (static_cast<double>(hash >> 11U) + 0.5) * 0x1p-53;
}

/// Standard normal by (seed, id): Box and Muller, "A note on the generation of random normal
/// deviates", 1958.
double normal_number(std::uint64_t seed, std::int64_t id) {
  const std::uint64_t of_request =
      combine_hash(combine_hash(mix_bits(kLengthStream), seed), static_cast<std::uint64_t>(id));
  const double radius = std::sqrt(-2.0 * std::log(unit_number(combine_hash(of_request, 0))));
  return radius * std::cos(2.0 * std::numbers::pi * unit_number(combine_hash(of_request, 1)));
}

std::int64_t lognormal_length(const LognormalRequests& requests,
                              std::uint64_t seed,
                              std::int64_t id) {
  const double most = requests.max_length > 0 ? static_cast<double>(requests.max_length) : kLongest;
  const double length = requests.median * std::exp(requests.sigma * normal_number(seed, id));
  return std::llround(std::clamp(length, 1.0, most));
}

double scale_of(const WorkloadConfig& config, int rank) {
  return config.rank_scale.empty() ? 1.0 : config.rank_scale.at(static_cast<std::size_t>(rank));
}

[[noreturn]] void fail_count() {
  throw InputError("workload.requests: more requests than fit over all ranks; allowed: " +
                   std::to_string(kMaxRequests));
}

/// Length and context length of requests, by kind of group.
struct FillLengths {
  const WorkloadConfig& config;
  std::int64_t index;  ///< within the group
  PlannedRequest& request;

  void operator()(const UniformRequests& group) const {
    request.length = group.length;
    request.context_length = group.context_length;
  }

  void operator()(const RequestLengths& group) const {
    const auto place = static_cast<std::size_t>(index) % group.lengths.size();
    request.length = group.lengths[place];
    request.context_length = group.context_lengths.empty() ? 0 : group.context_lengths.at(place);
  }

  void operator()(const LognormalRequests& group) const {
    const std::int64_t drawn = lognormal_length(group, config.seed, request.id);
    const bool of_contexts = config.phase == WorkPhase::decode;
    request.length = of_contexts ? 1 : drawn;
    request.context_length = of_contexts ? drawn : group.context_length;
  }

  void operator()(const RequestFile& /*group*/) const {
    DOVETAIL_CHECK(false, "a file of requests among groups");
  }
};

struct CountPerRank {
  std::int64_t operator()(const UniformRequests& group) const { return group.count; }

  std::int64_t operator()(const RequestLengths& group) const { return std::ssize(group.lengths); }

  std::int64_t operator()(const LognormalRequests& group) const { return group.count; }

  std::int64_t operator()(const RequestFile& /*group*/) const { return 0; }
};

void append_group(const WorkloadConfig& config,
                  const RequestGroup& group,
                  int world_size,
                  std::vector<PlannedRequest>& requests) {
  const auto per_rank = static_cast<double>(std::visit(CountPerRank{}, group));
  std::vector<std::int64_t> counts;
  std::int64_t room = kMaxRequests - std::ssize(requests);
  for (int rank = 0; rank < world_size; ++rank) {
    counts.push_back(std::llround(per_rank * scale_of(config, rank)));
    room -= counts.back();
    if (room < 0) {
      fail_count();
    }
  }
  std::int64_t index = 0;
  for (int rank = 0; rank < world_size; ++rank) {
    for (std::int64_t left = counts[static_cast<std::size_t>(rank)]; left > 0; --left, ++index) {
      PlannedRequest request{.id = std::ssize(requests), .rank = rank};
      std::visit(FillLengths{config, index, request}, group);
      requests.push_back(request);
    }
  }
}

/// What requests bring to a rank.
struct Tokens {
  std::int64_t step = 0;
  std::int64_t context = 0;

  friend Tokens operator+(const Tokens& a, const Tokens& b) {
    return {a.step + b.step, a.context + b.context};
  }
};

/// A line of a decode phase may give the tokens of several steps, of which each computes one.
Tokens tokens_of(WorkPhase phase, const TraceRequest& line) {
  const bool is_one = phase == WorkPhase::decode || line.length == 0;
  return {is_one ? 1 : line.length, line.context_length};
}

/// Ranks by what they hold so far; finds the one that takes the next request in log n steps.
class RankLoads {
 public:
  RankLoads(const WorkloadConfig& config, int world_size)
      : assigned_(static_cast<std::size_t>(world_size)) {
    for (int rank = 0; rank < world_size; ++rank) {
      scales_.push_back(scale_of(config, rank));
      if (scales_.back() > 0.0) {
        by_scale_[scales_.back()].insert({0, 0, rank});
      }
    }
  }

  void add(int rank, const Tokens& tokens) {
    const auto place = static_cast<std::size_t>(rank);
    const auto before = assigned_[place];
    assigned_[place] = before + tokens;
    if (scales_[place] > 0.0) {
      auto& alike = by_scale_.at(scales_[place]);
      alike.erase({before.step, before.context, rank});
      alike.insert({assigned_[place].step, assigned_[place].context, rank});
    }
  }

  /// The rank that would have the fewest tokens in a step for its scale; of such ranks the one with
  /// the shortest contexts, then the first. -1 where every scale is 0.
  int least_loaded_with(const Tokens& tokens) const {
    std::tuple<double, double, int> least = {0, 0, -1};
    for (const auto& [scale, alike] : by_scale_) {
      const auto& [step, context, rank] = *alike.begin();
      const std::tuple load = {static_cast<double>(step + tokens.step) / scale,
                               static_cast<double>(context + tokens.context) / scale,
                               rank};
      if (std::get<int>(least) < 0 || load < least) {
        least = load;
      }
    }
    return std::get<int>(least);
  }

 private:
  std::vector<double> scales_;    ///< by rank
  std::vector<Tokens> assigned_;  ///< so far, by rank
  /// Tokens of a step, of contexts, rank: of ranks of one scale the first is the least loaded.
  std::map<double, std::set<std::tuple<std::int64_t, std::int64_t, int>>> by_scale_;
};

/// The requests of a trace, one after the other.
class TracePlan {
 public:
  TracePlan(const WorkloadConfig& config, const RequestTrace& trace, int world_size)
      : config_(config), trace_(trace), world_size_(world_size), loads_(config, world_size) {}

  PlannedRequest next(const TraceRequest& line) {
    check(line);
    const int rank =
        line.rank ? *line.rank : loads_.least_loaded_with(tokens_of(config_.phase, line));
    if (rank < 0) {
      fail(line, "no rank takes it: every workload.rank_scale is 0; allowed: one above 0");
    }
    loads_.add(rank, tokens_of(config_.phase, line));
    return {.rank = rank,
            .length = tokens_of(config_.phase, line).step,
            .context_length = line.context_length,
            .trace = &line};
  }

 private:
  [[noreturn]] void fail(const TraceRequest& line, const std::string& message) const {
    throw InputError(trace_.file, line.line, 0, message);
  }

  void check(const TraceRequest& line) const {
    const bool has_ids = !line.input_ids.empty();
    if (config_.phase == WorkPhase::decode && line.length > (has_ids ? config_.steps : 1)) {
      fail(line,
           counted(line.length, "token") +
               " in the phase decode; allowed: a length of 1, or none, " +
               "or input_ids of at most workload.steps = " + std::to_string(config_.steps));
    }
    if (config_.phase != WorkPhase::decode && line.length == 0) {
      fail(line,
           "neither length nor input_ids; allowed in the phase " +
               std::string(to_string(config_.phase)) + ": one of them");
    }
    if (config_.inputs.kind != InputKind::ids && !line.input_ids.empty()) {
      fail(line,
           "input_ids with workload.inputs " + std::string(to_string(config_.inputs.kind)) +
               "; allowed: length");
    }
    if (!line.context_ids.empty() &&
        (config_.inputs.kind != InputKind::ids || config_.context == ContextFill::random)) {
      fail(line,
           "context_ids without forward passes from tokens to a context; allowed: context_length, "
           "or workload.inputs ids and workload.context prefill");
    }
    if (config_.inputs.kind == InputKind::hidden && config_.context == ContextFill::prefill &&
        line.context_length > 0) {
      fail(line,
           "a context_length with workload.inputs hidden; allowed: 0, or workload.context random");
    }
    if (line.rank && *line.rank >= world_size_) {
      fail(line,
           "rank " + std::to_string(*line.rank) + " in a world of " + std::to_string(world_size_) +
               "; allowed: 0 to " + std::to_string(world_size_ - 1));
    }
  }

  const WorkloadConfig& config_;
  const RequestTrace& trace_;
  int world_size_;
  RankLoads loads_;
};

}  // namespace

std::vector<PlannedRequest> plan_requests(const WorkloadConfig& config,
                                          const RequestTrace* trace,
                                          int world_size) {
  DOVETAIL_CHECK(world_size > 0, "no ranks");
  DOVETAIL_CHECK(!config.requests.empty(), "no group of requests");
  const bool is_file = std::holds_alternative<RequestFile>(config.requests.front());
  DOVETAIL_CHECK_EQ(is_file, trace != nullptr);
  if (!config.rank_scale.empty() && std::ssize(config.rank_scale) < world_size) {
    throw InputError("workload.rank_scale: " + counted(std::ssize(config.rank_scale), "value") +
                     " for a world of " + counted(world_size, "rank") +
                     "; allowed: one a rank, or none for 1 everywhere");
  }
  std::vector<PlannedRequest> requests;
  if (is_file) {
    if (std::ssize(trace->requests) > kMaxRequests) {
      fail_count();
    }
    TracePlan plan(config, *trace, world_size);
    for (const TraceRequest& line : trace->requests) {
      requests.push_back(plan.next(line));
      requests.back().id = std::ssize(requests) - 1;
    }
    return requests;
  }
  for (const RequestGroup& group : config.requests) {
    append_group(config, group, world_size, requests);
  }
  if (requests.empty()) {
    throw InputError(
        "workload.rank_scale: no rank has a request; allowed: factors that leave at least one");
  }
  return requests;
}

}  // namespace dovetail

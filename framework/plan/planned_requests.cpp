#include "framework/plan/planned_requests.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <utility>
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

Tokens tokens_of(const TraceRequest& line) {
  return {std::max<std::int64_t>(1, line.length), line.context_length};
}

/// The requests of a trace, one after the other.
class TracePlan {
 public:
  TracePlan(const WorkloadConfig& config, const RequestTrace& trace, int world_size)
      : config_(config), trace_(trace), assigned_(static_cast<std::size_t>(world_size)) {}

  PlannedRequest next(const TraceRequest& line) {
    check(line);
    const int rank = line.rank ? *line.rank : least_loaded(line);
    auto& assigned = assigned_[static_cast<std::size_t>(rank)];
    assigned = assigned + tokens_of(line);
    return {.rank = rank,
            .length = tokens_of(line).step,
            .context_length = line.context_length,
            .trace = &line};
  }

 private:
  [[noreturn]] void fail(const TraceRequest& line, const std::string& message) const {
    throw InputError(trace_.file, line.line, 0, message);
  }

  void check(const TraceRequest& line) const {
    if (config_.phase == WorkPhase::decode && line.length > 1) {
      fail(line,
           counted(line.length, "token") + " in the phase decode; allowed: a length of 1, or none");
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
    if (line.rank && *line.rank >= std::ssize(assigned_)) {
      fail(line,
           "rank " + std::to_string(*line.rank) + " in a world of " +
               std::to_string(assigned_.size()) + "; allowed: 0 to " +
               std::to_string(assigned_.size() - 1));
    }
  }

  /// The rank that would have the fewest tokens in a step for its scale; of such ranks the one with
  /// the shortest contexts, then the first.
  int least_loaded(const TraceRequest& line) const {
    int best = -1;
    std::pair<double, double> least;
    for (int rank = 0; rank < static_cast<int>(assigned_.size()); ++rank) {
      const double scale = scale_of(config_, rank);
      if (scale <= 0.0) {
        continue;
      }
      const auto with_line = assigned_[static_cast<std::size_t>(rank)] + tokens_of(line);
      const std::pair load = {static_cast<double>(with_line.step) / scale,
                              static_cast<double>(with_line.context) / scale};
      if (best < 0 || load < least) {
        best = rank;
        least = load;
      }
    }
    if (best < 0) {
      fail(line, "no rank takes it: every workload.rank_scale is 0; allowed: one above 0");
    }
    return best;
  }

  const WorkloadConfig& config_;
  const RequestTrace& trace_;
  std::vector<Tokens> assigned_;  ///< so far, by rank
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

#include "framework/plan/workload.hpp"

#include <cmath>
#include <iterator>
#include <variant>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

std::uint64_t token_hash(std::uint64_t seed, std::int64_t request, std::int64_t position) {
  const auto with_request = combine_hash(mix_bits(seed), static_cast<std::uint64_t>(request));
  return combine_hash(with_request, static_cast<std::uint64_t>(position));
}

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};

template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

std::int64_t refuse_requests() {
  throw InputError("workload.requests: only {count, length} and {lengths} are built yet");
}

std::int64_t request_length(const WorkloadConfig& config, std::int64_t id) {
  return std::visit(Overloaded{[](const UniformRequests& requests) { return requests.length; },
                               [id](const RequestLengths& requests) {
                                 return requests.lengths.at(static_cast<std::size_t>(id) %
                                                            requests.lengths.size());
                               },
                               [](const auto&) -> std::int64_t { return refuse_requests(); }},
                    config.requests.front());
}

}  // namespace

std::vector<std::int64_t> requests_per_rank(const WorkloadConfig& config, int world_size) {
  const auto per_rank = std::visit(
      Overloaded{[](const UniformRequests& requests) { return requests.count; },
                 [](const RequestLengths& requests) { return std::ssize(requests.lengths); },
                 [](const auto&) -> std::int64_t { return refuse_requests(); }},
      config.requests.front());
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < world_size; ++rank) {
    const double scale =
        config.rank_scale.empty() ? 1.0 : config.rank_scale.at(static_cast<std::size_t>(rank));
    counts.push_back(std::llround(static_cast<double>(per_rank) * scale));
  }
  return counts;
}

RankWorkload make_workload(const WorkloadConfig& config,
                           std::int64_t vocabulary,
                           int world_size,
                           Rank rank) {
  DOVETAIL_CHECK(vocabulary > 0, "empty vocabulary");
  const auto counts = requests_per_rank(config, world_size);
  std::int64_t first_id = 0;
  for (int lower = 0; lower < rank.value; ++lower) {
    first_id += counts[static_cast<std::size_t>(lower)];
  }
  RankWorkload workload;
  for (std::int64_t i = 0; i < counts[static_cast<std::size_t>(rank.value)]; ++i) {
    const std::int64_t id = first_id + i;
    const std::int64_t length = request_length(config, id);
    workload.batch.requests.push_back({.id = id, .query_length = length, .context_length = 0});
    for (std::int64_t position = 0; position < length; ++position) {
      const auto token = static_cast<std::int64_t>(token_hash(config.seed, id, position) %
                                                   static_cast<std::uint64_t>(vocabulary));
      workload.input_ids.push_back(token);
      workload.positions.push_back(position);
      workload.request_ids.push_back(id);
      workload.digest +=
          combine_hash(token_hash(0, id, position), static_cast<std::uint64_t>(token));
    }
  }
  return workload;
}

}  // namespace dovetail

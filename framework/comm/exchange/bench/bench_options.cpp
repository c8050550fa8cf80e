#include "framework/comm/exchange/bench/bench_options.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/base/types.hpp"
#include "framework/comm/exchange/bench/bench_routing.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

ExchangeBenchOptions with_defaults(const ExchangeBenchOptions& options,
                                   const MpiSession& session,
                                   const WaitPolicy& wait) {
  auto made = options;
  if (made.device == DeviceKind::automatic) {
    std::int64_t enough[] = {std::ssize(visible_gpus()) >= session.local_size() ? 1 : 0};
    all_reduce(session.world(), enough, Reduction::min, wait);
    made.device = enough[0] == 1 ? DeviceKind::cuda : DeviceKind::cpu;
  }
  const bool on_gpu = made.device == DeviceKind::cuda;
  if (made.exchanges.empty()) {
    for (const auto& row : exchange_table()) {
      if (on_gpu ? row.on_gpu.has_value() : row.on_host.has_value()) {
        made.exchanges.push_back(row.name);
      }
    }
  }
  const auto or_default = [](auto& list, decltype(list) values) {
    if (list.empty()) {
      list = values;
    }
  };
  std::vector<std::int64_t> tokens = on_gpu ? std::vector<std::int64_t>{1, 32, 128, 512, 2048, 8192}
                                            : std::vector<std::int64_t>{1, 32, 128, 512, 2048};
  std::vector<int> comm_sms = {on_gpu ? 8 : 0};
  std::vector<int> groups = {1};
  std::vector<std::string> routings = {"balanced"};
  or_default(made.tokens, tokens);
  or_default(made.comm_sms, comm_sms);
  or_default(made.groups, groups);
  or_default(made.routings, routings);
  made.hidden = made.hidden > 0 ? made.hidden : on_gpu ? 7168 : 512;
  made.num_experts = made.num_experts > 0 ? made.num_experts : on_gpu ? 256 : 64;
  return made;
}

void require(bool holds, const std::string& what) {
  if (!holds) {
    throw InputError("bench exchange: " + what);
  }
}

/// Without names those that cannot cut are left out.
void check_groups_of(const ExchangeBenchOptions& options, bool names_exchanges, int num_ranks) {
  const int experts_per_rank = options.num_experts / num_ranks;
  for (const int groups : options.groups) {
    require(groups >= 1 && groups <= kMaxGroups,
            "groups; allowed: 1 to " + std::to_string(kMaxGroups));
    require(groups <= experts_per_rank,
            counted(groups, "group") + " of the " + counted(experts_per_rank, "expert") +
                " of a rank; allowed: at most one group an expert");
    for (const auto& name : options.exchanges) {
      if (names_exchanges) {
        check_groups(name, options.device == DeviceKind::cuda, groups, experts_per_rank);
      }
    }
  }
}

void check_options(const ExchangeBenchOptions& options, bool names_exchanges, int num_ranks) {
  const bool on_gpu = options.device == DeviceKind::cuda;
  for (const auto& name : options.exchanges) {
    require(name != "auto", "auto is no exchange of its own");
    choose_exchange(name, on_gpu);
    check_top_k(name, on_gpu, options.top_k);
  }
  for (const auto& name : options.routings) {
    bench_routing(name);
  }
  for (const auto tokens : options.tokens) {
    require(tokens >= 1 && tokens <= 1 << 20, "tokens; allowed: 1 to 1048576");
  }
  for (const int comm_sms : options.comm_sms) {
    require(!on_gpu || (comm_sms >= 1 && comm_sms <= 64 &&
                        std::has_single_bit(static_cast<unsigned>(comm_sms))),
            "comm SMs; allowed: 1, 2, 4, 8, 16, 32, 64");
  }
  require(options.hidden >= 1 && options.hidden <= 1 << 16, "hidden; allowed: 1 to 65536");
  check_experts("bench exchange", options, num_ranks);
  check_groups_of(options, names_exchanges, num_ranks);
}

}  // namespace

void check_experts(const std::string& bench, const ExchangeBenchOptions& options, int num_ranks) {
  if (options.num_experts % num_ranks != 0) {
    throw InputError(bench + ": " + std::to_string(options.num_experts) + " experts over " +
                     std::to_string(num_ranks) + " ranks; allowed: a multiple of the ranks");
  }
  if (options.top_k < 1 || options.top_k > std::min(16, options.num_experts)) {
    throw InputError(bench + ": top k; allowed: 1 to 16, at most the number of experts");
  }
}

ExchangeBenchOptions resolve_options(const ExchangeBenchOptions& options,
                                     const MpiSession& session,
                                     const WaitPolicy& wait) {
  auto made = with_defaults(options, session, wait);
  check_options(made, !options.exchanges.empty(), session.world_size());
  return made;
}

}  // namespace dovetail

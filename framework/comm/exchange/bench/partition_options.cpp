#include <algorithm>
#include <bit>
#include <iterator>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/bench/partition_bench.hpp"

namespace dovetail {

ExchangeBenchOptions resolve_partition_options(const ExchangeBenchOptions& options, int num_ranks) {
  auto made = options;
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) {
      throw InputError("bench partition: " + what);
    }
  };
  require(made.device != DeviceKind::cpu,
          "device cpu; allowed: auto, cuda: CPU ranks have no SMs to share out");
  require(made.routings.empty(), "routings; the routing is balanced");
  require(made.groups.empty(), "groups; the experts are not cut");
  require(std::ssize(made.exchanges) <= 1 &&
              (made.exchanges.empty() || made.exchanges.front() != "ragged"),
          "exchanges; allowed: one that a graph can capture whole");
  made.device = DeviceKind::cuda;
  made.tokens.resize(std::max<std::size_t>(made.tokens.size(), 1), 4096);
  require(made.tokens.size() == 1 && made.tokens[0] >= 1 && made.tokens[0] <= 1 << 16,
          "tokens; allowed: one number from 1 to 65536");
  if (made.comm_sms.empty()) {
    made.comm_sms = {0, 4, 8, 16, 32};
  }
  for (const int comm_sms : made.comm_sms) {
    require(comm_sms == 0 || (comm_sms >= 1 && comm_sms <= 64 &&
                              std::has_single_bit(static_cast<unsigned>(comm_sms))),
            "comm SMs; allowed: 0 (no bound), 1, 2, 4, 8, 16, 32, 64");
  }
  // What all others are held against.
  std::erase(made.comm_sms, 0);
  made.comm_sms.insert(made.comm_sms.begin(), 0);
  made.hidden = made.hidden > 0 ? made.hidden : 7168;
  made.num_experts = made.num_experts > 0 ? made.num_experts : 256;
  require(made.hidden >= 8 && made.hidden <= 1 << 16, "hidden; allowed: 8 to 65536");
  check_experts("bench partition", made, num_ranks);
  return made;
}

}  // namespace dovetail

#include "framework/compare/near_exchange.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dovetail {
std::vector<NearExchange> near_exchange(const std::vector<bool>& is_exchange,
                                        const std::vector<Interval>& ops) {
  std::vector<std::size_t> compute;
  std::vector<Interval> exchanges;
  std::vector<std::int64_t> ends;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ran(ops[i]) && is_exchange[i]) {
      exchanges.push_back(ops[i]);
      ends.push_back(ops[i].end_ns);
    } else if (ran(ops[i])) {
      compute.push_back(i);
    }
  }
  std::stable_sort(compute.begin(), compute.end(), [&](std::size_t one, std::size_t other) {
    return ops[one].start_ns < ops[other].start_ns;
  });
  std::sort(ends.begin(), ends.end());
  const IntervalSet exchange(std::move(exchanges));

  std::vector<NearExchange> near(ops.size(), NearExchange::no);
  std::int64_t before_ns = -1;
  for (const std::size_t i : compute) {
    const auto& op = ops[i];
    const auto ended = std::upper_bound(ends.begin(), ends.end(), before_ns);
    if (IntervalSet({op}).intersected(exchange).length_ns() > 0) {
      near[i] = NearExchange::beside;
    } else if (ended != ends.end() && *ended <= op.start_ns) {
      near[i] = NearExchange::after;
    }
    before_ns = op.start_ns;
  }
  return near;
}

}  // namespace dovetail

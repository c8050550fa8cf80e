#include "framework/comm/exchange/nccl/device_exchanges.hpp"

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange.hpp"

namespace dovetail {
namespace {

BlockKind kind_of(const std::string& name) {
  const auto chosen = choose_exchange(name, /*on_gpu=*/true).name;
  return chosen == "gather"   ? BlockKind::gather
         : chosen == "ragged" ? BlockKind::ragged
                              : BlockKind::padded;
}

}  // namespace

std::unique_ptr<Exchange> make_device_exchange(const std::string& kind,
                                               const ExchangeShape& shape,
                                               const DeviceExchangeSetting& setting) {
  return std::make_unique<NcclExchange>(kind_of(kind), shape, setting);
}

std::int64_t device_exchange_buffer_bytes(const std::string& kind,
                                          const ExchangeShape& shape,
                                          std::int64_t max_tokens,
                                          double padded_capacity) {
  const auto row_bytes = shape.hidden * static_cast<std::int64_t>(c10::elementSize(shape.dtype));
  return shape.num_ubatches * exchange_sizes(kind_of(kind),
                                             shape.ep_size,
                                             shape.num_experts,
                                             shape.top_k,
                                             row_bytes,
                                             max_tokens,
                                             padded_capacity)
                                  .total_bytes;
}

}  // namespace dovetail

// The exchanges, one row each: all that the program knows of them by name.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/exchange_setting.hpp"

namespace dovetail {

/// A back end on one kind of device.
struct ExchangeSide {
  /// Local. On a GPU: on the current device. Throws ContractError for a shape or setting that does
  /// not fit, InputError in a build that cannot.
  std::function<std::unique_ptr<Exchange>(const ExchangeShape& shape,
                                          const ExchangeSetting& setting)>
      make;

  /// Bytes that the buffers of one rank can grow to, over all ubatches, in the worst routing:
  /// `max_tokens` bounds the tokens of any one ubatch on any rank. Local, pure.
  std::function<std::int64_t(
      const ExchangeShape& shape, std::int64_t max_tokens, double padded_capacity)>
      buffer_bytes;

  /// Rows of the memory that what the experts of the groups 0 to `last_group` of a ubatch return
  /// takes, in the worst routing. Local, pure.
  std::function<std::int64_t(const ExchangeShape& shape,
                             std::int64_t max_tokens,
                             double padded_capacity,
                             int num_groups,
                             int last_group)>
      output_rows;

  int max_top_k = std::numeric_limits<int>::max();  ///< experts that a token may have
  int max_groups = 1;                               ///< into which it can cut the experts of a rank
};

struct ExchangeRow {
  std::string name;     ///< as in `execution.exchange`
  std::string summary;  ///< one line for people

  // The same in every build: one without CUDA knows what GPUs could run, and refuses to make it.
  std::optional<ExchangeSide> on_host;
  std::optional<ExchangeSide> on_gpu;

  GraphMode max_graph = GraphMode::none;  ///< on GPUs: how much of a step can be captured

  bool shares_memory = false;  ///< needs GPUs that reach each other's memory

  // Why `auto` takes it there; empty = it does not. It takes the last row that fits; one row for
  // each kind of device has a reason and needs nothing.
  std::string auto_on_host;
  std::string auto_on_gpu;

  /// False for what the design names and no one has built: it is refused by name.
  bool is_built() const { return on_host || on_gpu; }
};

/// In order of the design.
const std::vector<ExchangeRow>& exchange_table();

/// Its row of that name; null where there is none, as for `auto` and files of times.
const ExchangeRow* find_exchange(std::string_view name);

}  // namespace dovetail

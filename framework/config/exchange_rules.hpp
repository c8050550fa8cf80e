// What `execution.exchange` may be besides a name, and `execution.exchange_table`.
#pragma once

#include <string_view>

namespace dovetail {

/// True for the path of a table of times, by which an exchange is chosen.
inline bool is_exchange_table(std::string_view exchange) {
  return exchange.ends_with(".json");
}

}  // namespace dovetail

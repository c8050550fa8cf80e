#include "framework/plan/batch.hpp"

namespace dovetail {

std::int64_t Batch::num_tokens() const {
  std::int64_t tokens = 0;
  for (const auto& request : requests) {
    tokens += request.query_length;
  }
  return tokens;
}

}  // namespace dovetail

#include "framework/plan/graph_key.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <sstream>

#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {
namespace {

std::uint64_t hash_bounds(std::uint64_t hash, const StepBounds& bounds) {
  hash = combine_hash(hash, static_cast<std::uint64_t>(bounds.num_ubatches));
  for (const auto* each : {&bounds.tokens, &bounds.segments, &bounds.keys, &bounds.context}) {
    for (const std::int64_t value : *each) {
      hash = combine_hash(hash, static_cast<std::uint64_t>(value));
    }
  }
  hash = combine_hash(hash, static_cast<std::uint64_t>(bounds.query_length));
  return combine_hash(hash, static_cast<std::uint64_t>(bounds.key_length));
}

/// "512+256", one number an ubatch.
std::string per_ubatch(const std::array<std::int64_t, kMaxUbatches>& values, int num_ubatches) {
  std::string text;
  const auto used = std::span(values).first(static_cast<std::size_t>(num_ubatches));
  for (const std::int64_t value : used) {
    text += (text.empty() ? "" : "+") + std::to_string(value);
  }
  return text;
}

}  // namespace

std::uint64_t digest(const GraphKey& key) {
  std::uint64_t hash = combine_hash(0, static_cast<std::uint64_t>(key.mode));
  hash = combine_hash(hash, key.schedule_digest);
  hash = combine_hash(hash, static_cast<std::uint64_t>(key.phase));
  hash = hash_bounds(hash, key.bounds);
  hash = combine_hash(hash, static_cast<std::uint64_t>(key.inputs));
  hash = combine_hash(hash, static_cast<std::uint64_t>(key.dtype));
  hash = combine_hash_bytes(combine_hash(hash, key.exchange.size()), key.exchange);
  hash = combine_hash(hash, static_cast<std::uint64_t>(key.comm_sms));
  hash = combine_hash(hash, key.outputs);
  hash = combine_hash(hash, static_cast<std::uint64_t>(key.pass));
  return combine_hash(hash, key.instrumented ? 1 : 0);
}

std::string describe(const GraphKey& key) {
  const StepBounds& bounds = key.bounds;
  std::ostringstream text;
  text << to_string(key.mode) << " graph of " << to_string(key.phase) << ", "
       << counted(bounds.num_ubatches, "ubatch") << " of "
       << per_ubatch(bounds.tokens, bounds.num_ubatches) << " tokens, "
       << per_ubatch(bounds.segments, bounds.num_ubatches) << " segments, "
       << per_ubatch(bounds.keys, bounds.num_ubatches) << " keys, contexts "
       << per_ubatch(bounds.context, bounds.num_ubatches) << ", query length "
       << bounds.query_length << ", key length " << bounds.key_length << ", "
       << to_string(key.inputs) << ", " << to_string(key.dtype) << ", exchange " << key.exchange
       << " on " << describe_comm_sms(key.comm_sms) << " SMs, outputs 0x" << std::hex << key.outputs
       << ", schedule 0x" << key.schedule_digest << std::dec << ", pass " << to_string(key.pass)
       << (key.instrumented ? ", instrumented" : "");
  return text.str();
}

}  // namespace dovetail
